r"""Files that people may edit: TOML read with the place of a fault, and values as it spells them.

Invariant: whatever is wrong with a file, its message says line, column and what would be right.

Example:
    >>> toml_value("Pré\x7f"), toml_value(["a", "b"]), toml_value(3.0)
    ('"Pré\\u007f"', '["a", "b"]', '3.0')
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "policy.toml")
    >>> _ = path.write_text("[counts]\nmax_share = 0.1\n[counts]\n")
    >>> try:
    ...     read_toml(path, what="cannot read the policy", advice="write one")
    ... except InputError as error:
    ...     error.where.removeprefix(str(path)), error.advice
    (', line 3, column 8', '[counts] stands twice: move its keys below the first, and take it out')
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path
from typing import Any, NoReturn

from presspool.common.base.errors import InputError
from presspool.common.base.foreign_text import one_line

NOT_TOML = "not readable as TOML"
_LINE = 'as key = "text", key = 3 or [table]'
_PLACE = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)
_TABLE = re.compile(r"Cannot declare (\(.*\)) twice", re.DOTALL)
_AGAIN = ("Cannot overwrite", "Cannot mutate", "Duplicate inline")  # what tomllib says of a key
_SHOWN = 60  # characters of a line that are quoted


def toml_value(value: object) -> str:
    """A text, a number, a truth value or a list of them as TOML: JSON's, with DEL escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_toml(
    path: Path,
    *,
    what: str,
    advice: str,
    expected: str | None = None,
    most: int = -1,
    fault: type[InputError] = InputError,
) -> dict[str, Any]:
    """What a TOML file says.

    Args:
        path: the file.
        what: the fault where it cannot be opened at all.
        advice: what to do then.
        expected: what should be there then.
        most: bytes that are read; all, if negative.
        fault: class of the error.

    Raises:
        InputError: a `fault`: the file is missing, not UTF-8 or not TOML.
    """
    try:
        with path.open("rb") as stream:
            body = stream.read(most)
    except OSError as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise fault(what, where=str(path), expected=expected, got=why, advice=advice) from None
    return parse_toml(body, path=path, fault=fault)


def parse_toml(body: bytes, *, path: Path, fault: type[InputError] = InputError) -> dict[str, Any]:
    """What bytes say that a file had; raises a `fault`: not UTF-8 or not TOML."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        got = f"byte 0x{error.object[error.start]:02x} at offset {error.start}"
        advice = "save the file as UTF-8"
        raise fault(NOT_TOML, where=str(path), expected="UTF-8", got=got, advice=advice) from None
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        _refuse(text, str(error), path, fault)


def _refuse(text: str, said: str, path: Path, fault: type[InputError]) -> NoReturn:
    """Raise what the parser said, in our words where they help, with the line that it means."""
    lines, found = text.rstrip().splitlines() or [""], _PLACE.fullmatch(said)
    why, number, column = found.groups() if found else (said, None, None)
    line = int(number or len(lines))
    quoted = one_line(lines[line - 1].strip() if line <= len(lines) else "")[:_SHOWN]
    expected, advice = _told(why)
    raise fault(
        NOT_TOML,
        where=f"{path}, line {line}, column {column or len(lines[-1]) + 1}",
        expected=expected,
        got=f"{quoted} ({one_line(why)[0].lower()}{one_line(why)[1:]})",
        advice=advice,
    ) from None


def _told(why: str) -> tuple[str, str]:
    """What TOML wants where its parser says `why`, and what to do."""
    if table := _TABLE.match(why):
        heading = f"[{'.'.join(ast.literal_eval(table[1]))}]"
        return (
            "each table once",
            f"{heading} stands twice: move its keys below the first, and take it out",
        )
    if why.startswith(_AGAIN):
        return "each key once in its table", "this key has a value already: keep one of the two"
    return f"a line of TOML, {_LINE}", "mend this line; texts stand in quotes, dates do not"
