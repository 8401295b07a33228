"""The file of keys: who may still read it, what is said where nobody can, and what a day is."""

from __future__ import annotations

import json
import os
import time
from datetime import date
from pathlib import Path, PosixPath
from typing import Any

import pytest

from presspool.common.base.errors import InputError
from presspool.server.serving import access_keys
from presspool.server.serving.access_keys import AccessKeys, KeyFile, add_key
from presspool.server.serving.shelf.call_errors import CallError


def test_a_key_that_is_added_leaves_the_file_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add_key(path, "desk", ["ask"], None)
    assert path.stat().st_mode & 0o777 == 0o600
    root = os.geteuid() == 0
    if root:
        os.chown(path, 12_345, 23_456)
    for mode, kept in ((0o640, 0o640), (0o666, 0o640), (0o400, 0o400)):
        path.chmod(mode)
        add_key(path, f"desk-{mode}", ["ask"], date(2027, 1, 31))
        found = path.stat()
        assert found.st_mode & 0o777 == kept
        assert not root or (found.st_uid, found.st_gid) == (12_345, 23_456)
    assert len(KeyFile.read(path).keys) == 4


def test_a_file_that_cannot_be_read_is_said_once_and_read_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(access_keys.log, "warning", lambda text, *words: said.append(text % words))
    path = tmp_path / "keys.json"
    header = f"Bearer {add_key(path, 'desk', ['ask'], None)}"
    keys, whole = AccessKeys(path), path.read_bytes()
    assert keys.named(header, "ask").name == "desk"
    path.write_bytes(b"{")
    for _ in range(3):
        with pytest.raises(CallError, match="no such key"):
            keys.named(header, "ask")
    assert len(said) == 1
    assert said[0].startswith("nobody is let in")
    path.write_bytes(whole)
    assert keys.named(header, "ask").name == "desk"


class Coarse(PosixPath):
    """A path on a file system whose clock stands."""

    def stat(self, **how: Any) -> os.stat_result:
        return os.stat_result([*super().stat(**how)[:7], 0, 0, 0])


def test_a_change_within_one_tick_of_the_clock_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    header = f"Bearer {add_key(path, 'desk', ['ask'], None)}"
    keys = AccessKeys(Coarse(path))
    assert keys.named(header, "ask").name == "desk"
    path.write_text(json.dumps({**json.loads(path.read_text()), "keys": []}))
    with pytest.raises(CallError, match="no such key"):
        keys.named(header, "ask")


@pytest.mark.parametrize("expires", [0, 1.5, True, "0", "1700000000", "2027-13-01"])
def test_an_end_is_a_day_and_no_number(tmp_path: Path, expires: object) -> None:
    path = tmp_path / "keys.json"
    add_key(path, "desk", ["ask"], date(2027, 1, 31))
    body = json.loads(path.read_text())
    assert body["keys"][0]["expires"] == "2027-01-31"
    body["keys"][0]["expires"] = expires
    path.write_text(json.dumps(body))
    with pytest.raises(InputError, match="a day"):
        KeyFile.read(path)


def test_no_key_is_made_that_is_over_already(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(InputError, match="a day that is over"):
        add_key(path, "desk", ["ask"], date(2020, 1, 31))
    assert not path.exists()


def test_a_key_has_a_minutes_calls_at_once_and_then_its_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, now = tmp_path / "keys.json", [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    slow = f"Bearer {add_key(path, 'slow', ['ask', 'metrics'], None, 30)}"
    other = f"Bearer {add_key(path, 'other', ['ask'], None, 1)}"
    keys = AccessKeys(path)
    for _ in range(30):
        keys.named(slow, "ask")
    for retry, passed in ((2, 0.5), (2, 1.0)):
        with pytest.raises(CallError) as caught:
            keys.named(slow, "ask")
        assert (caught.value.status, caught.value.retry) == (429, retry)
        now[0] += passed
    now[0] += 0.5  # two seconds are over, and what was refused cost nothing
    assert keys.named(slow, "ask").name == "slow"
    assert keys.named(slow, "metrics").name == "slow"
    assert keys.named(other, "ask").name == "other"
    with pytest.raises(CallError):
        keys.named(slow, "ask")


@pytest.mark.parametrize("rate", [0, -1, 1.5, True, "30"])
def test_a_rate_is_a_whole_number_of_calls(tmp_path: Path, rate: Any) -> None:
    with pytest.raises(InputError, match="per_minute"):
        add_key(tmp_path / "keys.json", "desk", ["ask"], None, rate)
