"""What is wrong with a file that a person wrote, in one message: the first fault, and its place.

And the two kinds of documents that programs write: strict ones, and such as have one spelling.

Invariants:
    * A document's unknown field is a fault, a number is no text, and nothing changes afterwards.
    * Equal canonical documents have equal bytes (RFC 8785), and `parse` takes no others.
    * An unknown key is told before a missing one, because a misspelt key is often both.
    * What a schema asks is told in our words (`expected`), never in pydantic's.

Example:
    >>> from presspool.common.contract.contract_schema import Federation
    >>> try:
    ...     validate(Federation, {"rounds": 3, "local_step": 4}, where="run.toml")
    ... except ContractError as error:
    ...     error.advice
    "did you mean 'local_steps'?"
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Self, TypeVar, get_args

import rfc8785
from pydantic import BaseModel, ConfigDict, ValidationError

from presspool.common.base.errors import ContractError, EvidenceError, InputError

M = TypeVar("M", bound=BaseModel)

# What pydantic's kinds of error ask for, by its names, with its context filled in.
KINDS = {
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dataclass_exact_type": "an object",
    "dataclass_type": "an object",
    "date_from_datetime_inexact": "a day as 2026-01-31",
    "date_from_datetime_parsing": "a day as 2026-01-31",
    "date_type": "a day as 2026-01-31",
    "datetime_from_date_parsing": "a moment as 2026-01-31T12:00:00Z",
    "datetime_parsing": "a moment as 2026-01-31T12:00:00Z",
    "datetime_type": "a moment as 2026-01-31T12:00:00Z",
    "dict_type": "a table",
    "enum": "{expected}",
    "extra_forbidden": "no key of this name",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "a number greater than {gt}",
    "greater_than_equal": "{ge} or more",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "int_type": "a whole number",
    "json_invalid": "text that UTF-8 can hold, nested less deeply",
    "less_than": "a number less than {lt}",
    "less_than_equal": "{le} or less",
    "list_type": "a list",
    "literal_error": "{expected}",
    "missing": "this key",
    "model_attributes_type": "a table",
    "model_type": "a table",
    "none_required": "nothing",
    "path_type": "a path",
    "string_sub_type": "text",
    "string_too_long": "{max_length} characters or fewer",
    "string_too_short": "{min_length} characters or more",
    "string_type": "text in quotes",
    "string_unicode": "text that UTF-8 can hold",
    "time_parsing": "a time of day as 18:00:00",
    "time_type": "a time of day as 18:00:00",
    "timezone_aware": "a moment with its zone, as 2026-01-31T12:00:00Z",
    "too_long": "{max_length} or fewer",
    "too_short": "{min_length} or more",
    "tuple_type": "a list",
    "unexpected_keyword_argument": "no key of this name",
    "union_tag_invalid": "{discriminator} with one of {expected_tags}",
    "union_tag_not_found": "a table with {discriminator}",
}
# What the schemas' patterns stand for, without their ends.
FORMS = {
    "[a-z0-9][a-z0-9-]{0,62}": "1 to 63 small letters, digits and dashes",
    "[a-z0-9][a-z0-9./-]{0,199}": "1 to 200 small letters, digits, dots, slashes and dashes",
    "[A-Za-z0-9][A-Za-z0-9._-]{0,63}": "1 to 64 letters, digits, dots, dashes and underscores",
    "sha256:[0-9a-f]{64}": "sha256: and 64 digits 0-9 or a-f",
    "[0-9a-f]{64}": "64 digits 0-9 or a-f",
    "[0-9a-f]{32}": "32 digits 0-9 or a-f",
    r"[^\s\x00]+": "letters, digits and signs without white space",
    "[0-9]{4}-[0-9]{2}-[0-9]{2}": "a day as 2026-01-31",
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}|not applicable, because .*\S.*)": "a day as 2026-01-31, or not "
    "applicable, because …",
    "[0-9]{4}(-(Q[1-4]|H[12]|0[1-9]|1[0-2]))?": "a period as 2026, 2026-Q1, 2026-H1 or 2026-01",
    r"[0-9]+(\.[0-9]+)?(E[+-]?[0-9]+)?": "a number in digits",
    "[0-9][0-9A-Za-z.]{0,19}": "a version as 1.2",
    r"[a-z0-9][a-z0-9./-]{0,199}\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44}": "a key as NAME+HASH+KEY",
    "[A-Za-z0-9+/]{86}==": "a signature in base64",
    "[A-Za-z0-9+/]+={0,2}": "base64",
    "(equal|lognormal:.+|pareto:.+)": "equal, lognormal:SIGMA or pareto:ALPHA",
    "(files|iid|column:.+|dirichlet:.+)": "files, iid, column:NAME or dirichlet:ALPHA",
    r"[^\x00]*": "text without the character 0",
    r"\S": "something to read",
    "[A-Z][A-Z0-9_]{1,39}": "2 to 40 capitals, digits and underscores",
    "[a-z]{2}": "two small letters",
    "(adapter/)?[A-Za-z0-9][A-Za-z0-9._-]{0,63}": "a plain file name, in adapter/ or beside it",
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ": "a moment as 2026-01-31T12:00:00Z",
    "[a-z][a-z0-9_]{0,79}": "1 to 80 small letters, digits and underscores",
}
_QUOTED = ", without quotes"


class StrictDocument(BaseModel):
    """A document of which every field is known."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class CanonicalDocument(StrictDocument):
    """A document that has one spelling; its `format` says which kind it is."""

    def canonical(self) -> bytes:
        """Its bytes."""
        return rfc8785.dumps(self.model_dump(mode="json"))

    @classmethod
    def parse(cls, data: bytes, *, what: str, most: int, where: str = "") -> Self:
        """Read one.

        Args:
            data: its bytes.
            what: the fault, where they are none of it.
            most: how many they may be.
            where: what they came from.

        Raises:
            EvidenceError: not such a document in its one spelling.
        """
        with suppress(ValueError, RecursionError):
            if len(data) <= most and (found := cls.model_validate_json(data)).canonical() == data:
                return found
        raise EvidenceError(what, where=where, expected=cls.model_fields["format"].default)


def expected(error: Any) -> str:
    """What a schema asked for where an entry of `ValidationError.errors()` came up.

    Example:
        >>> expected({"type": "greater_than", "ctx": {"gt": 0}, "input": -1})
        'a number greater than 0'
    """
    kind, context = error["type"], {key: _short(at) for key, at in error.get("ctx", {}).items()}
    if kind == "value_error":  # a validator's own words
        return str(error["msg"]).removeprefix("Value error, ")
    if kind == "string_pattern_mismatch":
        return FORMS.get(bare(context["pattern"]), "text of another form")
    words = KINDS.get(kind, "another value").format_map(context)
    quoted = isinstance(error.get("input"), str) and kind.startswith(("bool", "float", "int"))
    return words + _QUOTED if quoted else words


def _short(bound: Any) -> Any:
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound


def unread(error: Exception) -> str:
    """Why a file of ours could not be read, in no exception's name.

    Example:
        >>> unread(FileNotFoundError(2, "No such file")), unread(KeyError("x"))
        ('No such file', 'not what PressPool wrote there')
    """
    return getattr(error, "strerror", None) or "not what PressPool wrote there"


def bare(pattern: str) -> str:
    """A pattern without the signs for both ends of the text."""
    return re.sub(r"(\$|\\z)$", "", pattern.removeprefix("^"))


def validate(
    model: type[M],
    body: Mapping[str, Any],
    *,
    where: str,
    fault: type[InputError] = ContractError,
    beside: Sequence[str] = (),
) -> M:
    """`model.model_validate` with one PressPool error for the first thing that is wrong.

    Args:
        model: what the file should be.
        body: what it is.
        where: the file, for the error.
        fault: class of the error. Where no contract is at fault it must not be `ContractError`: an
            outlet that meets one tells the coordinator the code of a bad contract.
        beside: keys that the file may have and the body no longer has.

    Raises:
        InputError: a `fault`: file, key, expected, got and, for an unknown key, the nearest known.
    """
    try:
        return model.model_validate(dict(body))
    except ValidationError as error:
        # An unknown key often makes a required one missing: report the cause, not the effect.
        found = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise _explain(model, body, found[0], where, fault, beside) from None


def pairs(given: Sequence[str] | None, option: str) -> list[tuple[str, str]]:
    """What was typed for an option that takes NAME=VALUE, and may be repeated.

    Raises:
        InputError: one of them lacks its name, its `=` or its value.

    Example:
        >>> pairs(["text=title", "label=topic"], "--column")
        [('text', 'title'), ('label', 'topic')]
    """
    found = []
    for text in given or []:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise InputError("a pair", where=option, expected="NAME=VALUE", got=ascii(text))
        found.append((name, value))
    return found


def unknown_keys(model: type[BaseModel], body: Mapping[str, Any]) -> list[str]:
    """Every key of a body, as `table.key`, that the model does not know.

    Example:
        >>> from presspool.common.contract.contract_schema import Federation
        >>> unknown_keys(Federation, {"rounds": 3, "local_steps": 4, "colour": 1})
        ['colour']
    """
    try:
        model.model_validate(dict(body))
    except ValidationError as error:
        found = [e["loc"] for e in error.errors() if e["type"] == "extra_forbidden"]
        return [".".join(map(str, place)) for place in found]
    return []


def _explain(
    model: type[BaseModel],
    body: Mapping[str, Any],
    error: Any,
    where: str,
    fault: type[InputError],
    beside: Sequence[str],
) -> InputError:
    path = [str(part) for part in error["loc"]]
    place = (
        f"{where} [{'.'.join(path[:-1])}] {path[-1]}"
        if len(path) > 1
        else (f"{where} {path[0]}" if path else where)
    )
    if error["type"] == "extra_forbidden":
        known = [*_known_keys(model, body, path[:-1]), *(beside if len(path) == 1 else ())]
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "take it out, or give it its right name"
        asked = f"one of {', '.join(known)}" if known else None
        return fault("unknown key", where=place, expected=asked, got=path[-1], advice=hint)
    if error["type"] == "missing":
        return fault("missing key", where=place, advice="add it")
    got = error["input"]
    if isinstance(got, dict | BaseModel):
        got = None  # the whole table would bury the sentence
    asked = expected(error)
    if error["type"] == "value_error":
        return fault(asked, where=place, got=got)
    if asked.endswith(_QUOTED):
        got = json.dumps(got, ensure_ascii=False)
    return fault("not allowed here", where=place, expected=asked, got=got)


def _known_keys(model: type[BaseModel], body: Any, path: list[str]) -> list[str]:
    """Keys that the table at `path` of `model` may have; one of several kinds by its `body`."""
    for part in path:
        if part.isdigit():
            continue  # a place in a list of tables
        annotation = next(
            (f.annotation for n, f in model.model_fields.items() if part in (n, f.alias)), None
        )
        parts = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type)]
        inner = [a for a in parts if issubclass(a, BaseModel)]
        if not inner:
            return []
        model, body = inner[0], body.get(part) if isinstance(body, Mapping) else None
        if narrowed := getattr(model, "narrowed", None):
            model = narrowed(body)
    return [f.alias or n for n, f in model.model_fields.items()]
