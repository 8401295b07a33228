"""`audit card --interview`: the blank fields of a card, asked for one by one.

Invariants:
    * Each answer is judged as it is typed, and is in the file, written whole, before the next
      question: whoever stops goes on where it was.
    * A line of the file that is not blank, and every comment, stays as it is.

Example: `interview(Path("fields.toml"))` returns once nothing is blank any more.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from presspool.common.audit.cards.registry_card import DataSource, Day
from presspool.common.audit.evidence import governance
from presspool.common.audit.evidence.governance import CardFields, Fields
from presspool.common.base.console import err
from presspool.common.base.errors import InputError
from presspool.common.base.files import replace_file
from presspool.common.base.questions import ask
from presspool.common.base.toml_values import toml_value
from presspool.common.base.validation import validate

_SOURCE: TypeAdapter[str] = TypeAdapter(DataSource)
_DAY: TypeAdapter[str] = TypeAdapter(Day)
_CARD = re.compile(r"^\[card\].*\n((?:(?!\[).*\n?)*)", re.MULTILINE)


def _is(adapter: TypeAdapter[str]) -> Callable[[str], bool]:
    def holds(text: str) -> bool:
        try:
            adapter.validate_python(text)
        except ValidationError:
            return False
        return True

    return holds


def _matches(pattern: str) -> Callable[[str], bool]:
    return lambda text: re.fullmatch(pattern, text) is not None


_DAYS: Final = (_is(_DAY), "a day, as 2026-06-30")
RULES: Final[Mapping[str, tuple[Callable[[str], bool], str]]] = {
    "publication_date": _DAYS,
    "records_since": _DAYS,
    "records_until": _DAYS,
    "data_source": (_is(_SOURCE), "Static or Dynamic"),
    "license": (_matches(r"[A-Za-z0-9.+-]+"), "an SPDX identifier, as apache-2.0"),
    "language": (_matches(r"[a-z]{2,3}"), "an ISO 639 code, as en"),
}
"""What more than words a field must be, and how it is said."""


def interview(path: Path) -> None:
    """Ask for what is blank in [card] of a file; without a file, one is made.

    Raises:
        InputError: the file cannot be read or filled in.
        Stopped: the person stopped; what was answered is in the file.
    """
    if not path.exists():
        replace_file(path, governance.template().encode())
    said = governance.read(path).card
    blank = [(key, what) for key, what, text in said.rows() if not text]
    for number, (key, what) in enumerate(blank, 1):
        err.print(f"{number} of {len(blank)}: {what}", soft_wrap=True)
        value = ask(key, lambda text, key=key: _answer(path, key, text))  # type: ignore[misc]
        _fill_in(path, key, value)


def _answer(path: Path, key: str, text: str) -> str | list[str]:
    """The value of a field; raises `InputError` where a card would refuse it."""
    if not text:
        raise InputError("blank", expected="something in every field; Ctrl-C stops, and keeps all")
    holds, expected = RULES.get(key, (bool, ""))
    if not holds(text):
        raise InputError(key, expected=expected, got=ascii(text))
    since = governance.read(path).card.records_since
    if key == "records_until" and text < since:
        raise InputError(key, expected=f"{since} or later", got=text)
    many = not isinstance(getattr(CardFields(), key), str)
    value = [part for part in map(str.strip, text.split(";")) if part] if many else text
    validate(CardFields, {key: value}, where=key, fault=InputError)
    return value


def _fill_in(path: Path, key: str, value: str | list[str]) -> None:
    before = path.read_text(encoding="utf-8")
    text = filled_in(before, key, value)
    wanted = governance.read(path).model_dump(mode="json")
    wanted["card"][key] = value
    if _parsed(text) != Fields.model_validate(wanted):
        raise InputError(
            "cannot be filled in",
            where=f"{path} [card] {key}",
            expected=f'a line {key} = ""',
            advice="fill it in by hand, and type the command again",
        )
    replace_file(path, text.encode())


def _parsed(text: str) -> Fields | None:
    try:
        return governance.parse(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, InputError):
        return None


def filled_in(text: str, key: str, value: str | list[str]) -> str:
    r"""A file's text with a blank field of [card] filled in, and nothing else changed.

    Example:
        >>> filled_in('[card]\nname = ""  # short\nnotes = ""\n', "name", "Topics")
        '[card]\nname = "Topics"  # short\nnotes = ""\n'
        >>> filled_in("[dpia]\n", "name", "Topics")
        '[dpia]\n\n[card]\nname = "Topics"\n'
    """
    line = f"{key} = {toml_value(value)}"
    table = _CARD.search(text)
    if table is None:
        return f"{text}\n[card]\n{line}\n"
    blank = re.compile(rf"^{key}[ \t]*=[ \t]*(?:\"\"|''|\[[ \t]*\])", re.MULTILINE)
    body, count = blank.subn(lambda _: line, table[1], count=1)
    if not count:
        body = f"{line}\n{body}"
    return text[: table.start(1)] + body + text[table.end(1) :]
