"""Answers that are written together are those that each call gets alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.served.made_adapters import made_adapter

from presspool.common.contract.contract import parse_contract
from presspool.common.models.base_model import resolve
from presspool.server.serving.shelf import writing_jobs
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf
from presspool.server.serving.shelf.writing_jobs import WriteJob, written


def test_a_long_text_and_a_long_answer_are_not_written_together(
    tmp_path: Path,
    writing_body: Callable[[str], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each fits the model's positions; the width of the one and the length of the other do not."""
    body = writing_body("prompt")
    body["model"] |= resolve(body["model"]["id"], weights=None, tokenizer=None).pins
    path = made_adapter(tmp_path / "desk", parse_contract(body), scale=0.2)
    adapter = AdapterShelf.of([("desk", path)]).get("desk")
    room = adapter.positions
    assert room is not None
    asked = [(room - 20, 8), (3, room - 20), (2, 8), (room - 30, 8)]
    given = [[[3 + at % 9 for at in range(length)]] for length, _ in asked]
    spans, together = list[int](), writing_jobs._together

    def watched(strands: list[Any], task: Any) -> None:
        longest = max(len(strand.job.given[strand.place]) for strand in strands)
        spans.append(longest + max(strand.job.most for strand in strands))
        together(strands, task)

    def jobs() -> list[WriteJob]:
        return [
            WriteJob(rows=1, adapter=adapter, given=ids, most=most)
            for ids, (_, most) in zip(given, asked, strict=True)
        ]

    monkeypatch.setattr(writing_jobs, "_together", watched)
    alone = jobs()
    for job in alone:
        written([job])
    spans.clear()
    written(once := jobs())
    assert max(spans) <= room
    assert len(spans) == 3  # the second and third fit
    assert [job.future.result(0) for job in once] == [job.future.result(0) for job in alone]
