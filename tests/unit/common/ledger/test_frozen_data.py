"""What a ledger says of frozen data hides all of it, and binds the outlet to it."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_ledgers import SIGNER
from tests.fakes.made_outlets import new_ledger

from presspool.client.data.query_sources import opened
from presspool.client.data.snapshots import SNAPSHOT, freeze, require_declared
from presspool.client.identity.data_table import DataTable
from presspool.common.base.errors import EvidenceError, InputError, LedgerError, RollbackError
from presspool.common.data.rows_digest import RowsDigest, digest_of
from presspool.common.data.tables import Columns
from presspool.common.ledger import entries, frozen_data
from presspool.common.ledger.export import export
from presspool.common.ledger.frozen_data import DataFrozen, Opening, entry_of, opening_in
from presspool.common.ledger.store import Ledger
from presspool.common.transparency.checkpoints import Checkpoint

ALL = [("ann", "Gold", "sport"), ("bob", "Vote", "news"), ("cat", "Cup", "sport")]
NAMES = ("reader", "text", "label")


def frozen(folder: Path, rows: list[tuple[str, str, str]]) -> DataFrozen:
    """The ledger's entry of an import of these rows; all else is the same."""
    folder.mkdir(exist_ok=True)
    pq.write_table(
        pa.table(dict(zip(NAMES, zip(*rows, strict=True), strict=True))), folder / "d.parquet"
    )
    ledger = folder / "ledger.db"
    table = DataTable(source="parquet", location="d.parquet")
    with (
        opened(table, folder) as source,
        Ledger(ledger if ledger.exists() else new_ledger(ledger)) as book,
    ):
        made = freeze(
            source,
            folder / SNAPSHOT,
            columns=Columns(),
            kept=NAMES[1:],
            declare=partial(book.freeze_data, head=None),
        )
        require_declared(made, folder / SNAPSHOT, book.book.frozen)
        (*_, body) = book.bodies(0, book.book.size)
        entry = entries.parse_entry(body)
        assert isinstance(entry, DataFrozen)
        return entry


# --- A stranger who knows all but one reader ------------------------------------------------------


def nothing_in_the_ledger_tells_who_is_there(folder: Path) -> None:
    """Whatever a stranger can compute of either data set: no field of the entry is it.

    The same data twice gives two commitments, so that none is a function of the data.
    """
    said = [frozen(folder / str(i), rows) for i, rows in enumerate((ALL, ALL, ALL[:2]))]
    assert len({entry.commitment for entry in said}) == 3
    forms = [entry.model_dump(exclude={"commitment"}) for entry in said]
    assert forms[0] == forms[1] == forms[2]
    for entry, rows in zip(said, (ALL, ALL, ALL[:2]), strict=True):
        assert len(entry.canonical()) == len(said[0].canonical())
        digest = RowsDigest(NAMES)
        digest.add([pa.array(column) for column in zip(*rows, strict=True)])
        guesses = [digest.value, frozen_data.commitment(b"", digest.value)]
        guesses += [frozen_data.commitment(bytes(32), digest.value)]
        assert not {*entry.model_dump().values()} & {*guesses}


def test_the_entry_tells_nothing_of_the_data(tmp_path: Path) -> None:
    nothing_in_the_ledger_tells_who_is_there(tmp_path)


@pytest.mark.parametrize("mistake", ["plain digest", "fixed nonce", "digest of the nonce's place"])
def test_a_planted_digest_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    if mistake == "fixed nonce":
        monkeypatch.setattr(secrets, "token_hex", lambda size: "00" * size)
    else:
        keep: Callable[[bytes, str], str] = {
            "plain digest": lambda _nonce, digest: digest,
            "digest of the nonce's place": lambda _nonce, digest: (
                "sha256:" + hashlib.sha256(bytes.fromhex(digest[7:])).hexdigest()
            ),
        }[mistake]
        monkeypatch.setattr(frozen_data, "commitment", keep)
    with pytest.raises(AssertionError):
        nothing_in_the_ledger_tells_who_is_there(tmp_path)


# --- A kill, and a refusal, in between ------------------------------------------------------------


def test_an_import_that_ends_between_entry_and_snapshot_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen(tmp_path, ALL)
    old = (tmp_path / SNAPSHOT).read_bytes()
    monkeypatch.setattr(Path, "replace", _killed)
    with pytest.raises(KeyboardInterrupt):
        frozen(tmp_path, ALL[:2])
    assert (tmp_path / SNAPSHOT).read_bytes() == old
    with Ledger(tmp_path / "ledger.db") as ledger:  # the spare entry speaks of nothing that is used
        found = [entries.parse_entry(body) for body in ledger.bodies(1, ledger.book.size)]
    assert [entry.kind for entry in found] == ["data-frozen"] * 2
    written = [entry for entry in found if isinstance(entry, DataFrozen)]
    assert entry_of(opening_in(tmp_path / SNAPSHOT), written) == written[0]


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_ledger_that_refuses_leaves_the_old_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen(tmp_path, ALL)
    old = (tmp_path / SNAPSHOT).read_bytes()
    monkeypatch.setattr(Ledger, "freeze_data", _refused)
    with pytest.raises(LedgerError):
        frozen(tmp_path, ALL[:2])
    assert sorted(path.name for path in tmp_path.glob("*snapshot*")) == [SNAPSHOT]
    assert (tmp_path / SNAPSHOT).read_bytes() == old


def _refused(*_: object, **__: object) -> None:
    raise LedgerError("busy")


def test_an_older_copy_of_the_ledger_takes_no_entry(tmp_path: Path) -> None:
    """It would be a second history beside the head that the pool has."""
    path = new_ledger(tmp_path / "ledger.db")
    old = path.read_bytes()
    frozen(tmp_path, ALL)
    opening = opening_in(tmp_path / SNAPSHOT)
    with Ledger(path) as ledger:
        head = Checkpoint.parse(ledger.checkpoint(SIGNER).text)
        ledger.freeze_data(opening, head=head)
    path.write_bytes(old)
    with Ledger(path) as ledger, pytest.raises(RollbackError, match="older than a head"):
        ledger.freeze_data(opening, head=head)


# --- Opening it -----------------------------------------------------------------------------------


def test_the_digest_hangs_on_rows_and_columns_and_not_on_batches(tmp_path: Path) -> None:
    values = ["a", "", None, "bc", "ä"]
    seen = set()
    for cut in range(6):
        digest = RowsDigest(["x", "y"])
        for part in (slice(cut), slice(cut, None)):
            whole = pa.array(["zz", *values]).slice(1)  # an offset of its own
            digest.add([whole[part], pa.array(values[::-1])[part]])
        seen.add(digest.value)
    assert len(seen) == 1
    pq.write_table(pa.table({"x": values, "y": values[::-1]}), tmp_path / "t.parquet")
    assert digest_of(tmp_path / "t.parquet") in seen
    for other in itertools.product(
        (["ab", "c"], ["a", "bc"], ["abc", None], ["abc", ""]), repeat=2
    ):
        digest = RowsDigest(["x", "y"])
        digest.add([pa.array(column, pa.string()) for column in other])
        assert digest.value not in seen
        seen.add(digest.value)


@pytest.mark.parametrize("key", ["query", "source", "window", "consent", "most_records"])
def test_an_entry_that_says_another_thing_than_the_snapshot(tmp_path: Path, key: str) -> None:
    entry = frozen(tmp_path, ALL)
    opening = opening_in(tmp_path / SNAPSHOT)
    assert entry_of(opening, [entry]) == entry
    other = {
        "query": "SELECT 1",
        "source": "duckdb",
        "window": ("2026-01-01", "2026-02-01"),
        "consent": "true",
        "most_records": 2,
    }
    with pytest.raises(EvidenceError, match=f"another {key}"):
        entry_of(opening.model_copy(update={key: other[key]}), [entry])


def test_another_snapshot_or_a_files_opens_nothing(tmp_path: Path) -> None:
    entry = frozen(tmp_path / "a", ALL)
    frozen(tmp_path / "b", ALL)
    with pytest.raises(EvidenceError, match="no entry of this snapshot"):
        entry_of(opening_in(tmp_path / "b" / SNAPSHOT), [entry])
    freeze(tmp_path / "a" / "d.parquet", tmp_path / SNAPSHOT, columns=Columns(), kept=NAMES[1:])
    for path in (tmp_path / SNAPSHOT, tmp_path / "a" / "d.parquet", tmp_path / "nothing"):
        with pytest.raises(InputError, match="no snapshot that a ledger speaks of"):
            opening_in(path)


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Types `presspool audit …`."""
    return typed(monkeypatch, capsys, "audit", width=200)


def exported(folder: Path) -> Path:
    stream = io.BytesIO()
    with Ledger(folder / "ledger.db") as ledger:
        export(ledger, stream, signer=SIGNER, witnesses=[])
    (folder / "o.export").write_bytes(stream.getvalue())
    return folder / "o.export"


def test_an_auditor_at_the_outlet_opens_the_entry_and_sees_an_erasure(
    tmp_path: Path, audit: Command
) -> None:
    entry = frozen(tmp_path, ALL)
    file, snapshot = exported(tmp_path), tmp_path / SNAPSHOT
    said = audit("verify", file, "--snapshot", snapshot)
    assert said.code == 0, said.err
    assert f"opens entry {entry.seq}" in said.out
    assert "from parquet, all days, no consent asked for, all records" in said.out
    assert "the ones that were frozen" in said.out
    page = tmp_path / "report.html"
    assert audit("report", file, "--output", page).code == 0
    assert entry.commitment[7:19] in page.read_text(encoding="utf-8")
    table, kept = pq.read_table(snapshot), pq.read_metadata(snapshot).metadata
    less = table.slice(1).replace_schema_metadata(None)
    with pq.ParquetWriter(snapshot, less.schema) as writer:
        writer.write_table(less)
        writer.add_key_value_metadata({frozen_data.FOOTER: kept[frozen_data.FOOTER]})
    document = json.loads(audit("verify", file, "--snapshot", snapshot, "--json").out)
    assert document["snapshot"]["rows_unchanged"] is False
    frozen(tmp_path, ALL)
    said = audit("verify", file, "--snapshot", snapshot)
    assert said.code == 1
    assert "no entry of this snapshot" in said.err
    assert audit("verify", file, "--snapshot", file).code == 2


def test_an_opening_has_no_other_shape() -> None:
    with pytest.raises(ValueError, match="nonce"):
        Opening(nonce="0", digest="sha256:" + "0" * 64, source="duckdb", query="")
