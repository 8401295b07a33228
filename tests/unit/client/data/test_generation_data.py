"""An outlet's texts, answers and chats: each bad record is named and left out alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.conftest import REPOSITORY

from presspool.client.data.check_data import check
from presspool.client.data.readers import read_readers
from presspool.client.data.snapshots import freeze
from presspool.common.base.errors import DataError, InputError
from presspool.common.contract.contract_schema import Model
from presspool.common.data.tables import Columns, Mapped, read_records
from presspool.common.tasks.generation import Generation, GenerationTable

GOOD = [
    "Cup final \U0001f3c6",
    "\u0623\u062e\u0628\u0627\u0631 \u200f!",
    "\u5317\u4eac\u65b0\u95fb",
]


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def chat(*turns: dict[str, str]) -> str:
    return json.dumps(turns)


CASES: dict[str, tuple[list[dict[str, str]], dict[str, int]]] = {
    "text": (
        [{"text": text} for text in [*GOOD, "", " \t", "a\0b", "x" * 10_000_000]],
        {"null or empty text": 2, "NUL in text": 1, "value too long": 1},
    ),
    "prompt": (
        [{"prompt": text, "answer": text} for text in [*GOOD, "a\0b"]]
        + [{"prompt": "Why?", "answer": ""}, {"prompt": "", "answer": "Rain."}],
        {"NUL in prompt": 1, "null or empty answer": 1, "null or empty prompt": 1},
    ),
    "summary": (
        [{"article": text, "summary": text} for text in [*GOOD, "a\0b"]]
        + [{"article": "Why?", "summary": " "}, {"article": "", "summary": "Rain."}],
        {"NUL in article": 1, "null or empty summary": 1, "null or empty article": 1},
    ),
    "chat": (
        [{"messages": chat(turn("user", "Why?"), turn("assistant", text))} for text in GOOD]
        + [
            {"messages": said}
            for said in (
                "Why?",
                chat(turn("bot", "a")),
                chat(turn("user", "a")),
                chat(turn("user", "a"), turn("assistant", "")),
                chat(turn("user", "a"), turn("assistant", "a\0")),
                chat(turn("assistant", "a"), turn("user", "b"), turn("assistant", "c")),
                chat(turn("system", "s"), turn("user", "a"), turn("assistant", "b")),
            )
        ],
        {
            "chat that is no JSON": 1,
            "chat with a role other than system, user, assistant": 1,
            "chat without an assistant's turn": 1,
            "empty turn of messages": 1,
            "NUL in turn of messages": 1,
            "chat that begins with an assistant's turn: nobody has asked anything": 1,
            "chat that the model's template refuses": 1,
        },
    ),
}


def task_of_format(name: str, folder: Path | None = None, **more: Any) -> Generation:
    table = GenerationTable.model_validate({"format": name, **more})
    return Generation(table, None if folder is None else Model(id=str(folder)))


@pytest.fixture
def strict_llama(tiny_llama: Path, tmp_path: Path) -> Path:
    """One whose template knows no system, as some do."""
    import shutil

    folder = tmp_path / "strict"
    shutil.copytree(tiny_llama, folder)
    template = folder / "chat_template.jinja"
    rule = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
    template.write_text(rule + template.read_text())
    return folder


@pytest.fixture(params=["text", "prompt", "chat", "summary"])
def form(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def written(path: Path, rows: list[dict[str, str]]) -> Path:
    pq.write_table(
        pa.Table.from_pylist([{"reader": f"r{i}"} | r for i, r in enumerate(rows)]), path
    )
    return path


def test_bad_records_are_left_out_one_by_one_and_counted(
    form: str, tmp_path: Path, strict_llama: Path
) -> None:
    rows, dropped = CASES[form]
    path, task = written(tmp_path / "data.parquet", rows), task_of_format(form, strict_llama)
    if "value too long" in dropped:
        with pytest.raises(DataError, match="value too long") as caught:
            read_readers(path, columns=Columns(), task=task, strict=True)
        assert "the first is record 7" in str(caught.value)
    for strict in (False,) if "value too long" in dropped else (True, False):
        readers = read_readers(path, columns=Columns(), task=task, strict=strict)
        assert readers.records == len(GOOD)
        assert readers.dropped == dropped
    texts = task.texts(readers.table).to_pylist()
    assert task.encode(texts)["input_ids"].shape[0] == len(GOOD)


def test_the_report_says_where_they_are(form: str, tmp_path: Path, tiny_llama: Path) -> None:
    rows = [row for row in CASES[form][0] if max(map(len, row.values())) < 1000]
    path, task = tmp_path / "data.jsonl", task_of_format(form, tiny_llama)
    path.write_text("\n".join(json.dumps({"reader": "ann"} | row) for row in rows))
    report = check(
        path,
        columns=Columns(),
        task=task,
        records_per_reader=2,
        max_length=64,
        token_lengths=task.lengths,
        population=1,
    )
    assert report.readers == 1
    assert set(report.lines) == set(report.dropped) == set(report.first)
    assert all(lines[0] > len(GOOD) for lines in report.lines.values())
    assert report.tokens is not None
    assert json.dumps(report.to_json())


def test_an_import_refuses_them_by_line_or_leaves_them_out(form: str, tmp_path: Path) -> None:
    rows = [row for row in CASES[form][0] if max(map(len, row.values())) < 1000]
    source, snapshot = tmp_path / "data.jsonl", tmp_path / "snapshot.parquet"
    source.write_text("\n".join(json.dumps({"reader": "ann"} | row) for row in rows))
    kept = Generation.columns_in(Columns().found(source, Generation.columns))
    frozen: dict[str, Any] = {"columns": Columns(), "kept": kept, "damage": Generation.damage}
    with pytest.raises(DataError, match=r"lines? \d") as caught:
        freeze(source, snapshot, **frozen)
    assert "--drop-damaged" in caught.value.advice
    assert not snapshot.exists()
    made = freeze(source, snapshot, **frozen, drop_damaged=True)
    assert made.records == len(GOOD) + (form == "chat")  # which template it is, a run says
    assert sum(made.dropped.values()) == len(rows) - made.records
    readers = read_readers(snapshot, columns=Columns(), task=task_of_format(form), strict=True)
    assert readers.dropped == {}


def test_an_answer_that_is_cut_away_whole_is_left_out(tmp_path: Path, tiny_llama: Path) -> None:
    path = written(tmp_path / "data.parquet", [{"text": text} for text in GOOD])
    task = task_of_format("text", tiny_llama, prompt="Zqjx wvk: ", max_length=8)
    with pytest.raises(DataError, match="no readers") as caught:
        read_readers(path, columns=Columns(), task=task, strict=True)
    assert "3 answer cut away whole by max_length" in str(caught.value)
    assert read_readers(path, columns=Columns(), task=task, strict=False).records == 0


def test_a_held_out_file_is_refused_for_them(form: str, tmp_path: Path) -> None:
    bad = next(
        row for row in CASES[form][0] if any("\0" in v or "u0000" in v for v in row.values())
    )
    good = CASES[form][0][0]
    path = written(tmp_path / "held_out.parquet", [good, good, bad])
    with pytest.raises(DataError, match=r"NUL in .*") as caught:
        read_records(path, task_of_format(form), Mapped())
    assert "1 of 3 records, the first is record 3" in str(caught.value)
    written(path, [good, good])
    assert len(read_records(path, task_of_format(form), Mapped())) == 2


def test_columns_of_other_names_are_mapped(tmp_path: Path) -> None:
    path = written(tmp_path / "data.parquet", [{"body": "Rain.", "title": "Weather"}] * 2)
    columns = Columns.model_validate({"prompt": "body", "answer": "title"})
    readers = read_readers(path, columns=columns, task=task_of_format("prompt"), strict=True)
    assert readers.take(np.array([0])).to_pylist() == [{"prompt": "Rain.", "answer": "Weather"}]
    with pytest.raises(InputError, match="columns of a file for generation"):
        Generation.columns_in(Columns().found(path, Generation.columns))
    assert Generation.columns_in(columns.found(path, Generation.columns)) == ("prompt", "answer")


def test_the_guides_examples_are_read(tmp_path: Path) -> None:
    guide = (REPOSITORY / "docs" / "guides" / "researcher.md").read_text()
    shown = re.findall(r"```(csv|json)\n(.*?)```", guide, re.DOTALL)
    assert [kind for kind, _ in shown] == ["csv", "csv", "csv", "json"]
    for form, (kind, body) in zip(CASES, shown, strict=True):
        path = tmp_path / f"{form}.{kind.replace('json', 'jsonl')}"
        path.write_text(body)
        readers = read_readers(path, columns=Columns(), task=task_of_format(form), strict=True)
        assert (readers.records, readers.dropped) == (1, {})


def test_a_chat_is_kept_to_its_last_answer(tmp_path: Path) -> None:
    said = chat(turn("user", "a"), turn("assistant", "b"), turn("user", "c"))
    path = written(tmp_path / "data.parquet", [{"messages": said}])
    readers = read_readers(path, columns=Columns(), task=task_of_format("chat"), strict=True)
    kept = json.loads(readers.table["messages"][0].as_py())
    assert kept == [turn("user", "a"), turn("assistant", "b")]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_turns_need_not_be_quoted(suffix: str, tmp_path: Path) -> None:
    """As chats usually are in JSON lines and Parquet; what is no list of turns is named alone."""
    said = [turn("user", "Why?"), turn("assistant", "\u5317 \U0001f3c6")]
    rows = [{"reader": "ann", "messages": turns} for turns in (said, [*said, turn("bot", "x")])]
    source, snapshot = tmp_path / f"data.{suffix}", tmp_path / "snapshot.parquet"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), source)
    else:
        source.write_text("\n".join(map(json.dumps, rows)))
    frozen: dict[str, Any] = {"columns": Columns(), "kept": ("messages",)}
    made = freeze(source, snapshot, **frozen, damage=Generation.damage, drop_damaged=True)
    assert made.dropped == {"chat with a role other than system, user, assistant": 1}
    readers = read_readers(snapshot, columns=Columns(), task=task_of_format("chat"), strict=True)
    assert [json.loads(kept) for kept in readers.table["messages"].to_pylist()] == [said]
