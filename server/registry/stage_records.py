"""Which adapter is at which stage: records of who moved it, when and why, and their replay.

::

    candidate → staging → production → retired        `add`, `promote`, `promote`, `retire`

One adapter a task and language is in production. The next one that gets there retires it in the
same record, so no crash shows two or none; `rollback` brings back the one before. `retire` ends an
adapter for good; one that was only replaced may be promoted again, from staging on.

Invariants:
    * A state is what replaying the records gives, and nothing else: no file says who is in use.
    * `Shelves.take` accepts exactly the moves above, so a log that was written by other means than
      ours does not pass for one.
    * Into production leads the gate's report, or a person's name and reason; for ever.

Example:
    >>> shelves = Shelves()
    >>> shelves.take(StageRecord(number=0, time="2026-11-30T08:00:00Z", action="add", by="A. B.",
    ...     reason="first", entry="sha256:" + "0" * 64, name="topics", version=1, task="topics",
    ...     language="en"))
    >>> shelves.find("topics@1").stage
    'candidate'
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import groupby
from typing import Annotated, Final, Literal

from pydantic import Field

from presspool.common.audit.evidence.governance import Words
from presspool.common.base.errors import EvidenceError, InputError
from presspool.common.base.validation import CanonicalDocument
from presspool.common.contract.contract_schema import Name, Sha256
from presspool.common.released.gate_overrides import Override
from presspool.server.registry.registry_entry import Language

LONGEST_RECORD: Final = 1 << 15
Stage = Literal["candidate", "staging", "production", "retired"]
Action = Literal["add", "promote", "rollback", "retire"]
Slot = tuple[str, str]
"""A task and a language."""

_Said = Annotated[Words, Field(min_length=1, max_length=2000)]
_Once = {"exclude_if": lambda value: value is None}


class StageRecord(CanonicalDocument):
    """One move; its bytes are a leaf of the log's tree.

    Attributes:
        number: its place in the log, from 0.
        time: UTC.
        entry: id of what was moved; of a rollback, what was brought back.
        by: who moved it, as that person says.
        replaces: what was in production until then, if anything.
        gate: digest of the release gate's report, on the way into production.
        without_gate: nobody asked the gate; `by` answers for it with `reason`.
        name: (with `version`, `task`, `language`) of an `add` alone.
    """

    format: Literal["presspool-registry/1"] = "presspool-registry/1"
    number: Annotated[int, Field(ge=0)]
    time: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\z")]
    action: Action
    entry: Sha256
    by: _Said
    reason: _Said
    replaces: Annotated[Sha256 | None, Field(**_Once)] = None
    gate: Annotated[Sha256 | None, Field(**_Once)] = None
    without_gate: Annotated[Literal[True] | None, Field(**_Once)] = None
    name: Annotated[Name | None, Field(**_Once)] = None
    version: Annotated[int | None, Field(ge=1, **_Once)] = None
    task: Annotated[Name | None, Field(**_Once)] = None
    language: Annotated[Language | None, Field(**_Once)] = None


def parse_record(data: bytes) -> StageRecord:
    """Read a record; raises `EvidenceError` for none in its one spelling."""
    return StageRecord.parse(data, what="not a record of a registry", most=LONGEST_RECORD)


@dataclass
class Shelved:
    """An entry as the log has it so far.

    Attributes:
        records: all of its moves, also those of others that moved it.
        ended: retired for good.
    """

    entry: str
    name: str
    version: int
    slot: Slot
    stage: Stage = "candidate"
    records: list[StageRecord] = field(default_factory=list)
    ended: bool = False

    @property
    def title(self) -> str:
        """As people call it."""
        return f"{self.name}@{self.version}"

    @property
    def overrides(self) -> list[Override]:
        """Who let it into production without the gate: printed wherever the card is."""
        return [
            Override(time=one.time, by=one.by, reason=one.reason)
            for one in self.records
            if one.without_gate and one.entry == self.entry
        ]


class Shelves:
    """The replay of a log.

    Attributes:
        size: records so far.
        entries: by id, in the order in which they came.
    """

    def __init__(self) -> None:
        self.size = 0
        self.entries: dict[str, Shelved] = {}
        self._used: dict[Slot, list[str]] = {}  # went into production; the last may be there now

    def in_production(self, slot: Slot) -> Shelved | None:
        """What is in use for a task and language."""
        last = self._used.get(slot, [])[-1:]
        found = [self.entries[one] for one in last if self.entries[one].stage == "production"]
        return found[0] if found else None

    def before(self, slot: Slot) -> Shelved | None:
        """What a rollback brings back."""
        used = self._used.get(slot, [])
        left = used[:-1] if self.in_production(slot) else used
        return self.entries[left[-1]] if left else None

    def slot(self, name: str) -> Slot | None:
        """The task and language for which adapters of a name are; None before the first."""
        return next((one.slot for one in self.entries.values() if one.name == name), None)

    def versions(self, name: str) -> int:
        """How many entries have come under a name."""
        return sum(one.name == name for one in self.entries.values())

    def find(self, which: str) -> Shelved:
        """What NAME@VERSION, NAME (its newest), a digest or its beginning means.

        Raises:
            InputError: nothing, or more than one.
        """
        word = which.removeprefix("sha256:")
        named = [one for one in self.entries.values() if which in (one.title, one.name)]
        short = [one for one in self.entries.values() if one.entry[7:].startswith(word)]
        found = named[-1:] or (short if len(word) >= 4 else [])
        if len(found) == 1:
            return found[0]
        titles = [one.title for one in self.entries.values()]
        near = get_close_matches(which, [*titles, *(one.name for one in self.entries.values())], 1)
        raise InputError(
            "more than one adapter" if found else "no such adapter in the registry",
            where="WHICH",
            expected=", ".join(one.title for one in found) or "NAME@VERSION or 4 digits of its id",
            got=ascii(which),
            advice=f"did you mean {near[0]}?" if near else "presspool adapters list",
        )

    def take(self, record: StageRecord) -> None:
        """Add the next record.

        Raises:
            EvidenceError: not a move that can be made; nothing has changed.
        """
        if record.number != self.size:
            raise _wrong(record, expected=f"record {self.size}", got=f"record {record.number}")
        {
            "add": self._add,
            "promote": self._promote,
            "rollback": self._roll_back,
            "retire": self._retire,
        }[record.action](record)
        for one in {record.entry, record.replaces or record.entry}:
            self.entries[one].records.append(record)
        self.size += 1

    def _add(self, record: StageRecord) -> None:
        name, version, task, language = record.name, record.version, record.task, record.language
        if name is None or version is None or task is None or language is None:
            raise _wrong(record, expected="name, version, task and language", got="not all of them")
        if record.entry in self.entries:
            raise _wrong(record, expected="each once", got=self.entries[record.entry].title)
        if version != self.versions(name) + 1:
            raise _wrong(record, expected=f"version {self.versions(name) + 1}", got=version)
        if (there := self.slot(name) or (task, language)) != (task, language):
            raise _wrong(record, expected=f"{name} for {' '.join(there)}", got=f"{task} {language}")
        _require(record, replaces=None, gated=False, names=True)
        self.entries[record.entry] = Shelved(record.entry, name, version, (task, language))

    def _promote(self, record: StageRecord) -> None:
        one = self._known(record)
        if one.ended or one.stage == "production":
            got = "retired for good" if one.ended else "in production"
            before = "a candidate, one in staging, or one that was only replaced"
            raise _wrong(record, expected=before, got=got)
        if one.stage != "staging":
            _require(record, replaces=None, gated=False)
            one.stage = "staging"
            return
        there = self.in_production(one.slot)
        _require(record, replaces=there, gated=True)
        self._use(one, there)

    def _roll_back(self, record: StageRecord) -> None:
        one = self._known(record)
        if self.before(one.slot) is not one:
            before = self.before(one.slot)
            raise _wrong(record, expected=before.title if before else "nothing", got=one.title)
        there = self.in_production(one.slot)
        _require(record, replaces=there, gated=False)
        del self._used[one.slot][-1 if there is None else -2 :]
        self._use(one, there)

    def _retire(self, record: StageRecord) -> None:
        one = self._known(record)
        if one.ended:
            raise _wrong(record, expected="one that is not retired for good", got=one.stage)
        _require(record, replaces=None, gated=False)
        one.stage, one.ended = "retired", True
        left = [entry for entry in self._used.get(one.slot, []) if entry != one.entry]
        # What came before and after it may be the same one, which is no step back.
        self._used[one.slot] = [entry for entry, _ in groupby(left)]

    def _use(self, one: Shelved, instead_of: Shelved | None) -> None:
        if instead_of is not None:
            instead_of.stage = "retired"
        one.stage = "production"
        self._used.setdefault(one.slot, []).append(one.entry)

    def _known(self, record: StageRecord) -> Shelved:
        if record.entry not in self.entries:
            raise _wrong(record, expected="an entry that was added", got=record.entry)
        return self.entries[record.entry]


def _require(
    record: StageRecord, *, replaces: Shelved | None, gated: bool, names: bool = False
) -> None:
    """Raise `EvidenceError` unless a record says all that its move needs, and no more."""
    wanted = replaces.entry if replaces else None
    if record.replaces != wanted:
        raise _wrong(record, expected=f"replaces {wanted}", got=record.replaces)
    said = (record.gate is not None) + (record.without_gate is not None)
    if said != int(gated):
        raise _wrong(
            record,
            expected="the gate's report, or without it: --gate FILE or --without-gate"
            if gated
            else "no word of a gate",
            got=("none", "one", "both")[said],
        )
    if not names and (record.name, record.version, record.task, record.language) != (None,) * 4:
        raise _wrong(record, expected="no names", got=record.name)


def _wrong(record: StageRecord, *, expected: object, got: object) -> EvidenceError:
    return EvidenceError(
        f"cannot {record.action} it",
        entry=record.number,
        where=f"record {record.number} of the registry's log",
        expected=expected,
        got=got,
    )
