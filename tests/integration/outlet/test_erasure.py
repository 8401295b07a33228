"""A reader's right, end to end: at a real outlet, between two rounds of a real run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.conftest import REPOSITORY
from tests.fakes.instruments import detectors
from tests.fakes.instruments.detectors import Bench, ask, subset, task_of, write_data, write_outlet
from tests.fakes.made_ledgers import SIGNER
from tests.fakes.made_outlets import RealOutlet, make_real, take_snapshot

from presspool.cli import app as cli
from presspool.client import client_app
from presspool.client.data import eligibility
from presspool.client.data.snapshots import SNAPSHOT, manifest_of
from presspool.client.data.suppression_list import SuppressionList
from presspool.common.base.console import guarded
from presspool.common.contract.contract import parse_contract
from presspool.common.ledger.export import export
from presspool.common.ledger.store import Ledger
from presspool.common.models.adapters import State
from presspool.common.models.frozen_trunk import FrozenTrunk
from presspool.common.wire.flower import to_bytes
from presspool.common.wire.update import pack_task, unpack_update

READER = "r4"


@pytest.fixture(scope="module")
def bench(contract_body: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench.of(parse_contract(contract_body), tmp_path_factory.mktemp("bench"))


@pytest.fixture
def outlet(bench: Bench, tmp_path: Path) -> RealOutlet:
    """An outlet of 12 readers, r0 to r11, in a folder of its own."""
    data = tmp_path / "good.parquet"
    data.write_bytes(write_data(bench, bench.readers).read_bytes())
    settings = tmp_path / "outlet.toml"
    settings.write_text(write_outlet(bench, data).read_text(encoding="utf-8"))
    return make_real(settings, bench.contract, trial=True)


def erase(outlet: RealOutlet, *options: str, reader: str = READER) -> int:
    home = outlet.settings.parent
    arguments = ["outlet", "erase", reader, "--home", str(home), *options]
    try:
        return guarded(lambda: cli(arguments))
    except SystemExit as stop:
        return int(str(stop.code))


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """The document of `presspool outlet erase … --json`."""

    def run(outlet: RealOutlet, *options: str, code: int = 0) -> dict[str, Any]:
        assert erase(outlet, "--json", *options) == code
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert f'"{READER}"' not in json.dumps(document)
        return document

    return run


def answer(bench: Bench, outlet: RealOutlet, number: int) -> tuple[State, bytes]:
    reply = ask(outlet.settings, pack_task(task_of(bench, round=number)), loopback=True)
    assert reply.has_content(), reply
    return unpack_update(reply.content).delta, to_bytes(reply.content)


def data_of(outlet: RealOutlet) -> Path:
    return outlet.settings.parent / "good.parquet"


def snapshot_of(outlet: RealOutlet) -> Path:
    return outlet.ledger.parent / SNAPSHOT


def an_erased_reader_is_in_no_later_round(bench: Bench, outlet: RealOutlet) -> None:
    """Round 2 is, bit for bit, that of an outlet that never had the reader; b is as before."""
    untouched = data_of(outlet).read_bytes()
    answer(bench, outlet, 1)
    assert erase(outlet) == 0
    data_of(outlet).write_bytes(untouched)  # the next export brings the reader back
    assert READER not in pq.read_table(take_snapshot(outlet.settings))["reader"].to_pylist()
    found, _ = answer(bench, outlet, 2)
    others = subset(bench.readers, [i for i in range(12) if f"r{i}" != READER])
    expected = detectors.train(bench, others, round=2)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    with_reader = detectors.train(bench, bench.readers, round=2)
    assert any((found[name] != with_reader[name]).any() for name in expected)


def test_an_erased_reader_is_in_no_later_round(bench: Bench, outlet: RealOutlet) -> None:
    an_erased_reader_is_in_no_later_round(bench, outlet)


def excluded_by_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SuppressionList, "excluded", lambda _: frozenset())


def read_once_and_kept(patch: pytest.MonkeyPatch) -> None:
    """The readers of the first round are kept for all, as a simulation's worker does."""
    kept: list[Any] = []

    def once(*arguments: Any) -> Any:
        kept or kept.append(eligibility.eligible(*arguments))  # type: ignore[func-returns-value]
        return kept[0]

    patch.setattr(client_app, "eligible", once)


@pytest.mark.parametrize("plant", [excluded_by_nobody, read_once_and_kept])
def test_planted_mistake_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], bench: Bench, outlet: RealOutlet
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        with pytest.raises(AssertionError):
            an_erased_reader_is_in_no_later_round(bench, outlet)


def test_the_runs_and_adapters_concerned_are_listed(
    bench: Bench, outlet: RealOutlet, said: Callable[..., dict[str, Any]]
) -> None:
    assert said(outlet, "--dry-run")["runs"] == []
    answer(bench, outlet, 1)
    (run,) = said(outlet, "--dry-run")["runs"]
    assert (run["run"], run["rounds_released"]) == (bench.contract.digest, [1])
    assert run["adapters"] == []  # what came in for round 1 holds nothing of this outlet
    state = {name: array + 0.01 for name, array in bench.state.items()}
    ask(outlet.settings, pack_task(task_of(bench, round=2, state=state)), loopback=True)
    document = said(outlet)
    (run,) = document["runs"]
    assert run["rounds_released"] == [1, 2]
    (adapter,) = run["adapters"]
    received = [e for e in outlet.entries() if e.kind == "adapter-received"]
    assert adapter == {"round": 2, "digest": received[1].digest}
    assert document["runs_nobody_noted"] == []
    assert [file["removed"] for file in document["files"]] == [True, True]
    for file in document["files"]:
        assert READER not in pq.read_table(file["file"])["reader"].to_pylist()
    assert manifest_of(snapshot_of(outlet)).records == bench.readers.records  # as it was imported
    assert "does not remove it" in document["statement"]
    assert "no budget comes back" in document["statement"]


def test_a_run_that_nobody_noted_is_named(
    bench: Bench, outlet: RealOutlet, said: Callable[..., dict[str, Any]]
) -> None:
    (outlet.ledger.parent / "private").write_text("in the way")
    answer(bench, outlet, 1)
    (outlet.ledger.parent / "private").unlink()
    document = said(outlet)
    assert document["runs"] == []
    assert [run["run"] for run in document["runs_nobody_noted"]] == [bench.contract.digest]


def test_a_register_that_fails_changes_no_byte_of_the_answer(
    bench: Bench, outlet: RealOutlet
) -> None:
    (outlet.ledger.parent / "private").write_text("in the way")
    found, _ = answer(bench, outlet, 1)
    expected = detectors.train(bench, bench.readers)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_the_ledger_and_all_that_leaves_know_nothing_of_it(
    bench: Bench, outlet: RealOutlet
) -> None:
    """Not an id, nor its keyed hash: in the reply, the export, the ledger or any other file."""
    _, first = answer(bench, outlet, 1)
    before = outlet.entries()
    spent = outlet.ledger.read_bytes()
    assert erase(outlet, reader="r11") == 0
    assert outlet.entries() == before
    assert outlet.ledger.read_bytes() == spent
    _, second = answer(bench, outlet, 2)
    file = outlet.settings.parent / "outlet.export"
    with Ledger(outlet.ledger) as ledger, file.open("wb") as stream:
        export(ledger, stream, signer=SIGNER, witnesses=[])
    private = outlet.ledger.parent / "private"
    tags = SuppressionList(private).tags([f"r{i}" for i in range(12)])
    marks = [b"r11", *tags, *(tag.hex().encode() for tag in tags)]
    places = {
        str(p): p.read_bytes()
        for p in outlet.settings.parent.rglob("*")
        if p.is_file() and private not in p.parents and p != data_of(outlet)
    }
    assert str(file) in places
    places |= {"reply 1": first, "reply 2": second}
    for place, content in places.items():
        assert not any(mark in content for mark in marks), place
    for path in private.rglob("*"):
        assert b"r11" not in (path.read_bytes() if path.is_file() else b""), path


def test_what_the_process_remembers_of_the_texts_goes_too(bench: Bench, outlet: RealOutlet) -> None:
    rows = pq.read_table(data_of(outlet)).to_pylist()
    theirs = {row["text"] for row in rows if row["reader"] == READER}
    others = {row["text"] for row in rows if row["reader"] != READER}
    assert theirs - others
    cache = client_app._compute.activations
    cache.get(FrozenTrunk(bench.model, bench.contract), sorted(theirs | others))
    answer(bench, outlet, 1)
    assert theirs | others <= set(cache.texts)
    assert erase(outlet) == 0
    answer(bench, outlet, 2)
    assert set(cache.texts) == others


# --- What the operator sees ----------------------------------------------------------------------


def test_it_says_in_words_what_was_done(
    bench: Bench, outlet: RealOutlet, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        answer(bench, outlet, number)
    assert erase(outlet, "--dry-run") == 0
    dry = capsys.readouterr().out
    assert "would be left out of every round" in dry
    assert "would be removed in " in dry
    assert not (outlet.ledger.parent / "private" / "excluded").exists()
    assert erase(outlet) == 0
    text = capsys.readouterr().out
    assert "is left out of every round begun from now on\n" in text
    assert "all others are as they were" in text
    assert f"could have been drawn in {bench.contract.digest}" in text
    assert "(round 2 began with it)" in text
    assert "the run's final adapter, which its coordinator names" in text
    assert "no budget comes back" in text
    assert erase(outlet) == 0
    again = capsys.readouterr().out
    assert "(and was before)" in again
    assert "should it come back in a later export, it is left out" in again


def test_a_file_that_stays_is_exit_code_1_and_the_exclusion_holds(
    bench: Bench, outlet: RealOutlet, capsys: pytest.CaptureFixture[str]
) -> None:
    data_of(outlet).chmod(0o444)
    assert erase(outlet) == 1
    text = capsys.readouterr().out
    assert "NOT REMOVED" in text
    assert "the file is read-only" in text
    found, _ = answer(bench, outlet, 1)
    others = subset(bench.readers, [i for i in range(12) if f"r{i}" != READER])
    expected = detectors.train(bench, others)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_a_file_that_cannot_be_read_is_exit_code_1(
    outlet: RealOutlet, capsys: pytest.CaptureFixture[str]
) -> None:
    data_of(outlet).unlink()
    assert erase(outlet) == 0  # the snapshot is all that is left
    snapshot_of(outlet).unlink()
    assert erase(outlet) == 1
    assert "Only the exclusion holds" in capsys.readouterr().out


def test_unreadable_records_are_pointed_at(
    outlet: RealOutlet, capsys: pytest.CaptureFixture[str]
) -> None:
    path = data_of(outlet).with_suffix(".csv")
    path.write_text(f"reader,text,label\n{READER},x,a\n{READER},too,many,columns\n")
    settings = outlet.settings.read_text().replace("good.parquet", "good.csv")
    outlet.settings.write_text(settings)
    assert erase(outlet) == 0
    assert "1 record cannot be read and stays" in capsys.readouterr().out


def test_an_id_can_come_by_standard_input(
    outlet: RealOutlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO(f"{READER}\n"))
    assert erase(outlet, reader="-") == 0
    assert READER not in pq.read_table(data_of(outlet))["reader"].to_pylist()


@pytest.mark.parametrize("reader", ["", "  "])
def test_nobody_is_bad_input(reader: str, outlet: RealOutlet) -> None:
    before = data_of(outlet).read_bytes()
    assert erase(outlet, reader=reader) == 2
    assert data_of(outlet).read_bytes() == before
    assert not (outlet.ledger.parent / "private").exists()


def test_help_and_guide_show_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli(["outlet", "erase", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "Example: presspool outlet erase" in said
    assert "bounds a reader's influence and does not remove it" in said
    guide = (REPOSITORY / "docs" / "guides" / "outlet.md").read_text(encoding="utf-8")
    assert "presspool outlet erase" in guide
