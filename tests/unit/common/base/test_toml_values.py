"""A file that is no TOML: its line, its column, what would be right and what to do."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from presspool.client.consent.policy import EXAMPLE, read_policy
from presspool.client.identity.settings import read_settings
from presspool.client.opinion.opinion_query import read_query
from presspool.common.audit.evidence import governance
from presspool.common.base.errors import ContractError, InputError
from presspool.common.base.toml_values import read_toml
from presspool.common.runs.run_file import read_run_file
from presspool.server.coordinator.coordinator_folder import SETTINGS, settings_in


def refused(path: Path, content: bytes) -> InputError:
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_toml(path, what="cannot read it", advice="write one")
    return caught.value


@pytest.mark.parametrize(
    ("text", "line", "column", "expected", "advice"),
    [
        ("[a]\nx = 1\n[a]\n", 3, 3, "each table once", "[a] stands twice"),
        ("['a b'.c]\n\n['a b'.c]", 3, 9, "each table once", "[a b.c] stands twice"),
        ("x = 1\nx = 2\ny = 3\n", 2, 6, "each key once", "keep one of the two"),
        ("y = 3\nx = 1\nx = 2", 3, 6, "each key once", "keep one of the two"),
        ("x = {a = 1, a = 2}", 1, 18, "each key once", "keep one of the two"),
        ("\nrecipe = default\n", 2, 10, "a line of TOML", "texts stand in quotes"),
        ("x = [1,\n", 1, 8, "a line of TOML", "mend this line"),
        ("x = 1 \x1b[2J", 1, 7, "a line of TOML", "mend this line"),
        ("", 1, 1, None, None),
    ],
)
def test_a_fault_is_named_by_line_and_column(
    tmp_path: Path, text: str, line: int, column: int, expected: str | None, advice: str | None
) -> None:
    path = tmp_path / "some.toml"
    if expected is None or advice is None:
        path.write_text(text)
        assert read_toml(path, what="x", advice="y") == {}
        return
    error = refused(path, text.encode())
    assert error.what == "not readable as TOML"
    assert error.where == f"{path}, line {line}, column {column}"
    assert str(error.expected).startswith(expected)
    assert advice in error.advice
    assert text.splitlines()[line - 1].strip().partition("\x1b")[0] in str(error.got)
    assert "\x1b" not in str(error)


def test_a_file_that_is_not_utf8_nested_deeply_or_absent_is_refused_in_words(
    tmp_path: Path,
) -> None:
    path = tmp_path / "some.toml"
    error = refused(path, b"name = '\xff'")
    assert (error.expected, error.got) == ("UTF-8", "byte 0xff at offset 8")
    deep = refused(path, b"x = " + b"[" * 100_000)
    assert deep.what == "not readable as TOML"
    assert len(str(deep)) < 500
    path.unlink()
    with pytest.raises(ContractError) as caught:
        read_toml(path, what="cannot read it", advice="write one", fault=ContractError)
    assert (caught.value.what, caught.value.got) == ("cannot read it", "no such file")
    assert caught.value.advice == "write one"


def test_a_second_table_in_any_file_of_a_person_is_told_so(tmp_path: Path) -> None:
    """A policy that was made has [counts]; whoever pastes the guide's has two."""
    twice = EXAMPLE + "\n[counts]\nallowed = true\n"
    assert tomllib.loads(EXAMPLE)["counts"]["allowed"] is False
    for name, read in (
        ("policy.toml", read_policy),
        ("outlet.toml", read_settings),
        ("mood.toml", read_query),
        ("fields.toml", governance.read),
        ("run.toml", read_run_file),
        (SETTINGS, lambda path: settings_in(path.parent)),
    ):
        path = tmp_path / name
        path.write_text(twice)
        with pytest.raises(InputError, match=r"\[counts\] stands twice") as caught:
            read(path)
        assert f"{path}, line {twice[: twice.rindex('allowed')].count(chr(10))}" in str(
            caught.value
        )
