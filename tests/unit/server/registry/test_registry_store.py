"""The registry's bytes: whatever is killed or changed, it is as it was, or says what is wrong.

The model of a power cut is the ledger's: what was synced is there, and an unfinished write
is there whole or not at all; a kill may come at every write, and at every call to the kernel.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY
from tests.fakes.registry.made_registry import MOVE, OVERRIDE, MadeRegistry, make_registry, passed

from presspool.common.base.errors import BusyError, EvidenceError, PressPoolError, StorageError
from presspool.server.registry.object_store import ObjectStore
from presspool.server.registry.registry_entry import entry_file, signature_file
from presspool.server.registry.registry_verdict import verified
from presspool.server.registry.unnamed_files import remove_unnamed, unnamed


class PulledPlugError(Exception):
    """Raised at one of the labelled steps of a write."""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> MadeRegistry:
    """One adapter in production and one in staging."""
    made = make_registry(tmp_path_factory.mktemp("filled"))
    made.promote(made.add().title, MOVE)
    made.promote("topics@1", passed(made.open().shelves.find("topics@1").entry))
    made.promote(made.add(1).title, MOVE)
    return made


@pytest.fixture
def made(filled: MadeRegistry, tmp_path: Path) -> MadeRegistry:
    """A copy of it."""
    shutil.copytree(filled.url, tmp_path / "registry")
    shutil.copytree(filled.keys.path, tmp_path / "keys")
    keys = type(filled.keys).read(tmp_path / "keys", name="newsroom")
    return MadeRegistry(folder=filled.folder, url=str(tmp_path / "registry"), keys=keys)


def stages(made: MadeRegistry) -> list[str]:
    return [one.stage for one in made.open().shelves.entries.values()]


def all_hold(made: MadeRegistry) -> None:
    opened = made.open()
    for one in opened.shelves.entries.values():
        verified(opened, one)


def pulled_at(number: int) -> tuple[Callable[[str], None], list[str]]:
    """A step that pulls the plug at the call of this number, and what it was called with."""
    seen: list[str] = []

    def step(name: str) -> None:
        seen.append(name)
        if len(seen) == number:
            raise PulledPlugError

    return step, seen


def test_a_plug_pulled_at_any_write_of_an_add_leaves_it_as_it_was(made: MadeRegistry) -> None:
    """And what it left does not stand in the way of the same command, typed again."""
    number, before = 0, stages(made)
    while True:
        number += 1
        step, seen = pulled_at(number)
        try:
            made.add(2, step=step)
        except PulledPlugError:
            if seen[-1].startswith("after log/"):
                break  # it was written, and only the person was not told
            assert stages(made) == before
            continue
        raise AssertionError("an add that ends without its record")
    assert number == 20  # before and after each of 7 files, the entry, its signature, the record
    assert stages(made) == [*before, "candidate"]
    all_hold(made)


def test_what_a_broken_add_left_is_named_and_removed_whatever_pulls_the_plug(
    made: MadeRegistry,
) -> None:
    step, seen = pulled_at(17)  # its entry is there, its signature not
    with pytest.raises(PulledPlugError):
        made.add(2, step=step)
    junk = unnamed(made.open())
    assert set(junk) < {name.split()[1] for name in seen}
    assert {name.split("/")[0] for name in junk} == {"entries", "blobs"}
    for left in range(len(junk), 0, -1):
        step, _ = pulled_at(2)  # after the first that it removes
        with pytest.raises(PulledPlugError):
            remove_unnamed(made.open(step=step), made.keys)
        assert len(unnamed(made.open())) == left - 1
        all_hold(made)
    assert remove_unnamed(made.open(), made.keys) == []
    assert made.add(2).stage == "candidate"
    with made.keys.held(), pytest.raises(BusyError):
        remove_unnamed(made.open(), made.keys)


@pytest.mark.parametrize("folder", ["blobs", "entries", "signatures"])
def test_what_a_registry_does_not_write_is_never_removed(made: MadeRegistry, folder: str) -> None:
    """Neither beside its files nor behind a link, where others' files may lie."""
    digest, theirs = "0" * 64, Path(made.url) / folder
    names = ["notes.txt", f"{digest[1:]}", f"{digest}.json.old", digest.replace("0", "A")]
    for name in [*names, digest, f"{digest}.json"]:
        (theirs / name).write_bytes(b"words")
    ours = digest if folder == "blobs" else f"{digest}.json"
    assert remove_unnamed(made.open(), made.keys) == [f"{folder}/{ours}"]
    theirs.rename(theirs.with_name("elsewhere"))
    theirs.symlink_to("elsewhere")
    (theirs / ours).write_bytes(b"words")
    store = made.open().store
    for act in (
        lambda: remove_unnamed(made.open(), made.keys),
        lambda: store.remove(f"{folder}/{ours}"),
        lambda: store.create(f"{folder}/{'1' * 64}", b""),
    ):
        with pytest.raises(StorageError, match="a link in the place"):
            act()
    assert (theirs / ours).read_bytes() == b"words"
    assert not (theirs / ("1" * 64)).exists()


def test_a_folder_in_the_place_of_a_file_is_named(made: MadeRegistry) -> None:
    name = f"blobs/{'0' * 64}"
    (Path(made.url) / name).mkdir()
    for act in (
        lambda: remove_unnamed(made.open(), made.keys),
        lambda: made.open().store.read(name),
    ):
        with pytest.raises(EvidenceError, match="damaged") as caught:
            act()
        assert name in str(caught.value)
        assert "credentials" not in str(caught.value)


def test_a_registry_behind_a_link_is_one(made: MadeRegistry, tmp_path: Path) -> None:
    (tmp_path / "shortcut").symlink_to(made.url)
    assert ObjectStore(str(tmp_path / "shortcut")).names("entries")


@pytest.mark.parametrize("number", [1, 2])
def test_a_plug_pulled_in_a_promotion(made: MadeRegistry, number: int) -> None:
    step, seen = pulled_at(number)
    opened = made.open(step=step)
    with pytest.raises(PulledPlugError):
        opened.move("promote", opened.shelves.find("topics@2"), made.keys, OVERRIDE)
    there = ["production", "staging"], ["retired", "production"]
    assert stages(made) == there[seen[-1].startswith("after")]
    all_hold(made)


def test_a_record_whose_answer_was_lost_is_known_again(
    made: MadeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client of S3 puts again where no answer came, and then is told that something is there."""
    create = ObjectStore.create

    def unheard(self: ObjectStore, name: str, content: bytes) -> bool:
        create(self, name, content)
        return create(self, name, content)

    monkeypatch.setattr(ObjectStore, "create", unheard)
    assert made.promote("topics@2", OVERRIDE).stage == "production"
    assert stages(made) == ["retired", "production"]


def test_what_the_store_refuses_moves_nothing_in_the_open_registry(
    made: MadeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same process tries again, and its second record follows the last that was written."""
    create, failures = ObjectStore.create, iter([True])

    def unreachable_once(self: ObjectStore, name: str, content: bytes) -> bool:
        if name.startswith("log/") and next(failures, False):
            raise StorageError("the registry's place does not answer")
        return create(self, name, content)

    monkeypatch.setattr(ObjectStore, "create", unreachable_once)
    opened = made.open()
    size = opened.shelves.size
    with pytest.raises(StorageError, match="does not answer"):
        opened.move("promote", opened.shelves.find("topics@2"), made.keys, OVERRIDE)
    one = opened.shelves.find("topics@2")
    assert (one.stage, opened.shelves.size, len(opened.log.tree)) == ("staging", size, size)
    assert opened.move("promote", one, made.keys, OVERRIDE).stage == "production"
    assert stages(made) == ["retired", "production"]
    all_hold(made)


def kill(made: MadeRegistry, call: int) -> int:
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}{os.pathsep}{REPOSITORY}"}
    child = [sys.executable, "-m", "tests.fakes.registry.registry_children"]
    said = [made.url, str(made.keys.path), "topics@2", str(call)]
    return subprocess.run([*child, *said], cwd=REPOSITORY, env=environment, check=False).returncode


@pytest.mark.parametrize("call", [1, 3, 5])
def test_kill_9_in_a_promotion(made: MadeRegistry, call: int) -> None:
    assert kill(made, call) == -signal.SIGKILL
    assert stages(made) in (["production", "staging"], ["retired", "production"])
    if stages(made)[1] == "staging":
        made.promote("topics@2", OVERRIDE)
    assert stages(made) == ["retired", "production"]
    assert len(list((Path(made.url) / "log").glob("*.proof"))) == 6


@pytest.mark.soak
def test_kill_9_at_every_kernel_call_of_a_promotion(made: MadeRegistry) -> None:
    whole = Path(made.url).with_name("whole")
    shutil.copytree(made.url, whole)
    seen, call = set(), 0
    while True:
        call += 1
        shutil.rmtree(made.url)
        shutil.copytree(whole, made.url)
        shutil.rmtree(made.keys.path / "seen", ignore_errors=True)
        if kill(made, call) == 0:
            break
        seen.add(tuple(stages(made)))
        all_hold(made)
    assert seen == {("production", "staging"), ("retired", "production")}
    assert call > 8


def every_file(made: MadeRegistry) -> list[Path]:
    found = [path for path in sorted(Path(made.url).rglob("*")) if path.is_file()]
    return [path for path in found if path.parent.name != "probes"]


def test_every_changed_byte_is_found(made: MadeRegistry) -> None:
    """Each file in turn: entries, signatures, blobs, the log's files, the registry's own."""
    files = every_file(made)
    assert len(files) > 20
    for path in files:
        content = path.read_bytes()
        for other in (content[:-9], content[:40] + b"x" + content[41:], b""):
            path.write_bytes(other)
            with pytest.raises(PressPoolError):
                all_hold(made)
        path.unlink()
        if path.name != "00000004.proof":  # the end of a log is missed by who has seen it
            with pytest.raises(PressPoolError):
                all_hold(made)
        path.write_bytes(content)
    all_hold(made)


def test_records_that_change_places_are_found(made: MadeRegistry) -> None:
    log = Path(made.url) / "log"
    one, other = log / "00000001.proof", log / "00000002.proof"
    swapped = one.read_bytes(), other.read_bytes()
    other.write_bytes(swapped[0])
    one.write_bytes(swapped[1])
    with pytest.raises(EvidenceError) as caught:
        made.open()
    assert caught.value.entry == 1


def test_another_s_signature_and_entry_do_not_pass(made: MadeRegistry) -> None:
    one, other = (made.open().shelves.find(name).entry for name in ("topics@1", "topics@2"))
    for of in (signature_file, entry_file):
        there = Path(made.url) / of(one)
        content = there.read_bytes()
        there.write_bytes((Path(made.url) / of(other)).read_bytes())
        with pytest.raises(EvidenceError, match=r"signature does not hold|damaged"):
            all_hold(made)
        there.write_bytes(content)


def test_a_damaged_blob_leaves_no_folder(made: MadeRegistry, tmp_path: Path) -> None:
    opened = made.open()
    one = opened.shelves.find("topics@1").entry
    for path in (Path(made.url) / "blobs").iterdir():
        path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(EvidenceError, match="damaged"):
        opened.checkout(one, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_place_where_writers_overwrite_each_other_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ObjectStore, "create", lambda *_: True)
    with pytest.raises(StorageError, match="overwrite each other"):
        ObjectStore(str(tmp_path)).prove()


def test_a_crash_s_draft_is_no_record(made: MadeRegistry) -> None:
    (Path(made.url) / "log" / ".00000005.proof.1.ab.tmp").write_bytes(b"half")
    all_hold(made)
