"""The registry: what it takes, who is in use, and what a move needs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes.registry.made_registry import MOVE, OVERRIDE, MadeRegistry, make_registry, passed

from presspool.common.base.errors import (
    BusyError,
    EvidenceError,
    FolderError,
    InputError,
    RollbackError,
)
from presspool.common.released.adapter_folder import read_adapter
from presspool.server.registry.adapter_registry import Move
from presspool.server.registry.intake import read_run
from presspool.server.registry.object_store import sha256
from presspool.server.registry.registry_entry import StoredFile, signature_file
from presspool.server.registry.registry_keys import RegistryKeys
from presspool.server.registry.registry_verdict import differences, hand_out, verified
from presspool.server.registry.unnamed_files import unnamed
from presspool.server.serving.shelf.provenance import Provenance

SLOT = ("classification", "en")


@pytest.fixture
def made(tmp_path: Path) -> MadeRegistry:
    return make_registry(tmp_path)


def test_from_a_run_to_production_and_back(made: MadeRegistry) -> None:
    first = made.add()
    assert (first.title, first.stage, first.slot) == ("topics@1", "candidate", SLOT)
    assert made.promote("topics@1", MOVE).stage == "staging"
    assert made.promote("topics@1", OVERRIDE).stage == "production"
    second = made.promoted(1)
    assert (second.title, second.stage) == ("topics@2", "production")
    shelves = made.open().shelves
    assert shelves.find("topics@1").stage == "retired"
    assert shelves.in_production(SLOT) is not None
    opened = made.open()
    before = opened.shelves.before(SLOT)
    assert before is not None
    back = opened.move("rollback", before, made.keys, MOVE)
    assert (back.title, back.stage) == ("topics@1", "production")
    assert made.open().shelves.find("topics@2").stage == "retired"
    assert [one.action for one in back.records] == ["add", *["promote"] * 3, "rollback"]


def test_production_asks_for_the_gate_or_for_a_name(made: MadeRegistry) -> None:
    one = made.add()
    with pytest.raises(InputError, match="no word of a gate"):
        made.promote(one.title, OVERRIDE)
    both = replace(passed(one.entry), without_gate=True)
    with pytest.raises(InputError, match="no word of a gate"):
        made.promote(one.title, both)
    made.promote(one.title, MOVE)
    for move in (MOVE, both):
        with pytest.raises(InputError, match="the gate's report, or without it"):
            made.promote(one.title, move)
    other = {"format": "presspool-gate/1", "entry": "sha256:" + "0" * 64, "passed": True}
    mine = {**other, "entry": one.entry}
    shouted = {**mine, "findings": [{"check": "floors", "verdict": "FAILED"}]}
    for said in (other, {**mine, "passed": False}, {"passed": True}, shouted):
        with pytest.raises(InputError, match="gate"):
            made.promote(one.title, Move(by="A", reason="b", gate=json.dumps(said).encode()))
    report = json.dumps({**other, "entry": one.entry, "checks": ["toxicity"]}).encode()
    assert made.promote(one.title, Move(by="A", reason="b", gate=report)).stage == "production"
    assert made.open().shelves.find(one.title).records[-1].gate == sha256(report)
    assert made.open().store.read_digest(f"blobs/{sha256(report)[7:]}", sha256(report)) == report


def test_a_move_that_cannot_be_made_stores_nothing(made: MadeRegistry) -> None:
    one = made.promoted()
    with pytest.raises(InputError, match=r"got +in production"):
        made.promote(one.title, passed(one.entry))
    assert unnamed(made.open()) == []


def test_an_override_is_told_for_ever(made: MadeRegistry) -> None:
    made.promoted()
    made.promoted(1)
    (told,) = made.open().shelves.find("topics@1").overrides
    assert (told.by, told.reason) == ("B. Chief", "election night")


def test_retired_for_good_is_not_rolled_back_to(made: MadeRegistry) -> None:
    made.promoted()
    made.promoted(1)
    opened = made.open()
    opened.move("retire", opened.shelves.find("topics@1"), made.keys, MOVE)
    assert made.open().shelves.before(SLOT) is None
    for which in ("promote", "retire"):
        with pytest.raises(InputError, match="retired for good"):
            opened.move(which, opened.shelves.find("topics@1"), made.keys, MOVE)


def test_one_that_was_replaced_begins_again_in_staging(made: MadeRegistry) -> None:
    made.promoted()
    made.promoted(1)
    assert made.promote("topics@1", MOVE).stage == "staging"
    made.promote("topics@1", OVERRIDE)
    shelves = made.open().shelves
    assert [one.stage for one in shelves.entries.values()] == ["production", "retired"]
    before = shelves.before(SLOT)
    assert before is not None
    assert before.title == "topics@2"


def test_the_same_adapter_is_taken_once(made: MadeRegistry) -> None:
    made.add()
    with pytest.raises(InputError, match="here already"):
        made.add()
    assert made.open().shelves.size == 1


def test_a_name_is_of_one_task_and_language(made: MadeRegistry) -> None:
    made.add(0)
    other = read_run(made.run(1), language="de", task=None, ledgers={})
    before = sorted(Path(made.url).rglob("*"))
    with pytest.raises(InputError, match="another task or language"):
        made.open().add(other, made.keys, MOVE)
    assert sorted(Path(made.url).rglob("*")) == before
    assert made.open().add(other, made.keys, MOVE, name="abends").title == "abends@1"


def test_of_two_who_move_at_once_one_is_told_to_look_again(made: MadeRegistry) -> None:
    made.add()
    made.add(1)
    one, other = made.open(), made.open()
    one.move("promote", one.shelves.find("topics@1"), made.keys, MOVE)
    with pytest.raises(BusyError, match="somebody else"):
        other.move("promote", other.shelves.find("topics@2"), made.keys, MOVE)
    assert [s.stage for s in made.open().shelves.entries.values()] == ["staging", "candidate"]


def test_names_are_forgiving_and_errors_suggest(made: MadeRegistry) -> None:
    one, two = made.add(), made.add(1)
    shelves = made.open().shelves
    assert shelves.find("topics").entry == two.entry  # the newest
    assert shelves.find(one.entry).entry == shelves.find(one.entry[7:15]).entry == one.entry
    with pytest.raises(InputError, match="did you mean topics@"):
        shelves.find("topic@1")
    for nothing in ("", "sha256:", "abc"):
        with pytest.raises(InputError, match="no such adapter"):
            shelves.find(nothing)


def test_other_keys_write_nothing(made: MadeRegistry, tmp_path: Path) -> None:
    made.add()
    keys = RegistryKeys.made(tmp_path / "others", name="newsroom")
    opened = made.open()
    with pytest.raises(InputError, match="keys of another registry"):
        opened.move("promote", opened.shelves.find("topics@1"), keys, MOVE)
    with pytest.raises(FolderError, match="something already"):
        RegistryKeys.made(made.keys.path, name="newsroom")  # in use


def test_what_changed_after_it_was_checked_is_not_signed(made: MadeRegistry) -> None:
    brought = read_run(made.run(), language=None, task=None, ledgers={})
    readme = b"another model card"
    stored = StoredFile(sha256=sha256(readme), bytes=len(readme))
    entry = brought.entry.model_copy(
        update={"files": {**brought.entry.files, "adapter/README.md": stored}}
    )
    changed = replace(brought, entry=entry, files={**brought.files, "adapter/README.md": readme})
    with pytest.raises(FolderError, match="another adapter's model card"):
        made.open().add(changed, made.keys, MOVE)
    assert not (Path(made.url) / "signatures").exists()
    assert made.open().shelves.size == 0


def test_a_signature_that_is_there_already_must_hold(made: MadeRegistry) -> None:
    """It is what a crash left, or what somebody who is not the registry put there."""
    brought = read_run(made.run(), language=None, task=None, ledgers={})
    there = Path(made.url) / signature_file(brought.entry.id)
    there.parent.mkdir()
    there.write_bytes(b"{}")
    with pytest.raises(EvidenceError, match="signature does not hold"):
        made.open().add(brought, made.keys, MOVE)
    assert made.open().shelves.size == 0


def test_a_folder_that_was_handed_out_stays_where_a_later_check_fails(
    made: MadeRegistry, tmp_path: Path
) -> None:
    one, place = made.promoted(1), tmp_path / "out"
    folder = hand_out(made.open(), one, place)
    before = sorted(folder.rglob("*"))
    (Path(made.url) / signature_file(one.entry)).write_bytes(b"{}")
    opened = made.open()
    with pytest.raises(EvidenceError, match="signature does not hold"):
        hand_out(opened, one, place)
    assert list(place.iterdir()) == [folder]
    assert sorted(folder.rglob("*")) == before
    with pytest.raises(EvidenceError):
        hand_out(opened, one, tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []


@pytest.mark.parametrize("there", [b"{}", b"[" * 100_000], ids=["other", "deep"])
def test_a_signature_that_is_none_is_one_clear_error(made: MadeRegistry, there: bytes) -> None:
    one = made.add()
    (Path(made.url) / signature_file(one.entry)).write_bytes(there)
    opened = made.open()
    with pytest.raises(EvidenceError, match="signature does not hold"):
        verified(opened, opened.shelves.find(one.title))


def test_a_registry_has_the_name_that_its_key_has(made: MadeRegistry) -> None:
    about = Path(made.url) / "registry.json"
    body = json.loads(about.read_text())
    about.write_text(json.dumps(body | {"name": "other-newsroom"}))
    with pytest.raises(EvidenceError, match="by another's name"):
        made.open()


def test_who_is_in_use_without_its_gate_is_told_to_be(made: MadeRegistry) -> None:
    one = made.promoted()
    words = "without its release gate"
    opened = made.open()
    assert words in verified(opened, opened.shelves.find(one.title)).sentence
    other = made.add(1)
    made.promote(other.title, MOVE)
    made.promote(other.title, passed(other.entry))
    opened = made.open()
    sentences = [verified(opened, each).sentence for each in opened.shelves.entries.values()]
    assert [words in sentence for sentence in sentences] == [False, False]  # the first is retired


def test_a_log_that_lost_its_end_is_not_written_on(made: MadeRegistry) -> None:
    made.add()
    made.add(1)
    (Path(made.url) / "log" / "00000001.proof").unlink()
    opened = made.open()  # its files alone cannot tell
    with pytest.raises(RollbackError, match="lost its end"):
        opened.move("promote", opened.shelves.find("topics@1"), made.keys, MOVE)


def test_what_holds_is_said_in_one_sentence(made: MadeRegistry) -> None:
    made.promoted()
    opened = made.open()
    sentence = verified(opened, opened.shelves.find("topics")).sentence
    assert sentence.startswith("topics@1 (production) is signed by newsroom over all its 7 files")
    assert "2 of 2 outlets" in sentence
    assert sentence.count(". ") == 0


def test_differences_name_fields(made: MadeRegistry) -> None:
    made.add()
    made.add(1)
    opened = made.open()
    one, other = opened.shelves.find("topics@1"), opened.shelves.find("topics@2")
    rows = {row["field"]: row for row in differences(opened, one, other)}
    assert (rows["contract.seed"]["topics@1"], rows["contract.seed"]["topics@2"]) == (0, 1)
    assert "card.epsilon" not in rows
    assert differences(opened, one, one) == []


def test_a_rollback_does_not_lead_to_what_is_in_use(made: MadeRegistry) -> None:
    """A, B, A again, and B retired for good: what is left is A alone."""
    made.promoted()
    made.promoted(1)
    made.promote("topics@1", MOVE)
    made.promote("topics@1", OVERRIDE)
    opened = made.open()
    opened.move("retire", opened.shelves.find("topics@2"), made.keys, MOVE)
    assert made.open().shelves.before(SLOT) is None


def test_what_leaves_the_registry_says_who_overrode_its_gate(
    made: MadeRegistry, tmp_path: Path
) -> None:
    one = made.add()
    opened = made.open()
    clean = read_adapter(hand_out(opened, one, tmp_path / "clean"))
    assert clean.overrides == ()
    one = made.promoted(1)
    folder = hand_out(made.open(), one, tmp_path / "out")
    (said,) = read_adapter(folder).overrides
    assert said.startswith("Put into production without its release gate by B. Chief on ")
    assert said.endswith(": election night")
    assert Provenance.read(read_adapter(folder)).document["overrides"] == [said]
    (folder / "adapter" / "overrides.json").write_text("{}")
    with pytest.raises(FolderError, match=r"overrides\.json"):
        read_adapter(folder)
    verified(made.open(), one)  # the signature is over what `checkout` gives
