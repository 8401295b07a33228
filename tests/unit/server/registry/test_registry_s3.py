"""A registry in a bucket: everything as in a folder, and writers are kept apart by the server."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from tests.fakes.instruments.typed import typed
from tests.fakes.registry.made_registry import MOVE, OVERRIDE, MadeRegistry, make_registry
from tests.fakes.registry.s3_server import s3_server

from presspool.common.base.errors import BusyError, EvidenceError, StorageError
from presspool.server.registry.object_store import ObjectStore
from presspool.server.registry.registry_entry import blob_file
from presspool.server.registry.registry_verdict import verified


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with s3_server() as found:
        yield found


@pytest.fixture
def bucket(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a folder in a new bucket."""
    named = {"ENDPOINT_URL": address, "DEFAULT_REGION": "us-east-1"}
    keys = {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test"}
    for name, value in (named | keys).items():
        monkeypatch.setenv(f"AWS_{name}", value)
    files = fsspec.filesystem("s3", skip_instance_cache=True)
    name = f"news-{uuid.uuid4().hex[:12]}"
    files.mkdir(name)
    yield f"s3://{name}/adapters"
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def made(bucket: str, tmp_path: Path) -> MadeRegistry:
    return make_registry(tmp_path, bucket)


def test_a_bucket_is_as_good_as_a_folder(made: MadeRegistry) -> None:
    made.promoted()
    made.promoted(1)
    opened = made.open()
    assert [one.stage for one in opened.shelves.entries.values()] == ["retired", "production"]
    for one in opened.shelves.entries.values():
        assert "signed by newsroom" in verified(opened, one).sentence


def test_the_server_keeps_two_writers_apart(bucket: str) -> None:
    """Sixteen at once: exactly one is told that it was the one, and its bytes are there."""
    stores, made = [ObjectStore(bucket) for _ in range(16)], dict[int, bool]()

    def write(number: int) -> None:
        made[number] = stores[number].create("log/00000000.proof", f"of {number}".encode())

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [number for number, first in made.items() if first]
    assert stores[0].read("log/00000000.proof") == f"of {winner}".encode()


def test_two_promotions_at_once(made: MadeRegistry) -> None:
    made.add()
    made.add(1)
    one, other = made.open(), made.open()
    one.move("promote", one.shelves.find("topics@1"), made.keys, MOVE)
    with pytest.raises(BusyError):
        other.move("promote", other.shelves.find("topics@2"), made.keys, MOVE)
    assert made.promote("topics@2", MOVE).stage == "staging"
    assert made.promote("topics@1", OVERRIDE).stage == "production"


def test_a_changed_object_is_found(made: MadeRegistry) -> None:
    one = made.add()
    opened = made.open()
    digest = opened.entry(one.entry).files["contract.json"].sha256
    fsspec.filesystem("s3").pipe_file(f"{made.url[5:]}/{blob_file(digest)}", b"{}")
    with pytest.raises(EvidenceError, match="damaged"):
        verified(opened, one)


def test_the_commands_work_on_a_bucket(
    made: MadeRegistry, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    presspool = typed(monkeypatch, capsys, "adapters")
    place = ("--registry", made.url, "--keys", made.keys.path)
    said = presspool("add", made.run(), "--by", "A", "--reason", "b", *place)
    assert (said.code, said.out) == (0, "topics@1 is candidate\n"), said.err
    assert presspool("verify", *place[:2]).out.startswith("topics@1 (candidate) is signed by")


def test_a_bucket_that_is_not_there_is_one_clear_error(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not answer"):
        make_registry(tmp_path, f"s3://no-{uuid.uuid4().hex[:12]}/adapters")


def test_a_server_that_ignores_the_condition_is_refused(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As older servers do: both writers are told that they were the one."""
    kind = fsspec.get_filesystem_class("s3")
    pipe = kind.pipe_file
    monkeypatch.setattr(kind, "pipe_file", lambda self, path, value, **_: pipe(self, path, value))
    with pytest.raises(StorageError, match="overwrite each other"):
        make_registry(tmp_path, bucket)
