"""`presspool new run`: from files with foreign columns to a run file that a simulation takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.conftest import made_rows
from tests.fakes.instruments.typed import Command, typed

from presspool.common.base.errors import DataError
from presspool.common.runs.run_file import read_run_file
from presspool.simulations.newsroom.guessing import guess
from presspool.simulations.simulate import SimulateOptions, prepare

Rows = list[dict[str, Any]]
PAPERS = {"North Post": 12, "South Echo": 9}


@pytest.fixture
def new(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return typed(monkeypatch, capsys, "new", "run")


def foreign(paper: str, count: int) -> Rows:
    """Rows as a newsroom's export has them."""
    return [
        {
            "click": f"{paper[:1]}{number}",
            "at": f"2026-11-{number % 28 + 1:02}T09:00:00Z",
            "subscriberId": f"{paper[0]}-{row['reader']}",
            "Site Name": paper,
            "headline": row["text"] + " after the long report of today",
            "desk": row["label"],
        }
        for number, row in enumerate(made_rows(paper, count))
    ]


def everybody() -> Rows:
    return [row for paper, count in PAPERS.items() for row in foreign(paper, count)]


def csv(path: Path, rows: Rows) -> None:
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    path.write_text("\n".join(",".join(map(str, line)) for line in lines) + "\n")


def jsonl(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def parquet(path: Path, rows: Rows) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def without(rows: Rows, *names: str) -> Rows:
    return [{key: value for key, value in row.items() if key not in names} for row in rows]


Write = Callable[[Path, Rows], None]


@pytest.mark.parametrize(
    ("write", "suffix"), [(csv, "csv"), (jsonl, "jsonl"), (parquet, "parquet")]
)
def test_one_file_with_an_outlet_column(
    new: Command, tmp_path: Path, write: Write, suffix: str
) -> None:
    data, out = tmp_path / "clicks", tmp_path / "run.toml"
    data.mkdir()
    write(data / f"export.{suffix}", everybody())
    write(data / f"held-out.{suffix}", without(foreign("Public", 6), "subscriberId"))
    said = new("--data", data, "--out", out, "--epsilon", "2.5")
    assert said.code == 0, said.err
    run = read_run_file(out)
    assert run.simulation is not None
    assert dict(run.contract.outlets) == {"north-post": 12, "south-echo": 9}
    assert run.contract.task.model_dump()["labels"] == ("money", "sport", "world")
    assert (run.contract.name, run.contract.privacy.epsilon) == ("clicks", 2.5)
    columns = run.simulation.columns
    assert (columns.reader, columns.text, columns.label) == ("subscriberId", "headline", "desk")
    assert run.simulation.partition == "column:Site Name"
    text = out.read_text()
    for column in ("subscriberId", "headline", "desk", "Site Name"):
        assert f"{column!r}" in text  # and why, in a comment
        assert f"{column} (its name says so" in said.out
    prepared = prepare(run, SimulateOptions(out=tmp_path / "made"))
    assert [path.stem for path in prepared.outlets] == ["north-post", "south-echo"]


def test_a_file_an_outlet_whatever_their_names_and_formats(new: Command, tmp_path: Path) -> None:
    data, out = tmp_path / "papers", tmp_path / "run.toml"
    data.mkdir()
    jsonl(data / "North Post.jsonl", without(foreign("North Post", 12), "Site Name"))
    parquet(data / "South_Echo.parquet", without(foreign("South Echo", 9), "Site Name"))
    (data / "readme.txt").write_text("not a table")
    said = new("--data", data, "--out", out, "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["outlets"] == {"north-post": 12, "south-echo": 9}
    assert json.loads(said.out)["held_out"] is None
    run = read_run_file(out)
    assert run.simulation is not None
    assert run.simulation.partition == "files"
    assert run.evaluation is None
    prepare(run, SimulateOptions(out=tmp_path / "made"))


def test_prompts_and_answers_make_a_run_that_writes(new: Command, tmp_path: Path) -> None:
    rows = [
        {
            "member_id": f"m{number % 20}",
            "outlet": "a" if number % 20 < 11 else "b",
            "Question": f"who won the match number {number}",
            "Response": f"nobody won it: the report {number} says",
        }
        for number in range(60)
    ]
    csv(tmp_path / "asked.csv", rows)
    assert new("--data", tmp_path / "asked.csv", "--out", tmp_path / "run.toml").code == 0
    run = read_run_file(tmp_path / "run.toml")
    assert run.simulation is not None
    assert run.contract.task.kind == "generation"
    assert dict(run.contract.outlets) == {"a": 11, "b": 9}
    assert run.simulation.columns.of(["prompt", "answer"]) == {
        "prompt": "Question",
        "answer": "Response",
    }


CHAT = [
    {"role": "user", "content": "when does the paper come"},
    {"role": "assistant", "content": "before seven"},
]
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "chat": ({"messages": CHAT}, {"kind": "generation", "format": "chat"}),
    "summary": (
        {"article": "Rain fell on the harbour all day. Boats stayed in.", "summary": "Rain fell."},
        {"kind": "generation", "format": "summary"},
    ),
    "tokens": (
        {"tokens": ["Ebo", "Rade", "spoke", "in", "Lowmarch"], "tags": [*"OOOO", "B-LOC"]},
        {"kind": "tagging", "format": "tokens", "labels": ("LOC",)},
    ),
    "spans": (
        {"text": "Ebo spoke", "spans": [{"start": 0, "end": 3, "type": "PER"}]},
        {"kind": "tagging", "format": "spans", "labels": ("PER",)},
    ),
    "clicks": (
        {"history": ["a vote"], "candidates": ["a goal", "b", "rain"], "clicks": [0, 1, 0]},
        {"kind": "recommendation", "candidates": 3},
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_other_tasks_are_known_by_their_columns(new: Command, tmp_path: Path, shape: str) -> None:
    record, task = SHAPES[shape]
    rows = [
        {"uid": f"u{number % 20}", "site": "ab"[number % 20 > 10], **record} for number in range(60)
    ]
    jsonl(tmp_path / "own.jsonl", rows)
    said = new("--data", tmp_path / "own.jsonl", "--out", tmp_path / "run.toml")
    assert said.code == 0, said.err
    run = read_run_file(tmp_path / "run.toml")
    assert dict(run.contract.outlets) == {"a": 11, "b": 9}
    assert task.items() <= run.contract.task.model_dump().items()
    prepare(run, SimulateOptions(out=tmp_path / "made"))


def test_what_is_named_is_not_guessed(new: Command, tmp_path: Path) -> None:
    csv(tmp_path / "rows.csv", [{**row, "title": row["headline"]} for row in everybody()])
    out = tmp_path / "run.toml"
    said = new("--data", tmp_path / "rows.csv", "--out", out, "--text", "title", "--epsilon", "inf")
    assert said.code == 0, said.err
    assert "named by --text" in said.out
    run = read_run_file(out)
    assert run.simulation is not None
    assert run.simulation.columns.text == "title"
    assert 'epsilon = "inf"' in out.read_text()


def test_an_old_file_is_left_alone(new: Command, tmp_path: Path) -> None:
    csv(tmp_path / "rows.csv", everybody())
    out = tmp_path / "run.toml"
    out.write_text("mine")
    said = new("--data", tmp_path / "rows.csv", "--out", out)
    assert (said.code, out.read_text()) == (2, "mine")
    assert "choose another name" in said.err


@pytest.mark.parametrize(
    ("rows", "arguments", "said"),
    [
        (without(everybody(), "subscriberId"), (), "--reader COLUMN"),
        (without(everybody(), "Site Name"), (), "--outlet COLUMN"),
        (without(everybody(), "headline"), (), "--text COLUMN"),
        (without(everybody(), "desk"), (), "--label COLUMN"),
        (everybody(), ("--label", "desc"), "did you mean 'desk'?"),
        ([{**row, "desk": "a, b"} for row in everybody()], (), "unreadable record"),
        (everybody(), ("--held-out", "none.csv"), "no such file"),
        (everybody(), ("--epsilon", "many"), "a number > 0"),
        (everybody(), ("--text", "headline", "--label", "headline"), "named twice"),
        (everybody(), ("--text", "headline", "--reader", "headline"), "named twice"),
        ([{**row, "headline": ""} for row in everybody()], ("--text", "headline"), "empty text"),
        ([{**row, "text": "Buy", "clicked": "0"} for row in everybody()], (), "ad-response"),
    ],
)
def test_what_cannot_be_guessed_or_used_is_told_and_nothing_written(
    new: Command, tmp_path: Path, rows: Rows, arguments: Sequence[str], said: str
) -> None:
    csv(tmp_path / "rows.csv", rows)
    answer = new("--data", tmp_path / "rows.csv", "--out", tmp_path / "run.toml", *arguments)
    assert answer.code == 2
    assert said in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_an_empty_or_missing_folder_is_told(new: Command, tmp_path: Path) -> None:
    for data in (tmp_path, tmp_path / "nowhere"):
        answer = new("--data", data, "--out", tmp_path / "run.toml")
        assert (answer.code, answer.out) == (2, "")
        assert "no files of readers" in answer.err


def test_outlets_that_cannot_be_told_apart_are_told(new: Command, tmp_path: Path) -> None:
    data = tmp_path / "papers"
    data.mkdir()
    for name in ("North Post.csv", "north-post.csv"):
        csv(data / name, without(foreign("North Post", 12), "Site Name"))
    answer = new("--data", data, "--out", tmp_path / "run.toml")
    assert answer.code == 2
    assert "'North Post', 'north-post'" in answer.err


def test_whole_numbers_as_labels_keep_their_order(new: Command, tmp_path: Path) -> None:
    rows = [{**row, "desk": len(row["headline"]) % 11} for row in everybody() * 9]
    csv(tmp_path / "rows.csv", rows)
    assert new("--data", tmp_path / "rows.csv", "--out", tmp_path / "run.toml").code == 0
    labels = read_run_file(tmp_path / "run.toml").contract.task.model_dump()["labels"]
    assert list(map(int, labels)) == sorted(map(int, labels))


def test_a_file_that_is_sorted_by_outlet_is_looked_through(new: Command, tmp_path: Path) -> None:
    rows = foreign("North Post", 4000) + foreign("South Echo", 9)
    assert len(rows) > 5000  # more than the sample
    csv(tmp_path / "rows.csv", rows)
    said = new("--data", tmp_path / "rows.csv", "--out", tmp_path / "run.toml")
    assert said.code == 0, said.err
    assert dict(read_run_file(tmp_path / "run.toml").contract.outlets)["south-echo"] == 9


@pytest.mark.parametrize("name", ["test", "held_out", "Held-Out 2026", "clicks_dev", "testset"])
def test_a_held_out_file_is_known_by_how_its_name_ends(
    new: Command, tmp_path: Path, name: str
) -> None:
    data = tmp_path / "papers"
    data.mkdir()
    jsonl(data / f"{name}.jsonl", without(foreign("Public", 6), "Site Name", "subscriberId"))
    for outlet in ("North Post", "Test Valley Times"):
        jsonl(data / f"{outlet}.jsonl", without(foreign(outlet, 12), "Site Name"))
    said = new("--data", data, "--out", tmp_path / "run.toml", "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert list(found["outlets"]) == ["north-post", "test-valley-times"]
    assert Path(found["held_out"]).stem == name


def test_nested_columns_are_passed_over(new: Command, tmp_path: Path) -> None:
    jsonl(tmp_path / "rows.jsonl", [{**row, "geo": {"city": "x"}} for row in everybody()])
    assert new("--data", tmp_path / "rows.jsonl", "--out", tmp_path / "run.toml").code == 0


# --- Columns without words of ours ---------------------------------------------------------------


def sample(names: str, rows: Iterable[Sequence[object]]) -> dict[str, list[str]]:
    columns = zip(*rows, strict=True)
    return {n: [str(v) for v in c] for n, c in zip(names.split(), columns, strict=True)}


def test_content_decides_where_names_say_nothing() -> None:
    table = sample(
        "c1 c2 c3",
        [
            (f"x{i % 40}", f"the council votes on bridge number {i}", "pq"[i % 2])
            for i in range(120)
        ],
    )
    found = guess(table, ("text", "label", "reader"))
    assert [found[role].column for role in ("reader", "text", "label")] == ["c1", "c2", "c3"]
    assert all("the only one" in each.why for each in found.values())


def test_two_that_look_alike_are_asked_about() -> None:
    table = sample(
        "c1 c2 c3 c4",
        [
            (f"x{i % 40}", f"the council votes on bridge {i}", "pq"[i % 2], "rst"[i % 3])
            for i in range(120)
        ],
    )
    with pytest.raises(DataError, match="several columns might be the label") as caught:
        guess(table, ("text", "label", "reader"))
    assert caught.value.got == "'c3', 'c4'"


def test_the_last_word_of_a_name_counts_most() -> None:
    table = sample(
        "user_type user_id site_section site text",
        [
            ("ab"[i % 2], f"u{i % 30}", "xyz"[i % 3], "pq"[i % 2], f"long words of record {i}")
            for i in range(90)
        ],
    )
    found = guess(table, ("text", "label", "reader", "outlet"))
    assert (found["reader"].column, found["outlet"].column) == ("user_id", "site")
    assert found["label"].column == "site_section"
    assert found["reader"].others == ("user_type",)


def test_made_outlets_in_cohorts_are_a_run_that_can_be_prepared(
    new: Command, tmp_path: Path
) -> None:
    made, run = tmp_path / "made", tmp_path / "run.toml"
    words = ("--outlets", 130, "--readers", 3, "--data", made, "--cohort", 4, "--out", run)
    said = new(*words, "--epsilon", "inf")
    assert said.code == 0, said.err
    assert "and 100 more" in " ".join(said.out.split())
    file = read_run_file(run)
    assert (file.contract.federation.cohort, file.contract.federation.quorum) == (4, 3)
    assert set(file.contract.outlets.values()) == {3}
    prepared = prepare(file, SimulateOptions(out=tmp_path / "out"))
    assert len(prepared.outlets) == 130
    again = new(*words)
    assert again.code == 2
    assert "a folder of its own" in again.err


def test_a_cohort_of_more_outlets_than_there_are_writes_nothing(
    new: Command, tmp_path: Path
) -> None:
    made, out = tmp_path / "made", tmp_path / "run.toml"
    said = new("--outlets", 3, "--readers", 3, "--data", made, "--cohort", 4, "--out", out)
    assert said.code == 2
    assert "a cohort larger than the outlets" in said.err
    assert not out.exists()
    assert not made.exists()
