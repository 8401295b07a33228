"""Care at import: from outlet.toml to the snapshot, record by record or reader by reader."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_outlets import new_ledger

from presspool.client.data.care import splits
from presspool.client.data.care.import_care import REPEATED, ImportCare
from presspool.client.data.snapshots import SNAPSHOT, current, freeze
from presspool.client.identity.care_table import CareTable
from presspool.client.identity.settings import read_settings
from presspool.common.base.errors import DataError, InputError
from presspool.common.data.decoders import Tally
from presspool.common.data.personal_data import FoundSpan, Redactor
from presspool.common.data.tables import Columns

ROWS = [
    ("ann", "Cup final tonight", "sport", "2026-01-05 10:00"),
    ("bob", "Cup final tonight", "sport", "2026-01-06"),
    ("ann", "Cup final tonight", "sport", "2026-02-05"),
    ("ann", "Cup  FINAL tonight", "sport", "yesterday"),
    ("cat", "金牌", "sport", ""),
]


def write(path: Path, rows: Sequence[tuple[str, ...]] = ROWS) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("reader", "text", "label", "seen"), *rows])
    return path


def frozen(
    folder: Path, care: CareTable, rows: Sequence[tuple[str, ...]] = ROWS
) -> list[dict[str, str]]:
    source = write(folder / "data.csv", rows)
    freeze(source, folder / SNAPSHOT, columns=Columns(), kept=("text", "label"), care=care)
    found: list[dict[str, str]] = pq.read_table(folder / SNAPSHOT).to_pylist()
    return found


@pytest.fixture
def outlet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(tmp_path)
    write(Path("data.csv"))
    return typed(monkeypatch, capsys, "outlet", width=100)


def settings_with(care: str) -> None:
    Path("outlet.toml").write_text(f'name = "o"\ndata = "data.csv"\n[care]\n{care}\n')


@pytest.mark.parametrize(("how", "left"), [("keep", 5), ("exact", 4), ("near", 3)])
def test_a_reader_s_repeats_are_left_out_and_no_other_s(
    tmp_path: Path, how: str, left: int
) -> None:
    rows = frozen(tmp_path, CareTable.model_validate({"duplicates": how}))
    assert len(rows) == left
    assert [row["reader"] for row in rows].count("bob") == 1


@pytest.mark.parametrize("how", ["exact", "near"])
def test_an_advert_is_repeated_only_where_it_is_shown_in_the_same_context(
    tmp_path: Path, how: str
) -> None:
    text = "Two tickets for the final, tonight only"
    rows = [("ann", text, hour, clicked) for hour in ("8", "9", "9") for clicked in "010"]
    with (tmp_path / "data.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("reader", "text", "hour", "clicked"), *rows])
    care, kept = CareTable.model_validate({"duplicates": how}), ("text", "hour", "clicked")
    freeze(tmp_path / "data.csv", tmp_path / SNAPSHOT, columns=Columns(), kept=kept, care=care)
    found = pq.read_table(tmp_path / SNAPSHOT).to_pylist()
    assert [(row["hour"], row["clicked"]) for row in found] == [
        (hour, clicked) for hour in "89" for clicked in "01"
    ]


def test_days_are_kept_beside_the_task_s_columns(tmp_path: Path) -> None:
    rows = frozen(tmp_path, CareTable(day="seen"))
    assert [row["day"] for row in rows] == ["2026-01-05", "2026-01-06", "2026-02-05", "", ""]


Told = st.lists(
    st.tuples(
        st.sampled_from("ab"), st.sampled_from(["x", "x ", "longer words", "金"]), st.just("l")
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=30, deadline=None)
@given(Told)
def test_one_reader_s_presence_changes_nobody_else_s_records(
    tmp_path_factory: pytest.TempPathFactory, told: list[tuple[str, str, str]]
) -> None:
    """The neighbouring data set: all records of one reader are added."""
    care, folder = CareTable(duplicates="near"), tmp_path_factory.mktemp("neighbours")
    others = [(*row, "") for row in told]
    with_one = [row for each in others for row in (each, ("new", *each[1:]))]
    mine = frozen(folder, care, others)
    assert [r for r in frozen(folder, care, with_one) if r["reader"] != "new"] == mine


def test_import_says_what_was_left_out_and_check_data_what_is_strange(outlet: Command) -> None:
    settings_with('duplicates = "near"\nday = "seen"')
    said = outlet("import", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["dropped"] == {REPEATED: 2}
    looked = json.loads(outlet("check-data", SNAPSHOT, "--json").out)
    assert (looked["records"], looked["similar_within"], looked["duplicates_across"]) == (3, 0, 1)
    assert looked["texts"]["scripts"] == {"Latin": 2, "Han": 1}
    assert current(Path(SNAPSHOT), read_settings(Path("outlet.toml"))).records == 3
    settings_with('duplicates = "exact"\nday = "seen"')
    with pytest.raises(DataError, match="another `\\[care\\]`"):
        current(Path(SNAPSHOT), read_settings(Path("outlet.toml")))


def test_a_ledger_of_records_takes_no_care_of_repeats(outlet: Command) -> None:
    settings_with('duplicates = "exact"')
    refused = outlet("budget", "init", "--unit", "record", "--new-key")
    assert refused.code == 2
    assert "[care] duplicates" in refused.err
    new_ledger(Path("ledger.db"), unit="record")
    refused = outlet("import")
    assert refused.code == 2
    assert "the ledger protects single records" in refused.err


@pytest.mark.parametrize(
    ("care", "named"),
    [
        ('duplicates = "all"', "[care] duplicates"),
        ('redact = ["email"]', "[care.redact] 0"),
        ('day = "absent"', "absent"),
        ("near = true", "[care] near"),
    ],
)
def test_a_wrong_table_is_named(outlet: Command, care: str, named: str) -> None:
    settings_with(care)
    refused = outlet("import")
    assert refused.code == 2
    assert named in refused.err
    assert "Traceback" not in refused.err


def test_tags_are_not_moved_by_redaction(tmp_path: Path) -> None:
    source = tmp_path / "data.jsonl"
    source.write_text('{"reader": "a", "text": "x", "spans": []}\n')
    with pytest.raises(InputError, match="would move"):
        freeze(
            source,
            tmp_path / SNAPSHOT,
            columns=Columns(),
            kept=("text", "spans"),
            care=CareTable(redact=("PERSON",)),
        )
    assert not (tmp_path / SNAPSHOT).exists()


@pytest.mark.parametrize("column", ["history", "candidates", "words"])
def test_no_column_of_texts_is_left_as_it_is_without_a_word(column: str) -> None:
    with pytest.raises(InputError, match="would leave as they are"):
        ImportCare(CareTable(redact=("EMAIL_ADDRESS",)), ["reader", "text", column])


def test_articles_and_their_summaries_are_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [FoundSpan(start=0, end=3, kind="PERSON", score=1.0)]
    monkeypatch.setattr(Redactor, "of", lambda _sought: Redactor(lambda _text: found))
    care = ImportCare(CareTable(redact=("PERSON",)), ["reader", "article", "summary"])
    rows = [pa.array([text], pa.large_string()) for text in ("a", "Ann won", "Ann on top")]
    tended = care.tended(rows, np.array([True]), Tally())
    assert [column.to_pylist() for column in tended] == [
        ["a"],
        ["<PERSON> won"],
        ["<PERSON> on top"],
    ]


def test_a_split_by_reader_keeps_readers_whole(outlet: Command) -> None:
    many = [(f"r{i % 40}", f"text {i}", "sport", "2026-01-01") for i in range(200)]
    write(Path("data.csv"), many)
    said = outlet(
        "split",
        "data.csv",
        "--kept",
        "own.csv",
        "--held-out",
        "public.jsonl",
        "--share",
        "0.3",
        "--json",
    )
    assert said.code == 0, said.err
    counts = json.loads(said.out)
    with Path("own.csv").open(newline="") as file:
        own = list(csv.DictReader(file))
    public = [json.loads(line) for line in Path("public.jsonl").read_text().splitlines()]
    assert (counts["kept"], counts["held_out"]) == (len(own), len(public))
    assert len(own) + len(public) == 200
    assert all("reader" not in row for row in public)
    assert Path("own.csv").stat().st_mode & 0o077 == 0
    texts = {row["text"] for row in public}
    assert {r for r, t, *_ in many if t in texts}.isdisjoint(row["reader"] for row in own)


def test_a_split_by_time_and_what_it_refuses(outlet: Command) -> None:
    words = ("split", "data.csv", "--kept", "own.csv", "--held-out", "public.csv", "--day", "seen")
    refused = outlet(*words, "--since", "2030-01-01")
    assert refused.code == 2
    assert "one side would be empty" in refused.err
    assert not Path("own.csv").exists()
    assert not Path("public.csv").exists()
    assert outlet(*words, "--since", "2026-02-01").code == 0
    assert Path("public.csv").read_text() == "label,seen,text\nsport,2026-02-05,Cup final tonight\n"
    again = outlet(*words, "--since", "2026-02-01")
    assert again.code == 2
    assert outlet(*words).code == 2


def test_the_share_of_readers_is_about_what_was_asked() -> None:
    part = splits.by_reader(0.2, seed=3)
    share = sum(part(f"reader {i}", "") for i in range(20_000)) / 20_000
    assert abs(share - 0.2) < 0.012  # four standard errors
