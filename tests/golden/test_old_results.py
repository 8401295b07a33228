"""A run folder of schema 1, as its version left it, still opens everywhere.

`files/result-v1.json` and `files/checkpoint-v1.safetensors` are what a small deterministic run
wrote when a round's result had the fields accuracy, macro_f1 and loss.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from presspool.common.audit.pages.comparison import compare
from presspool.common.audit.pages.run_report import render_report
from presspool.common.base.errors import InputError
from presspool.common.runs.result_file import parse_result, read_result, write_result
from presspool.server.rounds import round_checkpoint

FILES = Path(__file__).parent / "files"
OLD = (FILES / "result-v1.json").read_text("utf-8")
FIGURES = ("accuracy", "macro_f1", "loss")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    old = tmp_path / "old"
    old.mkdir()
    (old / "result.json").write_text(OLD, "utf-8")
    return old


def test_the_file_is_of_schema_1() -> None:
    body = json.loads(OLD)
    assert body["schema"] == 1
    assert "measures" not in body
    assert all(set(FIGURES) < set(entry) for entry in body["rounds"])


def test_every_value_is_where_schema_2_has_it() -> None:
    old, new = json.loads(OLD), json.loads(parse_result(OLD).to_json())
    assert new.pop("schema") == 2
    assert [metric["name"] for metric in new.pop("measures")] == list(FIGURES)
    for before, after in zip(old["rounds"], new["rounds"], strict=True):
        assert after.pop("metrics") == {name: before.pop(name) for name in FIGURES}
    assert new == {key: value for key, value in old.items() if key != "schema"}


def test_writing_it_again_makes_it_schema_2(folder: Path) -> None:
    result = read_result(folder)
    write_result(folder, result)
    assert json.loads((folder / "result.json").read_text("utf-8"))["schema"] == 2
    assert read_result(folder) == result


def test_its_page_and_its_comparison_with_a_new_run_open(folder: Path, tmp_path: Path) -> None:
    result = read_result(folder)
    html = render_report(result)
    assert "Accuracy stayed from 33.3% before training to 33.3% of the public held-out" in html
    assert '<th scope="col" class="number">Cross-entropy, nats</th>' in html
    better = dataclasses.replace(
        result.final, metrics={"accuracy": 0.75, "macro_f1": 0.5, "loss": 1.0}
    )
    write_result(
        tmp_path / "new", dataclasses.replace(result, rounds=(*result.rounds[:-1], better))
    )
    rows = compare([folder, tmp_path / "new"]).rows
    assert [row.metrics["accuracy"] for row in rows] == [1 / 3, 0.75]


def test_a_run_continues_from_its_checkpoint() -> None:
    result = parse_result(OLD)
    point = round_checkpoint.load(
        FILES / "checkpoint-v1.safetensors", digest=result.contract_digest
    )
    assert point is not None
    assert point.rounds == result.rounds


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("accuracy", "high", "metrics.accuracy"),
        ("metrics", {"accuracy": 0.5}, "no key of this name"),
        ("precision", 0.5, "no key of this name"),
        ("loss", ..., "each described metric"),
    ],
)
def test_what_schema_1_did_not_allow_is_still_refused(key: str, value: Any, told: str) -> None:
    body = json.loads(OLD)
    body["rounds"][1] |= {key: value}
    if value is ...:
        del body["rounds"][1][key]
    with pytest.raises(InputError) as caught:
        parse_result(json.dumps(body))
    assert told in str(caught.value)


def test_rounds_that_are_none_are_refused() -> None:
    wrong: list[Any] = [[[]], [None], "rounds", None]
    for rounds in wrong:
        with pytest.raises(InputError):
            parse_result(json.dumps(json.loads(OLD) | {"rounds": rounds}))
