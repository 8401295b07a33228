"""A report as plain values: what `--format json` prints, and what the page shows.

The page is made from this document and from nothing else, so the two cannot differ.

Invariants:
    * Every number is in the ledgers and run folders, or the sum or ratio of such numbers; beside it
      stands `entry`, its index in the ledger, or the entry up to which it was added up.
    * No clock and no paths: the same evidence gives the same document.
    * Exact sums of bounds are texts ("5.986"): a binary float might be smaller.

Example:
    >>> document(Evidence(outlets=(), runs=()), Fields())["outlets"]
    []
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from presspool.common.accounting import events, pooled_cost
from presspool.common.audit.evidence import frozen_data_verdict
from presspool.common.audit.evidence.evidence import Evidence, RunReading, WorstCaseSum
from presspool.common.audit.evidence.governance import Fields
from presspool.common.audit.evidence.ledger_view import (
    OutletReading,
    PeriodReading,
    ReservedRun,
    Room,
)
from presspool.common.audit.pages import phrases
from presspool.common.audit.pages.spending import spent_sentence
from presspool.common.base.numbers import bound
from presspool.common.contract.doors import TRUST_MODELS
from presspool.common.ledger import entries
from presspool.common.ledger.frozen_data import DataFrozen
from presspool.common.ledger.restored_entries import restored_sentence, users
from presspool.common.trust.local import Local

FORMAT = "presspool-report/1"
Document = dict[str, Any]


def document(evidence: Evidence, fields: Fields) -> Document:
    """Everything that a report says."""
    claims = evidence.claims
    outlets = [outlet_document(outlet) for outlet in evidence.outlets]
    return {
        "format": FORMAT,
        "sentence": spent_sentence(outlets),
        "outlets": outlets,
        "runs": [_folder(run, evidence) for run in evidence.runs],
        "worst_cases": [_worst(case, evidence) for case in evidence.worst_cases],
        "lifetime_claims": None
        if claims is None
        else {"epsilon": str(claims[0]), "delta": str(claims[1])},
        "lineage": [
            {
                "outlet": line.origin,
                "period": line.period,
                "entry": line.seq,
                "run": line.run,
                "name": line.name,
                "adapter": None if line.adapter is None else f"sha256:{line.adapter}",
            }
            for line in evidence.lineage
        ],
        "trust": _trust(evidence),
        "fields": {
            "article30": _stated(fields.article30.rows()),
            "dpia": _stated(fields.dpia.rows()),
        },
        "proves": list(phrases.PROVES),
        "does_not_prove": list(phrases.DOES_NOT_PROVE),
    }


def outlet_document(outlet: OutletReading, *, newest: int | None = None) -> Document:
    """One outlet's part; its runs and refusals from the end, where only the `newest` are wanted."""
    head, last = outlet.head, max(0, outlet.entries - 1)
    shown = slice(None if newest is None else -newest, None)
    return {
        "source": outlet.source,
        "verified": outlet.verified,
        "origin": outlet.origin,
        "name": outlet.name,
        "unit": outlet.unit,
        "order": outlet.order,
        "delta": outlet.delta,
        "entries": outlet.entries,
        "day": outlet.day,
        "sentence": sentence(outlet),
        "claim": None
        if outlet.claim is None
        else {"epsilon": outlet.claim, "delta": outlet.delta, "entry": _first_of_claim(outlet)},
        "filter": {
            **_room(outlet.lifetime),
            **_parts(outlet),
            "more_runs": outlet.more,
            "entry": last,
        },
        "periods": [_period(period, last) for period in outlet.periods],
        "datasets": [
            {"dataset": name, "cap": _room(room) if room else None, "entry": last}
            for name, room in outlet.datasets.items()
        ],
        "runs": [_run(run, outlet) for run in outlet.runs[shown]],
        "refusals": [_refusal(refused) for refused in outlet.refusals[shown]],
        "caps": [
            {
                "entry": c.seq,
                "day": c.day,
                "epsilon_max": c.epsilon_max,
                "period_epsilon": c.period_epsilon,
                "dataset_epsilon": c.dataset_epsilon,
            }
            for c in outlet.caps
        ],
        "signing_keys": [{"entry": key.seq, "day": key.day, "key": key.key} for key in outlet.keys],
        "data": [_frozen(entry) for entry in outlet.data[shown]],
        "points": [
            {"entry": p.seq, "day": p.day, "used_nats": _nats(p.used), "share": p.share}
            for p in outlet.points
        ],
        "head": {
            "entries": head.size,
            "root": head.root,
            "signed_heads": head.signed_heads,
            "unsigned_entries": outlet.entries - head.size,
            "cosigned": dict(head.cosigned),
            "key_compared": head.key_known,
            "heads_compared": head.heads_known,
        },
    }


def sentence(outlet: OutletReading) -> str:
    """One sentence: what is used, what is claimed, what still fits."""
    n, lifetime = len(outlet.runs), outlet.lifetime
    if outlet.claim is None:
        return (
            f"{outlet.origin}: {n} run{'s' * (n != 1)}{restored_sentence(outlet.restored)}; "
            f"{outlet.no_claim}"
        )
    text = (
        f"{outlet.origin}: {users(n, outlet.restored)} {lifetime.share:.1%} of the "
        f"lifetime budget; everything that this outlet ever released is ({outlet.claim:g}, "
        f"{bound(outlet.delta)})-DP at {outlet.unit} level{restored_sentence(outlet.restored)}"
        f"{pooled_cost.assumption(sum(pooled_cost.is_pooled(run.event) for run in outlet.runs))}"
    )
    if outlet.more is None:
        return f"{text}."
    what = "no further run" if not outlet.more else f"{outlet.more:,} further runs"
    return f"{text}; {what if outlet.more != 1 else 'one further run'} like the last one " + (
        "fits." if outlet.more in (0, 1) else "fit."
    )


def _nats(units: int) -> float:
    return units * events.UNIT


def _room(room: Room) -> Document:
    return {
        "epsilon": room.cap,
        "used_nats": _nats(room.used),
        "capacity_nats": _nats(room.room),
        "free_nats": _nats(room.free),
        "share": room.share,
    }


def _parts(outlet: OutletReading) -> Document:
    room = outlet.lifetime.room
    dangling = sum(run.charge for run in outlet.dangling)
    return {
        name: value
        for what, units in (
            ("settled", outlet.settled),
            ("reserved", outlet.reserved),
            ("dangling", dangling),
        )
        for name, value in ((f"{what}_nats", _nats(units)), (f"{what}_share", units / room))
    }


def _first_of_claim(outlet: OutletReading) -> int:
    return next(c.seq for c in outlet.caps if c.epsilon_max == outlet.claim)


def _period(period: PeriodReading, last: int) -> Document:
    return {
        "name": period.name,
        "used_nats": _nats(period.used),
        "lifetime_share": period.of_lifetime,
        "cap": _room(period.room) if period.room else None,
        "runs": list(period.runs),
        "closed_by": period.closed,
        "entry": last,
    }


def _run(run: ReservedRun, outlet: OutletReading) -> Document:
    approval, stated = outlet.approval(run.run), run.stated
    return {
        "entry": run.seq,
        "day": run.day,
        "run": run.run,
        "period": run.period,
        "datasets": list(run.datasets),
        "phases": [_phase(phase) for phase in run.phases],
        "steps_reserved": run.event.steps,
        "steps_charged": run.kept,
        "steps_declared": run.executed,
        "reserved_nats": _nats(run.reserved),
        "charged_nats": _nats(run.charge),
        "share": run.charge / outlet.lifetime.room,
        **_alone(run, outlet),
        "stated": None
        if stated is None
        else {
            "epsilon": stated.epsilon,
            "delta": stated.delta,
            "accountant": stated.accountant,
            "version": stated.version,
        },
        "releases": [
            {"entry": r.seq, "day": r.day, "round": r.round, "steps": r.steps, "digest": r.digest}
            for r in run.releases
        ],
        "received": [
            {"entry": came.seq, "round": came.round, "digest": came.digest} for came in run.received
        ],
        "given_back_by": run.given_back,
        "settled_by": run.settled,
        "state": "dangling" if run.dangling else "reserved" if run.open else "over",
        "approval": None if approval is None else {"by": approval.by, "day": approval.day},
    }


def _alone(run: ReservedRun, outlet: OutletReading) -> Document:
    """What holds of a run if everybody else works together; only where outlets share noise."""
    found = pooled_cost.epsilon_alone(run.event, delta=outlet.delta)
    return {} if found is None else {"epsilon_alone": found}


def _phase(phase: events.SelfComposed) -> Document:
    step, pooled = phase.continuous, isinstance(phase.event, events.PooledSum)
    sampled = isinstance(step, events.PoissonSampled)
    return {
        "steps": phase.count,
        "sampling_rate": step.rate if isinstance(step, events.PoissonSampled) else 1.0,
        "noise_multiplier": step.event.noise_multiplier
        if isinstance(step, events.PoissonSampled)
        else step.noise_multiplier,
        "mechanism": ("Poisson-sampled Gaussian" if sampled else "Gaussian")
        + (", shared by the pool's outlets" if pooled else ""),
    }


def _refusal(refused: entries.Refusal) -> Document:
    return {
        "entry": refused.seq,
        "day": refused.day,
        "run": refused.run,
        "reason": refused.reason,
        "words": phrases.reason(refused.reason),
        "asked_nats": _nats(refused.charge),
        "free_nats": _nats(refused.free),
    }


def _frozen(entry: DataFrozen) -> Document:
    said = entry.model_dump(mode="json", exclude={"kind", "seq"})
    return {"entry": entry.seq, **said, "words": frozen_data_verdict.words(said)}


def _folder(run: RunReading, evidence: Evidence) -> Document:
    result = run.result
    return {
        "name": run.contract.name,
        "run": run.contract.digest,
        "status": result.status,
        "rounds": len(result.rounds) - 1 if result.rounds else 0,
        "rounds_planned": run.contract.federation.rounds,
        "outlets": sorted(run.contract.outlets),
        "trust": result.trust,
        "adapter": None if run.adapter is None else f"sha256:{run.adapter}",
        "statement": result.statement,
        "unclaimed": list(evidence.unclaimed(run.contract.digest)),
        "cautions": [str(caution) for caution in result.cautions],
    }


def _worst(case: WorstCaseSum, evidence: Evidence) -> Document:
    folder = evidence.run(case.run)
    return {
        "run": case.run,
        "name": folder.contract.name if folder else None,
        "complete": case.complete,
        "epsilon": _text(case.epsilon),
        "delta": _text(case.delta),
        "unnamed_ledgers": list(case.unnamed),
        "parts": [
            {
                "outlet": part.outlet,
                "epsilon": part.epsilon,
                "delta": part.delta,
                "entry": part.seq,
                "source": part.source,
            }
            for part in case.parts
        ],
    }


def _text(value: Decimal | None) -> str | None:
    return None if value is None else str(value)


def _trust(evidence: Evidence) -> Document:
    known: list[tuple[str, Mapping[str, Any]]] = [
        (run.contract.federation.trust, run.contract.body()) for run in evidence.runs
    ]
    for run in (run for outlet in evidence.outlets for run in outlet.runs):
        if evidence.run(run.run) is None:  # its contract is not at hand
            known.append(("pooled" if pooled_cost.is_pooled(run.event) else "local", {}))
    said = {(name, TRUST_MODELS[name].words_of(body)): None for name, body in known}
    units = sorted({outlet.unit for outlet in evidence.outlets}) or ["reader"]
    return {
        "models": [
            {
                "name": name,
                "words": words.how,
                "assumption": words.assumption,
            }
            for name, words in sorted(said, key=str) or [("local", Local.words)]
        ],
        "units": [phrases.UNIT[unit] for unit in units],
        "meaning": phrases.MEANING,
        "composition": phrases.COMPOSITION,
    }


def _stated(rows: Any) -> list[Document]:
    return [{"key": key, "what": what, "text": text or None} for key, what, text in rows]
