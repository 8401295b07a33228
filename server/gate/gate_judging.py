"""One adapter judged: its case is opened, every check is made in order, and a report comes of it.

Invariants:
    * What is judged is what the registry has, checked again from its signature up; a run's folder
      outside is not looked at.
    * A ledger's export continues the very head that the adapter's card names.
    * The report is whole: an interrupted gate, or one that was given what it cannot read, has none.

Example:
    with opened(registry, one, handed) as case:
        report = judged(case, advance=print)
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

from pydantic import Field

from presspool.common.audit.cards.card import Card
from presspool.common.audit.evidence import audit_console, sources
from presspool.common.audit.evidence.ledger_view import OutletReading
from presspool.common.base.errors import InputError
from presspool.common.base.numbers import moment
from presspool.common.contract.doors import task_of
from presspool.common.ledger.recompute import Recomputed, recompute
from presspool.common.runs.result_file import read_result
from presspool.common.transparency.checkpoints import Checkpoint
from presspool.server.gate.checks import (
    attack_bound,
    explanations,
    fairness,
    floors,
    ledgers,
    papers,
    production,
    robustness,
    written_texts,
)
from presspool.server.gate.checks.public_rows import public_rows
from presspool.server.gate.finding import Finding
from presspool.server.gate.gate_case import Check, GateCase, JudgedAdapter
from presspool.server.gate.release_policy import file_digest, read_policy
from presspool.server.registry.adapter_registry import AdapterRegistry
from presspool.server.registry.gate_report import GateReport, read_report_file
from presspool.server.registry.object_store import sha256
from presspool.server.registry.registry_verdict import laid_out
from presspool.server.registry.stage_records import Shelved

CHECKS: Final[tuple[Check, ...]] = (
    papers,
    ledgers,
    attack_bound,
    floors,
    production,
    robustness,
    fairness,
    written_texts,
    explanations,
)
"""In the order in which they are made: what costs nothing first."""
_PACKAGES = ("presspool", "torch", "transformers", "dp-accounting")


@dataclass(frozen=True, kw_only=True)
class Handed:
    """What whoever asks the gate brings.

    Attributes:
        policy: the newsroom's `release.toml`.
        ledgers: outlets' exports.
        attack: `attack.json` of `presspool audit attack`.
        known: keys and heads of those ledgers, from elsewhere than their exports.
    """

    policy: Path
    ledgers: Sequence[Path] = ()
    attack: Path | None = None
    known: sources.Brought = sources.NOTHING


class FullReport(GateReport):
    """All that this gate says; the registry asks for less (`gate_report`).

    Attributes:
        title: of the adapter, as the registry calls it.
        production: what it was compared with, if anything.
        time: UTC.
        versions: package to version.
        findings: in the order of the checks.
    """

    title: str
    production: str | None
    time: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\z")]
    versions: dict[str, str]
    findings: tuple[Finding, ...]

    @property
    def failures(self) -> tuple[Finding, ...]:
        """What is in the way."""
        return tuple(found for found in self.findings if found.verdict == "failed")


@contextmanager
def opened(registry: AdapterRegistry, one: Shelved, handed: Handed) -> Iterator[GateCase]:
    """Everything that is judged, laid out for as long as the block lasts.

    Raises:
        InputError: a policy, a ledger, a list or rows that cannot be read, or that are others when
            the block ends; a key or a head of another ledger.
        EvidenceError: an adapter or a ledger that is damaged; one of another ledger than the
            card's.
        StorageError: the registry cannot be reached.
    """
    asked = read_policy(handed.policy)
    policy, by = asked.policy, asked.digests()
    exports = {path: file_digest(path) for path in handed.ledgers}
    attack = read_report_file(handed.attack) if handed.attack else None
    there = registry.shelves.in_production(one.slot)
    with TemporaryDirectory(prefix="presspool-gate-") as place:
        candidate = _laid_out(registry, one, Path(place))
        ledgers, again = _ledgers(handed, candidate.card)
        brought = {
            f"ledger {name}": digest for name, digest in zip(ledgers, exports.values(), strict=True)
        }
        yield GateCase(
            candidate=candidate,
            production=_laid_out(registry, there, Path(place))
            if there is not None and there is not one
            else None,
            policy=policy,
            inputs=by | brought | ({"attack": sha256(attack)} if attack is not None else {}),
            ledgers=ledgers,
            attack=attack,
            public=public_rows(
                policy.public, asked.beside, task_of(candidate.papers.adapter.contract)
            )
            if policy.public
            else None,
            recomputed=again,
            beside=asked.beside,
        )
    if by != asked.digests() or exports != {path: file_digest(path) for path in exports}:
        raise InputError("files changed while they were judged by", where=str(handed.policy))


def _laid_out(registry: AdapterRegistry, one: Shelved, place: Path) -> JudgedAdapter:
    found = laid_out(registry, one, place)
    return JudgedAdapter(
        title=one.title,
        entry=one.entry,
        folder=found.folder,
        papers=found.papers,
        result=read_result(found.folder),
    )


def _ledgers(handed: Handed, card: Card) -> tuple[dict[str, OutletReading], dict[str, Recomputed]]:
    """The exports, held against what was brought of them and the heads that the card names."""
    found, again = dict[str, OutletReading](), dict[str, Recomputed]()
    for path in handed.ledgers:
        ledger = sources.read_outlet(path, brought=handed.known)
        if ledger.origin in found:
            raise InputError("one ledger twice", where=str(path), got=ledger.origin)
        found[ledger.origin] = ledger
        if ledger.verified:
            with audit_console.reading(path) as stream:
                heads = [head for head in _heads(card) if head.origin == ledger.origin]
                again[ledger.origin] = recompute(stream, heads=heads)
    sources.require_used(handed.known, found)
    return found, again


def _heads(card: Card) -> Iterator[Checkpoint]:
    """The heads of ledgers that the card was written under."""
    for outlet in card.governance.outlets.values():
        said = outlet.checkpoint
        yield Checkpoint(origin=outlet.ledger, size=said.entries, root=bytes.fromhex(said.root))


def findings(
    case: GateCase,
    *,
    checks: Sequence[Check] = CHECKS,
    advance: Callable[[], None] = lambda: None,
) -> tuple[Finding, ...]:
    """What all checks find, in their order; `advance` is called after each."""
    found: list[Finding] = []
    for check in checks:
        found += check.findings(case)
        advance()
    return tuple(found)


def report(case: GateCase, found: Sequence[Finding]) -> FullReport:
    """The gate's word on an adapter.

    Args:
        case: what was judged.
        found: all that was found.
    """
    return FullReport(
        format="presspool-gate/1",
        entry=case.candidate.entry,
        passed=all(one.verdict != "failed" for one in found),
        title=case.candidate.title,
        inputs=dict(case.inputs),
        production=case.production.title if case.production else None,
        time=moment(),
        versions={"python": platform.python_version()}
        | {name: version(name) for name in _PACKAGES},
        findings=tuple(found),
    )
