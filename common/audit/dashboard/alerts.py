"""What somebody should look at, most urgent first.

Invariants:
    * An alert is a fact of the snapshot and a word on what to do; no number is made here but days.
    * Nothing depends on readers' data but by counts that were noised and paid for.

Example:
    >>> from presspool.common.audit.evidence.evidence import Evidence
    >>> soon = CertificateLook(kind="outlet", name="north-post", ends=3 * DAY)
    >>> look = Snapshot(evidence=Evidence(outlets=(), runs=()), now=0.0, certificates=(soon,))
    >>> [(alert.kind, alert.urgent) for alert in alerts(look)]
    [('certificate', False)]
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, get_args

from presspool.common.audit.dashboard.snapshot import CertificateLook, Snapshot
from presspool.common.audit.evidence.ledger_view import OutletReading
from presspool.common.base.numbers import percent
from presspool.common.ledger.ledger_state import IN_DOUBT
from presspool.common.pki.certificates import DAY, OUTLET

Kind = Literal[
    "split-view",
    "source",
    "non-private",
    "budget",
    "dangling",
    "certificate",
    "silent",
    "refused",
    "drift",
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
USED = 0.8  # of a cap
# An outlet renews after 20 of 30 days; who has a week left has failed to for three days.
OUTLET_LEFT, OTHERS_LEFT = 7 * DAY, 30 * DAY
SILENT = DAY  # an outlet asks for work twice a minute, but not while it trains
MOST_SKEW = 60  # seconds


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One thing to look at.

    Attributes:
        urgent: nothing can be relied on, or nothing works, until somebody acts.
        about: outlet, run, certificate or file.
        what: one sentence.
        advice: what to do.
        origin: the ledger it is about, or "".
        entry: the ledger's entry that it is about, or None.
    """

    kind: Kind
    urgent: bool
    about: str
    what: str
    advice: str
    origin: str = ""
    entry: int | None = None


def alerts(look: Snapshot) -> tuple[Alert, ...]:
    """All of them; urgent ones first, then in the order of `KINDS`."""
    found = [*_split_views(look), *_faults(look), *_silent(look), *_refused(look), *_drifts(look)]
    for outlet in look.evidence.outlets:
        found += [*_non_private(outlet), *_budgets(outlet), *_dangling(outlet)]
    for certificate in (*look.certificates, *(look.pool.certificates if look.pool else ())):
        found += _certificates(certificate, look.now)
    return tuple(sorted(found, key=lambda a: (not a.urgent, KINDS.index(a.kind), a.about)))


def _split_views(look: Snapshot) -> Iterator[Alert]:
    for name in (*look.forks, *(look.pool.forks if look.pool else ())):
        yield Alert(
            kind="split-view",
            urgent=True,
            about=name,
            what="There is a proof that this log signed two different histories.",
            advice="Stop taking part; check the proof with `presspool audit fork` and show it to "
            "the other outlets.",
        )


def _faults(look: Snapshot) -> Iterator[Alert]:
    for fault in look.faults:
        yield Alert(
            kind="source",
            urgent=fault.evidence,
            about=fault.source,
            what="This source does not hold, so nothing of it is shown."
            if fault.evidence
            else "This source cannot be read.",
            advice=fault.words,
        )


def _non_private(outlet: OutletReading) -> Iterator[Alert]:
    if outlet.claim is None:
        yield Alert(
            kind="non-private",
            urgent=True,
            about=outlet.origin,
            origin=outlet.origin,
            what=outlet.no_claim,
            advice="Do not open another one for the same readers: it would forget what was spent."
            if outlet.no_claim == IN_DOUBT
            else "Keep it for trials on made data. An outlet with readers needs a ledger of its "
            "own and no line “deterministic” in outlet.toml.",
        )


def _budgets(outlet: OutletReading) -> Iterator[Alert]:
    caps = [("the lifetime budget", outlet.lifetime)]
    caps += [
        (f"the budget of period {p.name}", p.room)
        for p in outlet.periods
        if p.room and p.closed is None
    ]
    caps += [
        (f"the budget of data set {name[:12]}", room)
        for name, room in outlet.datasets.items()
        if room
    ]
    for what, room in caps:
        if room.share > USED:
            yield Alert(
                kind="budget",
                urgent=room.free == 0,
                about=outlet.origin,
                origin=outlet.origin,
                entry=outlet.entries - 1,
                what=f"{percent(room.share)} of {what} is used.",
                advice="Runs that do not fit are refused. Plan what is left for, or ask for "
                "cheaper runs.",
            )


def _dangling(outlet: OutletReading) -> Iterator[Alert]:
    for run in outlet.dangling:
        yield Alert(
            kind="dangling",
            urgent=False,
            about=outlet.origin,
            origin=outlet.origin,
            entry=run.seq,
            what=f"A reservation of {run.day} was never settled and a later run came after it; "
            "all of it counts as spent.",
            advice="See in `presspool outlet runs` whether that run still goes on somewhere. If it "
            "does not, this is the price of a crash.",
        )


def _certificates(found: CertificateLook, now: float) -> Iterator[Alert]:
    left = found.ends - now
    if left >= (OUTLET_LEFT if found.kind == OUTLET else OTHERS_LEFT):
        return
    days = int(left // DAY)
    yield Alert(
        kind="certificate",
        urgent=left <= 0,
        about=found.name,
        what=f"The {found.kind}’s certificate has expired."
        if left <= 0
        else f"The {found.kind}’s certificate ends in {days} day{'s' * (days != 1)}.",
        advice="It renews by itself while the outlet runs: see that it does, with `presspool "
        "outlet doctor`."
        if found.kind == OUTLET
        else "Plan a new one with the pool’s outlets.",
    )


def _silent(look: Snapshot) -> Iterator[Alert]:
    for outlet in look.pool.fleet if look.pool else ():
        quiet = look.now - (outlet.since if outlet.seen is None else outlet.seen)
        if quiet >= SILENT:
            days = int(quiet // DAY)
            yield Alert(
                kind="silent",
                urgent=False,
                about=outlet.name,
                what=f"It has not asked for work for {days} day{'s' * (days != 1)}.",
                advice="Ask its operator whether `presspool outlet run` is running there.",
            )
        if abs(outlet.skew or 0) > MOST_SKEW:
            yield Alert(
                kind="silent",
                urgent=False,
                about=outlet.name,
                what=f"Its clock was {abs(outlet.skew or 0):,} seconds "
                f"{'ahead of' if (outlet.skew or 0) > 0 else 'behind'} the coordinator’s.",
                advice="Certificates are judged by it: its operator should set it by the network.",
            )


def _drifts(look: Snapshot) -> Iterator[Alert]:
    for counts in look.counts:
        known = [period for period in counts.series if period.moved]
        if known and (moved := known[-1].moved) and moved.drifted:
            yield Alert(
                kind="drift",
                urgent=False,
                about=counts.origin,
                origin=counts.origin,
                entry=counts.entry,
                what=f"Readers’ labels in “{counts.name}” are others in the period from "
                f"{known[-1].start} on than in its first: stability index {moved.text}, by "
                "noised counts.",
                advice="An adapter that learnt from the earlier ones may err more often: judge it "
                "by newer public records, and plan a run over newer data.",
            )


def _refused(look: Snapshot) -> Iterator[Alert]:
    for said in look.pool.refused if look.pool else ():
        yield Alert(
            kind="refused",
            urgent=False,
            about=said.outlet,
            what=f"The coordinator refused {said.count:,} call{'s' * (said.count != 1)} for "
            f"“{said.code}”" + (f" in run {said.run}." if said.run else "."),
            advice="Ask the outlet’s operator for its log; revoke the outlet if nobody there "
            "knows of it.",
        )
    for run in look.evidence.runs:
        for number, outlet, code in (
            (r.round, *pair) for r in run.result.rounds for pair in r.refused.items()
        ):
            yield Alert(
                kind="refused",
                urgent=False,
                about=outlet,
                what=f"Its update of round {number} of {run.contract.name} was refused for "
                f"“{code}”.",
                advice="What is refused never enters the average. Ask the outlet’s operator.",
            )
