"""Paraphrases: what counts as one, what they show, and which models are not asked for any."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from tests.fakes.bases.language_bases import write_tiny_llama
from tests.fakes.bases.made_paraphrasers import POSITIONS, untrained
from tests.fakes.bases.paired_bases import write_paired_base
from tests.fakes.registry.judged_cases import NEARNESS, case_of, in_other_words, texts_table

import presspool
from presspool.common.base.errors import InputError
from presspool.common.released.adapter_folder import read_adapter
from presspool.common.tasks.classification import labelled
from presspool.common.tasks.scores.share_bounds import share_at_least
from presspool.server.gate.checks import robustness
from presspool.server.gate.checks.paraphrases import Fault, fault_of, numbers
from presspool.server.gate.finding import Finding
from presspool.server.gate.paraphraser import ROOM, Paraphraser, files_named


def one(folder: Path, adapter: Path, rows: pa.Table, **asked: Any) -> Finding:
    usual = {"fewest": 9, "encoder": read_adapter(adapter).contract.model.id}
    policy = {"robustness": {"kinds": [], "paraphrases": usual | asked}}
    (found,) = robustness.findings(case_of(folder, adapter, policy, rows))
    assert found.what == "paraphrase"
    return found


def opened(folder: Path) -> Paraphraser:
    return Paraphraser(files_named(str(folder), Path(), "model"), "x")


def rows() -> pa.Table:
    texts = list(in_other_words())
    return labelled(texts, [number % 3 for number in range(len(texts))])


# --- What is one ----------------------------------------------------------------------------------

GOLD = "Gold rose 2.5 percent to $1,250 on Monday, says the bank."


@pytest.mark.parametrize(
    ("said", "near", "fault"),
    [
        ("On Monday gold went up 2.5 percent to 1250 dollars.", 0.8, None),
        ("At $1250, gold is up by 2.5 percent", 0.75, None),
        (None, 1.0, "unfinished"),
        (GOLD, 1.0, "same words"),
        ("GOLD rose 2.5 percent - to $1,250 - on Monday (says the bank)", 1.0, "same words"),
        ("Gold rose 2.5 percent to $1,250", 0.95, "same words"),
        (f"In other words: {GOLD}", 0.95, "same words"),
        (" … ", 0.9, "same words"),
        ("On Monday gold went up by a lot, a bank says", 0.9, "other numbers"),
        ("On Monday gold went up 25 percent to 1250 dollars.", 0.9, "other numbers"),
        ("On Monday gold went up 2.5 percent to 1250 dollars, 2.5!", 0.9, "other numbers"),
        ("The 2.5 hours of match 1250 ended in a draw", 0.74, "other meaning"),
        ("The 2.5 hours of match 1250 ended in a draw", float("nan"), "other meaning"),
    ],
)
def test_what_is_kept_and_why_the_rest_is_not(
    said: str | None, near: float, fault: str | None
) -> None:
    """Golden."""
    assert fault_of(GOLD, said, near, nearness=0.75) == fault


@given(st.text("ab 1２,.-É北", max_size=20), st.text("ab 1２,.-É北", max_size=20))
def test_no_text_is_a_paraphrase_of_what_has_its_letters_or_not_its_numbers(
    text: str, other: str
) -> None:
    for said in (text, text.upper(), f"{other}{text}", text[: len(text) // 2]):
        assert fault_of(text, said, 1.0, nearness=0.0) is not None
    if numbers(text) != numbers(other):
        assert fault_of(text, other, 1.0, nearness=0.0) is not None


def test_a_share_is_no_larger_than_could_be_by_chance() -> None:
    """A share at the bound would show as many or more in one of twenty cases (binomial)."""
    for found, of in ((1, 9), (9, 9), (37, 40)):
        bound = share_at_least(found, of, 0.05)
        assert binom.sf(found - 1, of, bound) == pytest.approx(0.05)
    assert share_at_least(0, 9, 0.05) == share_at_least(0, 0, 0.05) == 0.0


# --- What they show -------------------------------------------------------------------------------


def test_answers_on_paraphrases_are_those_of_predict_and_are_shown(
    clean: Path, paraphraser: Path, tmp_path: Path
) -> None:
    found = one(tmp_path, clean, rows(), model=str(paraphraser), nearness=NEARNESS, floor=0.7)
    pairs, model = in_other_words(), presspool.load(clean)
    before, after = (model.predict(list(texts)) for texts in (pairs, pairs.values()))
    same = sum(a.answer == b.answer for a, b in zip(before, after, strict=True))
    assert (found.figures["texts"], found.figures["kept"], found.figures["same"]) == (9, 9, same)
    assert (found.verdict, same) == ("passed", 9)
    assert "9 of 9 paraphrases" in found.said
    assert len(found.rows) == 3
    for line in found.rows:
        assert pairs[str(line["text"])] == line["paraphrase"]
        assert float(line["nearness"] or 0) >= NEARNESS
    again = one(tmp_path, clean, rows(), model=str(paraphraser), nearness=NEARNESS, floor=0.7)
    assert again.model_dump_json() == found.model_dump_json()


@pytest.mark.parametrize(
    ("changes", "verdict", "advice"),
    [
        ({"floor": 0.72}, "failed", "more than one wording"),
        ({"floor": 0.72, "confidence": 0.9}, "passed", ""),
        ({"fewest": 10}, "failed", "10 are asked for"),
        ({"nearness": 0.999}, "failed", "9 are asked for"),
        ({"nearness": 0.5}, "failed", "set nearness higher: 100.0% of texts"),
        ({"texts": 2, "fewest": 2, "floor": 0.2}, "passed", ""),
        ({"texts": 1, "fewest": 1, "floor": 0.05}, "passed", ""),
    ],
)
def test_too_few_or_a_limit_that_tells_nothing_apart_judge_nothing(
    clean: Path,
    paraphraser: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    verdict: str,
    advice: str,
) -> None:
    """Nine of nine show no more than 71.7 % with 95 % confidence."""
    asked = {"model": str(paraphraser), "nearness": NEARNESS, "floor": 0.7} | changes
    found = one(tmp_path, clean, rows(), **asked)
    assert (found.verdict, advice in found.advice) == (verdict, True), found
    assert found.figures["texts"] == changes.get("texts", 9)


def test_a_model_that_writes_nonsense_has_shown_nothing(clean: Path, tmp_path: Path) -> None:
    model = untrained(tmp_path / "untrained")
    found = one(tmp_path, clean, rows(), model=model.name, nearness=NEARNESS, floor=0.0)
    assert (found.verdict, found.figures["kept"]) == ("failed", 0)
    thrown = {name: found.figures[name] for name in get_args(Fault)}
    assert sum(many for many in thrown.values() if isinstance(many, int)) == 9


def test_what_has_no_answer_keeps_none(clean: Path, paraphraser: Path, tmp_path: Path) -> None:
    """Else an adapter that is never sure would be sure to stay so."""
    unsure = shutil.copytree(clean, tmp_path / "unsure")
    said = json.loads((unsure / "presspool.json").read_text())
    (unsure / "presspool.json").write_text(json.dumps(said | {"unsure_up_to": 1.0}))
    found = one(tmp_path, unsure, rows(), model=str(paraphraser), nearness=NEARNESS, floor=0.0)
    assert (found.verdict, found.figures["no answer"], found.figures["kept"]) == ("failed", 9, 0)


def test_what_is_near_is_for_the_policys_encoder_to_say(
    clean: Path, paraphraser: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """The adapter's own base is chosen by who made the adapter."""
    asked = {"model": str(paraphraser), "nearness": 0.0, "floor": 0.0}
    here, there = (
        {str(line["text"]): line["nearness"] for line in found.rows}
        for found in (
            one(tmp_path, clean, rows(), **asked),
            one(tmp_path, clean, rows(), encoder=str(tiny_base), **asked),
        )
    )
    assert here != there


def test_an_encoder_that_cannot_be_loaded_is_named(
    clean: Path, paraphraser: Path, tiny_base: Path, tmp_path: Path
) -> None:
    torn = shutil.copytree(tiny_base, tmp_path / "torn")
    (torn / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="not a model by which texts are near"):
        one(tmp_path, clean, rows(), model=str(paraphraser), encoder=str(torn))


@pytest.mark.parametrize("name", ["paraphraser", "encoder"])
def test_a_model_is_the_one_whose_digest_is_in_the_report(
    clean: Path, paraphraser: Path, tmp_path: Path, name: str
) -> None:
    asked = {"encoder": read_adapter(clean).contract.model.id, "model": str(paraphraser)}
    policy: dict[str, Any] = {"robustness": {"kinds": [], "paraphrases": asked}}
    case = case_of(tmp_path, clean, policy, rows())
    other = replace(case, inputs={name: "sha256:" + "0" * 64})
    with pytest.raises(InputError, match="changed while the gate was at work"):
        list(robustness.findings(other))


def test_a_task_without_labels_is_told_so_and_nothing_is_tried_without_a_model(
    clean: Path, writer: Path, tmp_path: Path
) -> None:
    found = one(tmp_path, writer, texts_table("gold rises"), model="nowhere")
    assert (found.verdict, "task 'generation'" in found.said) == ("failed", True)
    assert "leave [robustness.paraphrases] out" in found.advice
    policy: dict[str, Any] = {"robustness": {"kinds": []}}
    (silent,) = robustness.findings(case_of(tmp_path, clean, policy, rows()))
    assert (silent.verdict, silent.said) == (
        "not_applicable",
        "not tried: nothing here writes texts anew",
    )


# --- Who is asked ---------------------------------------------------------------------------------


def test_a_text_has_bounded_room_and_a_long_one_is_not_asked(paraphraser: Path) -> None:
    known, ticks = in_other_words(), list[int]()
    long = " ".join(["summit"] * POSITIONS)
    asked = opened(paraphraser)
    found = asked.written([long, *known, "words that it never saw"], lambda: ticks.append(1))
    assert found[:10] == [None, *known.values()]
    assert len(ticks) == 11
    given, rooms = list(map(asked._asked, known)), asked._rooms([*known])
    said = asked._said(given, max(rooms))
    assert said == list(known.values())
    assert asked._said(given, 2) == [None] * 9  # none came to its end
    tokens = [len(asked._task.tokenizer(text)["input_ids"]) for text in known]
    assert max(rooms) <= ROOM * max(tokens) + 8


def refused(folder: Path) -> str:
    with pytest.raises(InputError, match="not a model that can paraphrase") as caught:
        opened(folder)
    assert "[robustness.paraphrases] model" in caught.value.where
    assert caught.value.advice
    return str(caught.value.got)


def test_a_folder_counts_from_the_policys_and_not_from_where_somebody_stands(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_llama, tmp_path / "here" / "model")
    monkeypatch.chdir(tmp_path / "here")
    assert files_named("model", tmp_path / "here", "model").path == tmp_path / "here" / "model"
    with pytest.raises(InputError, match="no base model here"):
        files_named("model", tmp_path, "model")


def test_only_a_causal_model_with_a_chat_template_is_asked(tmp_path: Path, tiny_base: Path) -> None:
    with pytest.raises(InputError, match="no base model here"):
        files_named("nowhere", tmp_path, "model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has no weights"):
        files_named("empty", tmp_path, "model")
    assert "chat template" in refused(tiny_base)
    plain = write_tiny_llama(tmp_path / "plain")
    (plain / "chat_template.jinja").unlink()
    assert "chat template" in refused(plain)
    assert "encoder" in refused(write_paired_base(tmp_path / "t5", "t5"))
    stern = write_tiny_llama(tmp_path / "stern")
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    usual = (stern / "chat_template.jinja").read_text()
    (stern / "chat_template.jinja").write_text(template + usual)
    assert "no system" in refused(stern)
    (stern / "chat_template.jinja").write_text(usual)
    (stern / "tokenizer.json").write_text("{}")
    assert refused(stern)
    with pytest.raises(InputError, match="can be had"):
        files_named("x" * 280, tmp_path, "model")
    chatty = shutil.copytree(tiny_base, tmp_path / "chatty")
    settings = json.loads((chatty / "tokenizer_config.json").read_text())
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    settings |= {"chat_template": template, "eos_token": "[SEP]"}
    (chatty / "tokenizer_config.json").write_text(json.dumps(settings))
    assert refused(chatty)


def test_smollm2_says_most_short_news_in_other_words(smollm2: Path) -> None:
    texts = [
        "Council votes to close the old harbour bridge. The city council decided on Monday evening "
        "to close the bridge to cars, after engineers had warned that its pillars may give way.",
        "Striker leaves after a season without goals. The club said that it will let its most "
        "expensive striker go, and that the coach wants to build a younger team.",
        "Bank raises its forecast for the year. Shares of the bank rose after it told investors "
        "that profits will be higher than expected, thanks to loans to small companies.",
        "New telescope sends its first pictures. Scientists cheered when the first pictures of a "
        "distant galaxy arrived, weeks earlier than the space agency had promised.",
    ]
    said = opened(smollm2).written(texts)
    faults = [fault_of(*pair, 1.0, nearness=0.75) for pair in zip(texts, said, strict=True)]
    assert faults.count(None) >= 3, said
