"""Copies stay with their reader: alone as in company, below the cap, and never under another."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_outlets import new_ledger

from presspool.client.data.care.import_care import ImportCare
from presspool.client.data.care.own_copies import OwnCopies, OwnCopy
from presspool.client.data.snapshots import SNAPSHOT, freeze
from presspool.client.identity.care_table import AugmentTable, CareTable
from presspool.common.base.errors import InputError
from presspool.common.data.tables import Columns

Row = tuple[str, str, str]
TABLE = AugmentTable(most_records=4, copies=2, typos=True)
TEXTS = ["Gold rises", "Gold rises", "cup final tonight", "金牌", "to be", "The vote was late"]
Rows = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(TEXTS), st.sampled_from(["news", "sport"])),
    max_size=14,
)


def made(rows: Sequence[Row], table: AugmentTable = TABLE) -> list[OwnCopy]:
    own = OwnCopies(table)
    for row in rows:
        own.note(*row)
    return list(own.made())


def require_own(rows: Sequence[Row], copies: Sequence[OwnCopy]) -> None:
    """Each reader's copies are those that they would have had alone."""
    for reader in {row[0] for row in rows} | {copy.reader for copy in copies}:
        alone = made([row for row in rows if row[0] == reader])
        assert alone == [copy for copy in copies if copy.reader == reader]


@settings(max_examples=200)
@given(Rows)
def test_a_reader_s_copies_are_made_of_that_reader_s_records_alone(rows: list[Row]) -> None:
    require_own(rows, made(rows))


@settings(max_examples=200)
@given(Rows, st.integers(2, 6), st.integers(1, 3))
def test_the_cap_holds_and_no_copy_is_said_twice(rows: list[Row], most: int, each: int) -> None:
    copies = made(rows, AugmentTable(most_records=most, copies=each, typos=True))
    own, added = Counter(row[0] for row in rows), Counter(copy.reader for copy in copies)
    for reader, count in added.items():
        assert own[reader] + count <= most
        assert count <= each * own[reader]
    said = {(row[0], row[1]) for row in rows}
    new = [(copy.reader, copy.text) for copy in copies]
    assert len(set(new)) == len(new)
    assert said.isdisjoint(new)


def test_a_copy_keeps_its_record_s_label() -> None:
    copies = made([("a", "Gold rises", "news"), ("a", "Cup final", "sport")])
    assert [copy.label for copy in copies] == ["news", "sport"]


def test_a_copy_filed_under_another_reader_is_caught() -> None:
    """The planted mistake: copies go to whoever was read last."""

    class Misfiled(OwnCopies):
        def note(self, reader: str, text: str, label: str) -> None:
            super().note(reader, text, label)
            self.last = reader

        def made(self) -> Iterator[OwnCopy]:
            for copy in super().made():
                yield OwnCopy(reader=self.last, text=copy.text, label=copy.label, how=copy.how)

    rows = [("a", "Gold rises", "news"), ("b", "Cup final", "sport")]
    own = Misfiled(TABLE)
    for row in rows:
        own.note(*row)
    copies = list(own.made())
    assert len(copies) == 2
    with pytest.raises(AssertionError):
        require_own(rows, copies)


def written(rows: Sequence[Row]) -> str:
    return "reader,text,label,seen\n" + "".join(",".join((*r, "2026-01-05")) + "\n" for r in rows)


ROWS: list[Row] = [
    ("ann", "Gold rises", "news"),
    ("bob", "cup final tonight", "sport"),
    ("bob", "The vote was late", "news"),
]


@settings(max_examples=30, deadline=None)
@given(Rows.filter(bool))
def test_one_reader_s_presence_changes_no_other_reader_s_snapshot(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row]
) -> None:
    """The neighbouring data set: all records of one reader are added."""
    folder = tmp_path_factory.mktemp("neighbours")

    def frozen(told: Sequence[Row]) -> list[dict[str, str]]:
        (folder / "data.csv").write_text(written(told))
        care = CareTable(augment=TABLE, duplicates="near")
        freeze(
            folder / "data.csv",
            folder / SNAPSHOT,
            columns=Columns(),
            kept=("text", "label"),
            care=care,
        )
        found: list[dict[str, str]] = pq.read_table(folder / SNAPSHOT).to_pylist()
        return found

    both = [row for each in rows for row in (each, ("new", *each[1:]))]
    assert [r for r in frozen(both) if r["reader"] != "new"] == frozen(rows)


@pytest.fixture
def outlet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(tmp_path)
    Path("data.csv").write_text(written(ROWS))
    Path("own.tsv").write_text("Gold rises\tBullion is up\n")
    return typed(monkeypatch, capsys, "outlet", width=100)


def settings_with(augment: str, data: str = 'data = "data.csv"\n') -> None:
    Path("outlet.toml").write_text(
        f'name = "o"\n{data}[care]\nday = "seen"\n[care.augment]\n{augment}\n'
    )


def test_import_and_check_data_count_the_copies(outlet: Command) -> None:
    settings_with('most_records = 3\ntypos = true\nparaphrases = "own.tsv"')
    said = outlet("import", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["copied"] == {"paraphrase": 1, "typo": 1}
    rows = pq.read_table(SNAPSHOT).to_pylist()
    assert Counter(row["reader"] for row in rows) == {"ann": 2, "bob": 3}
    assert rows[3] == {"reader": "ann", "text": "Bullion is up", "label": "news", "day": ""}
    assert [row["day"] for row in rows] == ["2026-01-05"] * 3 + [""] * 2
    looked = outlet("check-data", SNAPSHOT, "--json")
    assert json.loads(looked.out)["copied"] == {"paraphrase": 1, "typo": 1}
    assert json.loads(outlet("check-data", "data.csv", "--json").out)["copied"] == {}
    assert "copies by typo, among them" in outlet("check-data", SNAPSHOT).out
    assert "copies among them: 1 by paraphrase" in outlet("import").out


def test_an_erased_reader_s_copies_are_erased(outlet: Command) -> None:
    settings_with("most_records = 3\ntypos = true")
    new_ledger(Path("ledger.db"))
    assert outlet("import").code == 0
    said = outlet("erase", "ann")
    assert said.code == 0, said.err
    assert {row["reader"] for row in pq.read_table(SNAPSHOT).to_pylist()} == {"bob"}


def test_a_ledger_of_records_takes_no_copies(outlet: Command) -> None:
    settings_with("most_records = 3\ntypos = true")
    refused = outlet("budget", "init", "--unit", "record", "--new-key")
    assert refused.code == 2
    assert "a record would be there several times" in refused.err
    new_ledger(Path("ledger.db"), unit="record")
    refused = outlet("import")
    assert refused.code == 2
    assert "[care.augment]" in refused.err
    assert "the ledger protects single records" in " ".join(refused.err.split())
    assert not Path(SNAPSHOT).exists()


def test_copies_stay_below_the_cap_that_the_ledger_tells() -> None:
    care = CareTable(augment=TABLE)
    care.require_cap(None)
    care.require_cap(4)
    with pytest.raises(InputError, match="above the cap of \\[data\\]"):
        care.require_cap(3)


@pytest.mark.parametrize(
    ("augment", "named"),
    [
        ("most_records = 3", "one of typos, synonyms and paraphrases"),
        ("most_records = 1\ntypos = true", "[care.augment] most_records"),
        ("typos = true", "[care.augment] most_records"),
        ('most_records = 3\nsynonyms = "absent.tsv"', "absent.tsv"),
    ],
)
def test_a_wrong_table_is_named(outlet: Command, augment: str, named: str) -> None:
    settings_with(augment)
    refused = outlet("import")
    assert refused.code == 2
    assert named in " ".join(refused.err.split())
    assert "Traceback" not in refused.err
    assert not Path(SNAPSHOT).exists()


@pytest.mark.parametrize("columns", [["text"], ["text", "spans"], ["prompt", "answer"]])
def test_texts_that_are_to_be_said_have_no_copies(columns: list[str]) -> None:
    with pytest.raises(InputError, match="a text and its label"):
        ImportCare(CareTable(augment=TABLE), ["reader", *columns])
