"""Backups of an outlet's home: none whose settings lead to another home, made or taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from presspool.client.agent import moving
from presspool.common.base.archives import pack
from presspool.common.base.errors import InputError

LINES = 'name = "daily-bugle"\ndata = "x.csv"\npolicy = "{}"\nledger = "{}"\n'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "policy.toml").touch()
    return tmp_path / "home"


def test_a_home_whose_settings_name_its_own_files_is_made_again(home: Path, tmp_path: Path) -> None:
    (home / "outlet.toml").write_text(LINES.format("policy.toml", "./ledger.db"))
    moving.backup(home, tmp_path / "file")
    moving.restore(tmp_path / "file", tmp_path / "new")
    assert (tmp_path / "new" / "policy.toml").exists()


@pytest.mark.parametrize("key", ["policy", "ledger"])
@pytest.mark.parametrize("path", ["{home}/{name}", "../home/{name}", "/srv/{name}", "other.file"])
def test_settings_that_lead_elsewhere_are_neither_saved_nor_restored(
    key: str, path: str, home: Path, tmp_path: Path
) -> None:
    names = {"policy": "policy.toml", "ledger": "ledger.db"}
    names[key] = path.format(home=home, name=names[key])
    settings = LINES.format(names["policy"], names["ledger"]).encode()
    (home / "outlet.toml").write_bytes(settings)
    with pytest.raises(InputError, match=f"{key} = "):
        moving.backup(home, tmp_path / "file")
    assert not (tmp_path / "file").exists()
    with pack(tmp_path / "older", moving.KIND) as archive:
        archive.add_bytes(settings, "outlet.toml")
    with pytest.raises(InputError, match=f"older outlet.toml {key}"):
        moving.restore(tmp_path / "older", tmp_path / "new")
    assert not (tmp_path / "new").exists()
