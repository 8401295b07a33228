"""What `presspool serve --registry` lays out, and what it refuses to."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.made_evidence import made_contract
from tests.fakes.registry.made_registry import (
    MOVE,
    OVERRIDE,
    MadeRegistry,
    finished,
    make_registry,
)

from presspool.common.base.errors import EvidenceError, InputError, RollbackError
from presspool.common.transparency.checkpoints import parse_proof
from presspool.server.registry.adapter_registry import AdapterRegistry
from presspool.server.registry.intake import read_run
from presspool.server.registry.object_store import ObjectStore
from presspool.server.registry.registry_entry import blob_file
from presspool.server.registry.registry_keys import RegistryKeys
from presspool.server.registry.stage_records import Shelved, parse_record
from presspool.server.serving.registered_adapters import registered
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeRegistry:
    (tmp_path / "places").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "places"))
    return make_registry(tmp_path)


def _weights(folder: Path) -> bytes:
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def test_what_is_in_production_is_served_and_a_candidate_by_its_name_alone(
    made: MadeRegistry, tmp_path: Path
) -> None:
    used, newer = made.promoted(0), made.add(1)
    with registered(made.url, []) as found:
        assert [name for name, _ in found.adapters] == [used.name]
        assert _weights(found.adapters[0][1]) == b"weights of run 0"
    with registered(made.url, [newer.title]) as found:
        assert _weights(found.adapters[0][1]) == b"weights of run 1"
        assert list((tmp_path / "places").iterdir())
    assert not list((tmp_path / "places").iterdir())


def test_nothing_in_production_is_said_and_so_is_an_unknown_name(made: MadeRegistry) -> None:
    made.add(0)
    with pytest.raises(InputError, match="nothing is in production"), registered(made.url, []):
        pass
    with pytest.raises(InputError, match="no such adapter"), registered(made.url, ["sports"]):
        pass


def test_a_registry_is_held_against_what_is_known_of_it(made: MadeRegistry, tmp_path: Path) -> None:
    made.promoted(0)
    (tmp_path / "other").mkdir()
    other = make_registry(tmp_path / "other")
    head = made.open().log.head
    assert head is not None
    (tmp_path / "head").write_bytes(head.encode())
    own, theirs = (Path(one.url) / "registry.json" for one in (made, other))
    with registered(made.url, [], known=own, head=tmp_path / "head") as found:
        assert len(found.adapters) == 1
    with (
        pytest.raises(EvidenceError, match="another registry"),
        registered(made.url, [], known=theirs),
    ):
        pass
    last = sorted((Path(made.url) / "log").iterdir())[-1]
    last.unlink()
    with (
        pytest.raises(RollbackError, match="lost its end"),
        registered(made.url, ["topics@1"], head=tmp_path / "head"),
    ):
        pass


def test_what_was_not_signed_is_not_served(made: MadeRegistry, tmp_path: Path) -> None:
    one, other = made.promoted(0), made.add(1)
    signatures = Path(made.url) / "signatures"
    files = {path for path in signatures.rglob("*") if path.is_file()}
    (mine,) = [path for path in files if one.entry[7:] in path.name]
    (theirs,) = [path for path in files if other.entry[7:] in path.name]
    mine.chmod(0o600)
    mine.write_bytes(theirs.read_bytes())
    with pytest.raises(EvidenceError), registered(made.url, []):
        pass
    assert not list((tmp_path / "places").iterdir())


@pytest.fixture
def real(made: MadeRegistry, contract_body: dict[str, Any]) -> MadeRegistry:
    """A registry whose first three runs have adapters that can be served."""
    for number in range(3):
        tables = {key: contract_body[key] for key in ("model", "task", "adapter")}
        desk = made.folder / f"desk-{number}"
        finished(desk, number, made_contract(seed=number, **tables), real=True)
    return made


def _moved(made: MadeRegistry, action: Any, one: Shelved) -> None:
    opened = made.open()
    opened.move(action, opened.shelves.entries[one.entry], made.keys, MOVE)


def test_what_is_promoted_rolled_back_to_and_retired_is_followed(real: MadeRegistry) -> None:
    first, told = real.promoted(0), list[str]()
    with registered(real.url, []) as found, registered(real.url, ["topics@1"]) as chosen:
        shelf, other = AdapterShelf.of(found.adapters), AdapterShelf.of(chosen.adapters)
        weights = shelf.get("topics").provenance.adapter

        def look() -> list[str]:
            for one, where in ((found, shelf), (chosen, other)):
                one.look(where, lambda adapter: told.append(adapter.provenance.adapter))
            return [one.provenance.adapter for one in shelf]

        second = real.add(1)
        real.promote(second.title, MOVE)
        assert look() == [weights]
        real.promote(second.title, OVERRIDE)
        (now,) = look()
        assert now != weights
        assert other.get("topics").provenance.adapter == weights  # somebody chose it
        assert shelf.get("topics").provenance.overrides
        _moved(real, "rollback", first)
        assert look() == [weights]
        assert told == [now, weights]
        _moved(real, "retire", first)
        assert (look(), [*other]) == ([], [])
        assert look() == []
        third = real.add(2)
        for move in (MOVE, OVERRIDE):
            real.promote(third.title, move)
        assert look() != []  # where nothing was in use any more


def test_an_override_of_what_is_served_is_told_from_then_on(real: MadeRegistry) -> None:
    one = real.add(0)
    with registered(real.url, [one.title]) as found:
        shelf = AdapterShelf.of(found.adapters)
        assert not shelf.get("topics").provenance.overrides
        for move in (MOVE, OVERRIDE):
            real.promote(one.title, move)
        found.look(shelf, lambda _: None)
        (said,) = shelf.get("topics").provenance.overrides
        assert OVERRIDE.by in said


def test_what_one_move_ends_in_keeps_no_other_from_being_followed(real: MadeRegistry) -> None:
    real.promoted(0)
    german = read_run(real.run(1), language="de", task=None, ledgers={})
    evening = real.open().add(german, real.keys, MOVE, name="abends")
    for move in (MOVE, OVERRIDE):
        real.promote(evening.title, move)
    with registered(real.url, []) as found:
        shelf = AdapterShelf.of(found.adapters)
        assert {one.name for one in shelf} == {"topics", "abends"}
        damaged = real.promoted(2)
        weights = real.open().entry(damaged.entry).files["adapter/adapter_model.safetensors"].sha256
        blob = Path(real.url) / blob_file(weights)
        blob.chmod(0o600)
        blob.write_bytes(b"other")
        _moved(real, "retire", evening)
        for _ in range(2):
            with pytest.raises(EvidenceError):
                found.look(shelf, lambda _: None)
            assert [one.name for one in shelf] == ["topics"]


def _taken_over(made: MadeRegistry, folder: Path) -> None:
    """The host signs the same log with keys of its own, and puts an adapter of its own into use."""
    logged = Path(made.url) / "log"
    proofs = [parse_proof(one.read_bytes()) for one in sorted(logged.iterdir())]
    shutil.rmtree(logged)
    (Path(made.url) / "registry.json").unlink()
    keys = RegistryKeys.made(folder, name="newsroom")
    log = AdapterRegistry.create(ObjectStore(made.url), keys, name="newsroom").log
    for proof in proofs:
        log = log.append(parse_record(proof.extra), keys.log)
    host = replace(made, keys=keys)
    title = host.add(1).title
    for move in (MOVE, OVERRIDE):
        host.promote(title, move)


def test_a_host_that_signs_the_same_log_anew_is_not_followed(
    real: MadeRegistry, tmp_path: Path
) -> None:
    real.promoted(0)
    with registered(real.url, []) as found:
        shelf = AdapterShelf.of(found.adapters)
        before = [*shelf]
        _taken_over(real, tmp_path / "theirs")
        with registered(real.url, []) as theirs:  # nothing else tells
            assert [name for name, _ in theirs.adapters] == ["topics"]
        with pytest.raises(EvidenceError, match="another registry"):
            found.look(shelf, lambda _: None)
        assert [*shelf] == before


def test_a_registry_that_cannot_be_followed_changes_nothing_and_is_said(
    real: MadeRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    real.promoted(0)
    with registered(real.url, []) as found:
        shelf = AdapterShelf.of(found.adapters)
        last = sorted((Path(real.url) / "log").iterdir())[-1]
        kept = last.read_bytes()
        last.unlink()
        with found.followed(shelf, lambda _: None, 0.01):
            while "or has lost its end" not in caplog.text:
                time.sleep(0.01)
            assert shelf.holds("topics")
            last.write_bytes(kept)
            _moved(real, "retire", real.open().shelves.find("topics"))
            while "topics@1 is retired" not in caplog.text:  # said after it is taken away
                time.sleep(0.01)
            assert not shelf.holds("topics")
    assert "topics@1 is retired; served in its place: nothing" in caplog.text
