"""What is wrong with a file that a person wrote, in one message: the first fault, and its place.

Invariant: an unknown key is told before a missing one, because a misspelt key is often both.

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
from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from presspool.common.base.errors import ContractError, InputError

M = TypeVar("M", bound=BaseModel)


def validate(
    model: type[M], body: Mapping[str, Any], *, where: str, fault: type[InputError] = ContractError
) -> M:
    """`model.model_validate` with one PressPool error for the first thing that is wrong.

    Args:
        model: what the file should be.
        body: what it is.
        where: the file, for the error.
        fault: class of the error. Where no contract is at fault it must not be `ContractError`: an
            outlet that meets one tells the coordinator the code of a bad contract.

    Raises:
        InputError: a `fault`: file, key, expected, got and, for an unknown key, the nearest known.
    """
    try:
        return model.model_validate(dict(body))
    except ValidationError as error:
        # An unknown key often makes a required one missing: report the cause, not the effect.
        found = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise _explain(model, body, found[0], where, fault) from None


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
) -> InputError:
    path = [str(part) for part in error["loc"]]
    place = (
        f"{where} [{'.'.join(path[:-1])}] {path[-1]}"
        if len(path) > 1
        else (f"{where} {path[0]}" if path else where)
    )
    if error["type"] == "extra_forbidden":
        known = _known_keys(model, body, path[:-1])
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return fault("unknown key", where=place, got=path[-1], advice=hint)
    if error["type"] == "missing":
        return fault("missing key", where=place, advice="add it")
    got = error["input"]
    if isinstance(got, dict | BaseModel):
        got = None  # the whole table would bury the sentence
    return fault(error["msg"].removeprefix("Value error, "), where=place, got=got)


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
