"""`result.json`: what a run did, in figures; read by the report, the comparison and by scripts.

Invariants:
    * A value of these classes is valid: every field is checked on construction, whether it comes
      from a running federation or from a file that somebody edited.
    * Reading back what was written gives an equal value. JSON's missing NaN and Infinity are never
      needed: null stands for "not measured" and, for an ε, for "unprotected".
    * ε never falls from round to round: what was spent stays spent.
    * A result is private only if nothing speaks against it: `RunResult.cautions` lists what does,
      and whoever prints a result prints them.
    * The file is replaced as a whole or not at all.

Example:
    >>> outlet = OutletResult(name="north", population=120, weight=1.0, epsilon=3.0, delta=1e-5,
    ...                       unit="record", steps=40)
    >>> start = RoundResult(round=0, accuracy=0.25, macro_f1=0.1, loss=1.4, bytes_up=0,
    ...                     bytes_down=0, seconds=0.5, epsilon=0.0, outlets=(), refused={})
    >>> run = RunResult(name="demo", contract_digest="sha256:" + "0" * 64, status="running",
    ...                 deterministic=False, rounds=(start,), outlets=(outlet,),
    ...                 adapter_sha256=None, statement="not finished", trust="local",
    ...                 accountant="dp_accounting PLD 0.6", seconds=0.5, versions={}, contract={})
    >>> run.private, [str(caution) for caution in run.cautions]
    (False, ['record level: weaker than reader level'])
    >>> RunResult.from_json(run.to_json()) == run
    True
"""

import contextlib
import dataclasses
import json
import math
import unicodedata
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass

from presspool.common.base.errors import FolderError, InputError
from presspool.common.base.files import replace_file

RESULT_FILE = "result.json"
_MAX_BYTES = 64 * 2**20  # 30 outlets and 10 000 rounds stay below; a larger file is not ours
_EXACT = 2**53 - 1  # the largest integer that every JSON reader keeps
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_ADVICE = "give a run folder that PressPool wrote, or run it again"
_CHECKED = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


def shows_safely(text: str) -> bool:
    """Whether text can neither drive a terminal nor turn the reading direction of its line."""
    control = {"Cc", "Cs", "Zl", "Zp"}
    return not any(c in _BIDI or unicodedata.category(c) in control for c in text)


def _showable(text: str) -> str:
    if not shows_safely(text):
        raise ValueError("one line of text without control characters")
    return text


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("each name once")
    return names


Count = Annotated[int, Field(ge=0, le=_EXACT)]
Amount = Annotated[float, Field(ge=0, le=1e300)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_showable)]
Line = Annotated[str, Field(max_length=5000), AfterValidator(_showable)]
Names = Annotated[tuple[Name, ...], AfterValidator(_distinct)]


class Caution(StrEnum):
    """What stands between a result and the word "private"; printed wherever the result is."""

    UNPROTECTED = "unprotected"
    RECORD = "record level: weaker than reader level"
    SIMULATION = "noise was reproducible: a simulation, not a release"


@dataclass(frozen=True, kw_only=True, config=_CHECKED)
class RoundResult:
    """One round, as the coordinator saw it.

    Attributes:
        round: 0 is the state before training.
        accuracy: share of the public held-out records that are right, of a large file on some of
            its records between the first and the last round; None: not measured.
        macro_f1: mean of the classes' F1 scores on the same records.
        loss: mean cross-entropy on the same records, in nats; None also where it is not finite.
        bytes_up: bytes that all outlets sent in this round.
        bytes_down: bytes that all outlets received in this round.
        seconds: wall-clock time of this round.
        epsilon: the largest ε that an outlet has spent after this round; None: unprotected.
        outlets: whose updates were admitted.
        refused: outlet to the fixed code of its refusal.

    Raises:
        pydantic.ValidationError: a field holds something else.
    """

    round: Count
    accuracy: Share | None
    macro_f1: Share | None
    loss: float | None
    bytes_up: Count
    bytes_down: Count
    seconds: Amount
    epsilon: Amount | None
    outlets: Names
    refused: Mapping[Name, Line]

    @model_validator(mode="after")
    def _verify(self) -> Self:
        if self.round == 0 and (self.bytes_up or self.bytes_down or self.outlets):
            raise ValueError("round 0 is before training: no bytes and no updates")
        return self


@dataclass(frozen=True, kw_only=True, config=_CHECKED)
class OutletResult:
    """What the run cost one outlet's readers.

    Attributes:
        name: the outlet's name in the contract.
        population: declared number of readers, from the contract.
        weight: weight in the average, from the contract.
        epsilon: ε of the whole run for one unit of this outlet; None: unprotected.
        delta: the δ that belongs to `epsilon`.
        unit: what one ε covers; "record" is weaker than "reader".
        steps: noised optimiser steps.

    Raises:
        pydantic.ValidationError: a field holds something else, or an ε has no δ.
    """

    name: Name
    population: Annotated[int, Field(ge=1, le=_EXACT)]
    weight: Amount
    epsilon: Amount | None
    delta: Annotated[float, Field(gt=0, lt=1)] | None
    unit: Literal["reader", "record"]
    steps: Count

    @model_validator(mode="after")
    def _verify(self) -> Self:
        if self.epsilon is not None and self.delta is None:
            raise ValueError("a δ beside this outlet's ε")
        return self


@dataclass(frozen=True, kw_only=True, config=_CHECKED)
class RunResult:
    """A run so far, or complete.

    Attributes:
        schema: version of this file's form.
        name: the run's name; whoever wrote the contract chose it, so it is never trusted as markup.
        contract_digest: sha256 of the contract that every outlet agreed to.
        status: "running" until the last round's result is written.
        deterministic: noise and sampling could be reproduced, so nothing here is private.
        rounds: from round 0 on, without gaps.
        outlets: one or more, in contract order.
        adapter_sha256: of the final adapter file, in hex; None while there is none.
        statement: the one-line ε statement, or the sentence that says unprotected.
        trust: the trust model, "local" or "pooled".
        accountant: name and version of what computed ε.
        seconds: wall-clock time of the whole run.
        versions: package to version.
        contract: the canonical contract body.

    Raises:
        pydantic.ValidationError: a field holds something else, or two contradict each other.
    """

    schema: Literal[1] = 1
    name: Name
    contract_digest: Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")]
    status: Literal["running", "complete"]
    deterministic: bool
    rounds: tuple[RoundResult, ...]
    outlets: Annotated[tuple[OutletResult, ...], Field(min_length=1)]
    adapter_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
    statement: Line
    trust: Name
    accountant: Name
    seconds: Amount
    versions: Mapping[Name, Line]
    contract: Mapping[str, JsonValue]

    @model_validator(mode="after")
    def _verify(self) -> Self:
        json.dumps(self.contract, allow_nan=False, ensure_ascii=False).encode()  # or ValueError
        _distinct(tuple(outlet.name for outlet in self.outlets))
        if len({outlet.unit for outlet in self.outlets}) > 1:
            raise ValueError("one unit for all outlets")
        if [entry.round for entry in self.rounds] != list(range(len(self.rounds))):
            raise ValueError("rounds 0, 1, 2, … in order")
        if self.status == "complete" and not self.rounds:
            raise ValueError("at least round 0 in a complete run")
        names = {outlet.name for outlet in self.outlets}
        if not all(names.issuperset(entry.outlets) for entry in self.rounds):
            raise ValueError("only outlets of this run in its rounds")
        spent = [math.inf if e.epsilon is None else e.epsilon for e in self.rounds]
        if spent != sorted(spent):
            raise ValueError("an ε that never falls from round to round")
        return self

    @property
    def final(self) -> RoundResult:
        """The last round so far.

        Raises:
            InputError: the run has no round yet.
        """
        if not self.rounds:
            raise InputError("no round yet", where=self.name, advice="wait for round 0")
        return self.rounds[-1]

    @property
    def unit(self) -> Literal["reader", "record"]:
        """What one ε of this run covers."""
        return self.outlets[0].unit

    @property
    def epsilon(self) -> float | None:
        """The largest ε that one outlet's readers pay; None: somebody is unprotected.

        A reader of several outlets pays more: see `worst_case`.
        """
        spent = [outlet.epsilon for outlet in self.outlets]
        spent += [entry.epsilon for entry in self.rounds]
        return None if None in spent else max(value for value in spent if value is not None)

    @property
    def delta(self) -> float | None:
        """The largest δ beside `epsilon`; None where there is no ε."""
        deltas = [outlet.delta for outlet in self.outlets if outlet.delta is not None]
        return max(deltas) if deltas and self.epsilon is not None else None

    @property
    def worst_case(self) -> tuple[Decimal, Decimal] | None:
        """(ε, δ) of a reader who is at every outlet: sequential composition adds both.

        Dwork and Roth 2014, theorem 3.16. Decimal, because a bound must not shrink by rounding.
        """
        if self.epsilon is None:
            return None
        epsilons = (Decimal(repr(outlet.epsilon)) for outlet in self.outlets)
        deltas = (Decimal(repr(outlet.delta)) for outlet in self.outlets)
        return sum(epsilons, Decimal()), sum(deltas, Decimal())

    @property
    def cautions(self) -> tuple[Caution, ...]:
        """Everything that keeps this result from being private at reader level."""
        unprotected = self.epsilon is None
        found = {
            Caution.UNPROTECTED: unprotected,
            Caution.RECORD: self.unit == "record" and not unprotected,
            Caution.SIMULATION: self.deterministic,
        }
        return tuple(caution for caution, applies in found.items() if applies)

    @property
    def private(self) -> bool:
        """Finite ε, at reader level, with noise that nobody can reproduce."""
        return not self.cautions

    @property
    def bytes_up(self) -> int:
        """Bytes that the outlets sent in all rounds."""
        return sum(entry.bytes_up for entry in self.rounds)

    @property
    def bytes_down(self) -> int:
        """Bytes that the outlets received in all rounds."""
        return sum(entry.bytes_down for entry in self.rounds)

    def to_json(self) -> str:
        """The text of `result.json`."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "RunResult":
        """The result that this text describes.

        Raises:
            InputError: not JSON, an unknown schema or key, a missing key, or a wrong value.
        """
        body = _decode(text)
        schema = body.get("schema") if isinstance(body, dict) else 1
        if type(schema) is not int or schema != 1:
            raise InputError(
                "unknown schema",
                where="schema",
                expected=1,
                got=_short(schema),
                advice="read it with the PressPool version that wrote it",
            )
        try:
            return _RUN.validate_json(text)
        except ValidationError as error:
            raise _told(error) from None


_RUN = TypeAdapter(RunResult)
_PLAINER = {
    "json_invalid": "text that UTF-8 can hold, nested less deeply",
    "missing": "this key",
    "too_short": "one or more",
    "unexpected_keyword_argument": "no key of this name",
}


def _short(value: object) -> str:
    shown = ascii(value)  # a file may hold anything, and this goes to a terminal
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _step(part: int | str) -> str:
    return f".{part}" if str(part).isidentifier() else f"[{_short(part)}]"  # a key may be foreign


def _told(error: ValidationError) -> InputError:
    fault = error.errors(include_url=False)[0]
    where = "".join(map(_step, fault["loc"])).lstrip(".")
    said = fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    expected = _PLAINER.get(fault["type"], said)
    got = None if fault["type"] == "missing" else _short(fault["input"])
    return InputError("not a valid result", where=where, expected=expected, got=got, advice=_ADVICE)


def _decode(text: str | bytes) -> Any:
    """Strict JSON: no key twice (readers differ in which they keep), no NaN, no endless nesting."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(items)) < len(items):
            raise ValueError("a key stands twice in one object")
        return dict(items)

    def constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        got = _short(str(error) or "too deeply nested")
        raise InputError(
            "broken JSON", expected="one JSON object", got=got, advice=_ADVICE
        ) from None


def read_result(folder: Path) -> RunResult:
    """The result of the run in this folder.

    Raises:
        FolderError: no such folder, or no readable result.json in it.
        InputError: a result.json that is not a valid result; names file and key.
    """
    path = folder / RESULT_FILE
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise FolderError(
            "not a run folder",
            where=str(folder),
            expected=f"a folder with a {RESULT_FILE}",
            got=error.strerror,
            advice=_ADVICE,
        ) from None
    if len(text) > _MAX_BYTES:
        raise InputError(
            "too large", where=str(path), expected=f"{_MAX_BYTES} bytes or fewer", advice=_ADVICE
        )
    try:
        return RunResult.from_json(text)
    except InputError as error:
        raise InputError(
            error.what,
            where=f"{path} {error.where}".rstrip(),
            expected=error.expected,
            got=error.got,
            advice=error.advice,
        ) from None


def write_result(folder: Path, result: RunResult) -> Path:
    """Write or replace the folder's result.json as a whole; returns its path.

    Raises:
        StorageError: the disk refused; an earlier result.json is still there and whole.
    """
    with contextlib.suppress(OSError):  # what is wrong, the writing will tell
        folder.mkdir(parents=True, exist_ok=True)
    return replace_file(folder / RESULT_FILE, result.to_json().encode())
