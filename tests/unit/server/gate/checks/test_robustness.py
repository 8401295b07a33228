"""Damaged texts: what is damaged, and what is left of the metric."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import COMMON, LABELS, WORDS
from tests.fakes.registry.judged_cases import case_of, news, sentences, texts_table

import presspool
from presspool.common.tasks.classification import labelled
from presspool.common.tasks.records.tagged_words import words_in
from presspool.server.gate.checks import robustness
from presspool.server.gate.checks.damages import WAYS, cut_short, mistyped
from presspool.server.gate.finding import Finding


def one(folder: Path, adapter: Path, rows: pa.Table | None, **asked: Any) -> Finding:
    found, *rest = robustness.findings(case_of(folder, adapter, {"robustness": asked}, rows))
    assert [(each.what, each.verdict) for each in rest] == (
        [] if rows is None else [("paraphrase", "not_applicable")]
    )
    return found


@given(st.text("abcdeüéß ,.-北京新闻", max_size=60))
def test_a_slip_moves_no_word_and_always_hits_one(text: str) -> None:
    damaged = mistyped(text)
    assert mistyped(text) == damaged
    assert len(words_in(damaged)) == len(words_in(text))
    if any(word.isascii() and word.isalpha() and len(word) > 2 for word in text.split()):
        assert damaged != text


def test_slips_are_few_and_known() -> None:
    """Golden: an editor who sees them again sees the same."""
    text = "The minister talks about a treaty with the neighbours"
    damaged = mistyped(text).split()
    assert sum(a != b for a, b in zip(text.split(), damaged, strict=True)) == 2
    assert mistyped("Zu") == "Zu"


@given(st.text("ab c,.北京", max_size=40))
def test_half_the_words_are_left(text: str) -> None:
    left, words = cut_short(text), words_in(text)
    assert text.startswith(left)
    assert len(words_in(left)) == (max(1, len(words) // 2) if words else 0)


def told_at_the_end(count: int) -> pa.Table:
    """Texts whose second half alone tells the topic."""
    texts = [
        " ".join([*COMMON[i % 4 : i % 4 + 4], *WORDS[LABELS[i % 3]][i % 4 : i % 4 + 4]])
        for i in range(count)
    ]
    return labelled(texts, [i % 3 for i in range(count)])


def test_what_is_lost_is_refused_and_is_what_answers_say(clean: Path, tmp_path: Path) -> None:
    """Also what catches a damage that damages nothing: nothing could be lost by it."""
    rows = told_at_the_end(60)
    found = one(tmp_path, clean, rows, kinds=["truncation"])
    assert found.verdict == "failed"
    assert "Accuracy falls" in found.said
    model = presspool.load(clean)
    truth = [LABELS[i] for i in rows["label"].to_pylist()]

    def right(texts: list[str]) -> float:
        return sum(s.answer == t for s, t in zip(model.predict(texts), truth, strict=True)) / 60

    texts = rows["text"].to_pylist()
    whole, left = right(texts), right([cut_short(text) for text in texts])
    assert found.figures["accuracy"] == pytest.approx(whole)
    assert found.figures["half the words"] == pytest.approx(left)
    assert found.figures["drop"] == pytest.approx(whole - left)
    assert whole - left > 0.3


def test_a_clean_adapter_passes_what_leaves_the_topic_there(clean: Path, tmp_path: Path) -> None:
    rows = news(60)
    twice = [f"{text} {text}" for text in rows["text"].to_pylist()]
    rows = labelled(twice, rows["label"].to_pylist())
    found = one(tmp_path, clean, rows, kinds=["truncation"])
    assert (found.verdict, found.figures["changed"]) == ("passed", 1.0)
    slips = one(tmp_path, clean, rows, kinds=["typos"], largest_drop=0.3)
    assert (slips.verdict, slips.figures["changed"]) == ("passed", 1.0)


def test_the_worst_way_counts(clean: Path, tmp_path: Path) -> None:
    """To a model of small letters all capitals are unknown words."""
    found = one(tmp_path, clean, told_at_the_end(30), kinds=["case"])
    lower, upper, whole = (found.figures[n] for n in ("lower case", "upper case", "accuracy"))
    assert lower == whole
    assert found.figures["drop"] == pytest.approx(float(whole or 0) - float(upper or 0))
    assert found.verdict == "failed"


def test_a_damage_that_damages_nothing_is_not_passed(
    clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WAYS, "typos", {"typos": str})
    found = one(tmp_path, clean, news(30), kinds=["typos"])
    assert (found.verdict, found.said) == ("failed", "it changes none of these texts")


def test_what_cannot_be_looked_at_is_said(clean: Path, writer: Path, tmp_path: Path) -> None:
    assert one(tmp_path, clean, None).verdict == "failed"
    rows = texts_table(*sentences(3))
    found = one(tmp_path, writer, rows, kinds=["typos"])
    assert (found.verdict, "task 'generation'" in found.said) == ("failed", True)
    assert not [*robustness.findings(case_of(tmp_path, clean, {}, None))]


@pytest.mark.parametrize(
    ("name", "column", "said", "left"),
    [
        ("tokens", "tags", ["Angela", "Merkel", "met", "Ruud"], ["Angela", "Merkel"]),
        ("text", "spans", "Angela Merkel met Ruud", "Angela Merkel"),
    ],
)
def test_words_keep_their_tags(name: str, column: str, said: Any, left: Any) -> None:
    tags = json.dumps(["B-PER", "I-PER", "O", "B-PER"])
    given_as = said if name == "text" else json.dumps(said)
    rows = pa.table({name: [given_as], column: [tags]})
    (cut,) = robustness.damaged(rows, name, cut_short).to_pylist()
    assert (cut[name] if name == "text" else json.loads(cut[name])) == left
    assert json.loads(cut[column]) == ["B-PER", "I-PER"]
    (slipped,) = robustness.damaged(rows, name, mistyped).to_pylist()
    assert slipped[name] != given_as
    assert json.loads(slipped[column]) == json.loads(tags)
