"""`outlet.toml`: clear errors for the outlet's operator."""

from __future__ import annotations

from pathlib import Path

import pytest

from presspool.client.identity.settings import read_settings
from presspool.common.base.errors import ContractError, InputError


def read(tmp_path: Path, text: str) -> object:
    path = tmp_path / "outlet.toml"
    path.write_text(text, encoding="utf-8")
    return read_settings(path)


def test_what_a_plain_file_means(tmp_path: Path) -> None:
    path = tmp_path / "outlet.toml"
    path.write_text('name = "daily-bugle"\ndata = "readers.parquet"\n')
    settings = read_settings(path)
    assert settings.name == "daily-bugle"
    assert settings.data == tmp_path / "readers.parquet"
    assert settings.deterministic is None  # real noise unless asked otherwise
    columns = settings.columns
    assert (columns.reader, columns.text, columns.label) == ("reader", "text", "label")


def test_columns_and_an_absolute_path(tmp_path: Path) -> None:
    path = tmp_path / "outlet.toml"
    path.write_text(
        'name = "a"\ndata = "/data/x.csv"\ndeterministic = 0\n[columns]\ntext = "title"\n'
    )
    settings = read_settings(path)
    assert settings.data == Path("/data/x.csv")
    assert settings.deterministic == 0
    assert (settings.columns.text, settings.columns.label) == ("title", "label")


def test_settings_can_be_a_cache_key(tmp_path: Path) -> None:
    path = tmp_path / "outlet.toml"
    path.write_text('name = "a"\ndata = "x.csv"\n')
    assert hash(read_settings(path)) == hash(read_settings(path))
    with pytest.raises(ValueError, match="frozen"):
        read_settings(path).name = "b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('data = "x.csv"', "missing key"),
        ('name = "a"', "missing key"),
        ('name = "Daily Bugle"\ndata = "x.csv"', "name"),
        ('name = "a"\ndata = "x.csv"\ndeterministik = 1', "did you mean 'deterministic'"),
        ('name = "a"\ndata = "x.csv"\n[columns]\nlabels = "y"', "did you mean 'label'"),
        ('name = "a"\ndata = 3', "data"),
        ('name = "a"\ndata = "x.csv"\ndeterministic = "yes"', "deterministic"),
        ('name = "a"\ndata = "x.csv"\n[columns]\ntext = "label"', "label"),
        ("name = ", "line 1, column 7: not readable as TOML"),
        ("", "missing key"),
    ],
)
def test_what_is_wrong_is_said(text: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=expected) as caught:
        read(tmp_path, text)
    assert "outlet.toml" in str(caught.value)
    assert caught.value.exit_code == 2
    # Not the contract's fault: the code that the coordinator gets depends on the kind of error.
    assert not isinstance(caught.value, ContractError)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_settings(tmp_path / "missing.toml")
    with pytest.raises(InputError, match="cannot read"):
        read_settings(tmp_path)
    (tmp_path / "latin.toml").write_bytes('name = "é"'.encode("latin-1"))
    with pytest.raises(InputError, match="expected UTF-8"):
        read_settings(tmp_path / "latin.toml")
