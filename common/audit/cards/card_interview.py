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
from functools import partial
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from presspool.common.audit.cards.data_protection import NOT_APPLICABLE, purpose, reasoned
from presspool.common.audit.cards.data_protection_answers import flop_of
from presspool.common.audit.cards.registry_card import CuratorType, DataSource, Day
from presspool.common.audit.evidence import governance
from presspool.common.audit.evidence.governance import Fields
from presspool.common.base.console import err
from presspool.common.base.errors import InputError
from presspool.common.base.files import replace_file
from presspool.common.base.questions import ask
from presspool.common.base.toml_values import toml_value
from presspool.common.base.validation import validate

_SOURCE: TypeAdapter[str] = TypeAdapter(DataSource)
_DAY: TypeAdapter[str] = TypeAdapter(Day)
_KIND: TypeAdapter[str] = TypeAdapter(CuratorType)


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


def _or_why(holds: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda text: text.startswith(NOT_APPLICABLE) or holds(text)


def _purposes(text: str) -> bool:
    return all(purpose(number.strip()) != number.strip() for number in text.split(";"))


def _curators(text: str) -> bool:
    kinds = (governance.curator(part.strip())["data_curator_type"] for part in text.split(";"))
    return all(map(_is(_KIND), kinds))


_DAYS: Final = (_is(_DAY), "a day, as 2026-06-30")
_WHY: Final = f'or "{NOT_APPLICABLE}…"'
_DAYS_OR_WHY: Final = (_or_why(_is(_DAY)), f"a day, as 2026-06-30, {_WHY}")
RULES: Final[Mapping[str, tuple[Callable[[str], bool], str]]] = {
    "publication_date": _DAYS,
    "records_since": _DAYS,
    "records_until": _DAYS,
    "date": _DAYS_OR_WHY,
    "dpo_advice_date": _DAYS_OR_WHY,
    "data_curators": (_curators, "Daily Bugle (Industry); Government and Nonprofit are kinds too"),
    "tcf_purposes": (_or_why(_purposes), f"numbers 1 to 11, as 1; 10, {_WHY}"),
    "base_model_flop": (_or_why(lambda text: flop_of(text) is not None), f"a number, {_WHY}"),
    "data_source": (_is(_SOURCE), "Static or Dynamic"),
    "license": (_matches(r"[A-Za-z0-9.+-]+"), "an SPDX identifier, as apache-2.0"),
    "language": (_matches(r"[a-z]{2,3}"), "an ISO 639 code, as en"),
}
"""What more than words a field must be, and how it is said."""


def interview(path: Path, *, record: bool = False) -> None:
    """Ask for what is blank of a card's fields in a file; without a file, one is made.

    Args:
        path: the file.
        record: ask for all of the record of processing as well.

    Raises:
        InputError: the file cannot be read or filled in.
        Stopped: the person stopped; what was answered is in the file.
    """
    if not path.exists():
        replace_file(path, governance.template().encode())
    blank = list(governance.needed(governance.read(path), record=record))
    for number, (table, key, what) in enumerate(blank, 1):
        err.print(f"{number} of {len(blank)}: {what}")
        read = partial(_answer, path, table, key)
        _fill_in(path, table, key, ask(key, read))


def _answer(path: Path, table: str, key: str, text: str) -> str | list[str]:
    """The value of a field; raises `InputError` where a card would refuse it."""
    if not text:
        raise InputError("blank", expected="something in every field; Ctrl-C stops, and keeps all")
    holds, expected = RULES.get(key, (bool, ""))
    if not holds(text):
        raise InputError(key, expected=expected, got=ascii(text))
    since = governance.read(path).card.records_since
    if key == "records_until" and text < since:
        raise InputError(key, expected=f"{since} or later", got=text)
    if table != "card":
        _require_reason(key, text)
    many = not isinstance(getattr(getattr(Fields(), table), key), str)
    apart = [part for part in map(str.strip, text.split(";")) if part]
    value = ([text] if text.startswith(NOT_APPLICABLE) else apart) if many else text
    validate(Fields, {table: {key: value}}, where=key, fault=InputError)
    return value


def _require_reason(key: str, text: str) -> None:
    try:
        reasoned(text)
    except ValueError as error:
        raise InputError(key, expected=str(error), got=text) from None


def _fill_in(path: Path, table: str, key: str, value: str | list[str]) -> None:
    before = path.read_text(encoding="utf-8")
    text = filled_in(before, table, key, value)
    wanted = governance.read(path).model_dump(mode="json")
    wanted[table][key] = value
    if _parsed(text) != Fields.model_validate(wanted):
        raise InputError(
            "cannot be filled in",
            where=f"{path} [{table}] {key}",
            expected=f'a line {key} = ""',
            advice="fill it in by hand, and type the command again",
        )
    replace_file(path, text.encode())


def _parsed(text: str) -> Fields | None:
    try:
        return governance.parse(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, InputError):
        return None


def filled_in(text: str, table: str, key: str, value: str | list[str]) -> str:
    r"""A file's text with a blank field of a table filled in, and nothing else changed.

    Example:
        >>> filled_in('[card]\nname = ""  # short\nnotes = ""\n', "card", "name", "Topics")
        '[card]\nname = "Topics"  # short\nnotes = ""\n'
        >>> filled_in("[dpia]\n", "card", "name", "Topics")
        '[dpia]\n\n[card]\nname = "Topics"\n'
    """
    line = f"{key} = {toml_value(value)}"
    there = re.search(rf"^\[{table}\].*\n((?:(?!\[).*\n?)*)", text, re.MULTILINE)
    if there is None:
        return f"{text}\n[{table}]\n{line}\n"
    blank = re.compile(rf"^{key}[ \t]*=[ \t]*(?:\"\"|''|\[[ \t]*\])", re.MULTILINE)
    body, count = blank.subn(lambda _: line, there[1], count=1)
    if not count:
        body = f"{line}\n{body}"
    return text[: there.start(1)] + body + text[there.end(1) :]
