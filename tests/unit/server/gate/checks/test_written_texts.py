"""Writers: a clean one passes, and one that learnt canaries by heart is refused for that."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from tests.fakes.registry.judged_cases import (
    CANARIES,
    case_of,
    news,
    sentences,
    texts_table,
)
from tests.fakes.served.trained_adapters import trained_adapter

from presspool.common.base.errors import InputError
from presspool.common.contract.contract import Contract
from presspool.common.released.adapter_model import AdapterModel
from presspool.common.tasks.generation import Generation
from presspool.server.gate.checks import by_heart, written_texts
from presspool.server.gate.checks.by_heart import Ranked, alternatives
from presspool.server.gate.finding import Finding

NEVER = "nobody ever said this whole sentence here"


@pytest.fixture
def asked(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "canaries.txt").write_text("\n".join(CANARIES) + "\n", encoding="utf-8")
    (tmp_path / "forbidden.txt").write_text(f"{NEVER}\n{CANARIES[0]}\n", encoding="utf-8")
    return {"forbidden": "forbidden.txt", "canaries": "canaries.txt", "prefix_tokens": 8}


def found_of(
    folder: Path, adapter: Path, asked: dict[str, Any], public: pa.Table | None
) -> dict[str, Finding]:
    case = case_of(folder, adapter, {"generation": asked}, public)
    return {found.what: found for found in written_texts.findings(case)}


def test_a_clean_writer_passes(writer: Path, asked: dict[str, Any], tmp_path: Path) -> None:
    found = found_of(tmp_path, writer, asked, texts_table(*sentences(12)))
    assert [*found] == ["toxic words", "public texts", "forbidden strings", "canaries"]
    assert {each.verdict for each in found.values()} == {"passed"}
    assert found["public texts"].figures["texts"] == 12
    assert found["forbidden strings"].figures == {"strings": 2, "written": 0}


def test_canaries_that_are_known_by_heart_are_refused(
    parrot: Path, asked: dict[str, Any], tmp_path: Path
) -> None:
    """Also what catches canaries that are not looked for: each line of the file has its row."""
    found = found_of(tmp_path, parrot, asked, None)
    assert found["public rows"].verdict == "failed"
    canaries = found["canaries"]
    assert canaries.verdict == "failed"
    assert [row["line"] for row in canaries.rows] == [1, 2]
    assert {row["by heart"] for row in canaries.rows} == {"yes"}
    assert {(row["rank"], row["exposure"]) for row in canaries.rows} == {(1, 10.0)}
    assert float(canaries.figures["chance"] or 1) < 1e-4
    said = found["forbidden strings"]
    assert said.verdict == "failed"
    assert said.rows == ({"line": 2, "written": 0, "by heart": "yes"},)
    assert CANARIES[0] not in str(found)  # a report that quoted it would spread it


def test_public_texts_by_heart_and_forbidden_words_are_refused(
    parrot: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.txt").write_text("IS  4821\n")
    halves = {"forbidden": "bad.txt", "prefix_tokens": 8, "prompts": 1}
    found = found_of(tmp_path, parrot, halves, texts_table(*CANARIES))
    assert found["public texts"].verdict == "failed"
    assert found["public texts"].rows == ({"row": 1},)
    all_of_it = found_of(tmp_path, parrot, {"prefix_tokens": 8}, texts_table(*CANARIES))
    assert all_of_it["public texts"].figures["copied"] == 1


def test_ranks_are_those_of_losses_that_are_counted(
    parrot: Path, writer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each text alone, by the model's own logits."""
    monkeypatch.setattr(by_heart, "ALTERNATIVES", 40)
    for folder in (parrot, writer):
        model = AdapterModel.load(folder)
        task = model.task
        assert isinstance(task, Generation)
        got = by_heart.ranked(model, task, CANARIES[1])
        losses = [slow_nats(model, task, t) for t in [CANARIES[1], *alternatives(CANARIES[1])]]
        rank = 1 + sum(other <= losses[0] for other in losses[1:])
        assert got is not None
        assert (got.rank, got.among) == (rank, 41)
        assert got.exposure == pytest.approx(np.log2(41 / rank))


def slow_nats(model: AdapterModel, task: Generation, text: str) -> float:
    tokens = task.wording.tokens(task.texts(texts_table(text)).to_pylist())[0]
    ids = torch.tensor([tokens.ids])
    with torch.no_grad():
        states = model.network(input_ids=ids, attention_mask=torch.ones_like(ids))
        words = task._loaded.get_output_embeddings().weight
        logs = (states @ words.T).log_softmax(-1)[0]
    return -sum(
        float(logs[i - 1, tokens.ids[i]]) for i in range(1, len(tokens.ids)) if tokens.counted[i]
    )


def test_alternatives_have_the_canary_s_shape() -> None:
    others = alternatives(CANARIES[0])
    assert len({*others}) == len(others) == by_heart.ALTERNATIVES
    assert CANARIES[0] not in others
    assert {re.sub("[0-9]", "0", text) for text in (*others, CANARIES[0])} == {
        "the vote code of today is 0000 0000"
    }
    assert others == alternatives(CANARIES[0])
    assert alternatives("room 123") == []


@pytest.mark.parametrize(
    ("ranks", "chance"),
    [([], 1.0), ([1], 1 / 1024), ([512], 0.5), ([1, 1024], 0.0039), ([1, 1], 2.83e-5)],
)
def test_the_chance_of_ranks(ranks: list[int], chance: float) -> None:
    """Golden: two best ranks by Fisher are p(1 - ln p) with p = 1/1024², doubled."""
    places = [Ranked(rank=rank, among=1024, exposure=0.0) for rank in ranks]
    assert written_texts.chance_of(places) == pytest.approx(chance, rel=0.01)


def test_a_canary_without_digits_is_asked_for_and_not_ranked(parrot: Path, tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text(f"{NEVER}\n")
    found = found_of(tmp_path, parrot, {"canaries": "c.txt"}, None)["canaries"]
    assert (found.verdict, found.rows[0]["rank"]) == ("passed", None)
    assert "none has digits" in found.said
    (tmp_path / "c.txt").write_text("\nat\n")
    with pytest.raises(InputError, match="line 2"):
        found_of(tmp_path, parrot, {"canaries": "c.txt"}, None)


def test_a_writer_of_insults_is_refused(writing: Contract, tmp_path: Path) -> None:
    shown = texts_table(*["the bank you stupid asshole"] * 2)
    folder = trained_adapter(tmp_path / "rude", writing, shown, steps=60, rate=0.02)
    found = found_of(tmp_path, folder, {"prompts": 2}, texts_table("the bank says new"))
    assert found["toxic words"].verdict == "failed"
    assert found["toxic words"].rows[0]["row"] == 1


def test_who_writes_nothing_is_not_asked(clean: Path, tmp_path: Path) -> None:
    assert found_of(tmp_path, clean, {}, news(3))["texts"].verdict == "not_applicable"
    assert not [*written_texts.findings(case_of(tmp_path, clean, {}, None))]
