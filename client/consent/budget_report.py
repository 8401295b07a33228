"""What an outlet's ledger says, for its operator: shares, open runs, what still fits, proposals.

Documents for `--json` and lines for people are made from the same plain values.

Example: `shown(ledger, policy, today)["share"]` is the used share of the lifetime filter.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from presspool.client.consent.policy import Policy, period_of
from presspool.common.accounting import events, filter, pooled_cost
from presspool.common.base.errors import InputError, LedgerError
from presspool.common.ledger import entries
from presspool.common.ledger.restored_entries import Restored, restored_sentence
from presspool.common.ledger.store import Ledger

Event = events.SelfComposed | events.Composed
Document = dict[str, Any]


def shown(ledger: Ledger, policy: Policy, today: date) -> Document:
    """The state of a ledger: what is used of each cap, what is open, what still fits."""
    book = ledger.refresh()
    opened, room = book.opened, book.room(book.caps.epsilon_max)
    period = period_of(today, policy.period)
    last = _last_reserve(ledger)
    return {
        "origin": opened.origin,
        "unit": opened.unit,
        "order": opened.order,
        "delta": opened.delta,
        "epsilon_max": book.caps.epsilon_max,
        "claimed_epsilon": book.claim,
        "no_claim": book.no_claim,
        "entries": book.size,
        "spent_nats": book.spent * events.UNIT,
        "capacity_nats": room * events.UNIT,
        "witnessed": policy.witnesses.required,
        "share": book.spent / room,
        "restored": restored_sentence(book.restored).removeprefix("; "),
        "period": _period(ledger, period, policy),
        "reader_counts": _reader_counts(ledger, room),
        "open": [
            {
                "run": held.entry.run,
                "purpose": purpose_of(held.entry),
                "since": held.entry.day,
                "steps": held.steps,
                "executed": held.executed,
                "rounds_released": sorted(held.released),
                "share": held.charge / room,
                "epsilon_alone": _alone(held.entry, ledger),
            }
            for held in book.dangling.values()
        ],
        "more_like_the_last": None
        if last is None
        else max(0, room - book.spent) // max(1, last.charge),
    }


def proposed(
    runs: Sequence[Path], expected: Sequence[Event], *, delta: float, epsilon_max: float
) -> Document:
    """The order and ε_max that hold the runs expected; what each order needs, and what fits it."""
    found = filter.propose(expected, delta=delta)
    caps = {"epsilon": epsilon_max, "delta": delta}
    return {
        "asked_epsilon_max": epsilon_max,
        "fit_by_order": {
            str(order): sum(_fits(expected, room=_room(order=order, **caps), order=order))
            for order in filter.PORTFOLIO
        },
        "runs": [str(run) for run in runs],
        "delta": delta,
        "order": found.order,
        "epsilon_max": found.epsilon,
        "needed_epsilon_by_order": {str(order): value for order, value in found.table.items()},
    }


def fitting(ledger: Ledger, expected: Sequence[Event]) -> Document:
    """Which of the runs expected, taken in this order, still fit into a ledger's lifetime cap."""
    book = ledger.refresh()
    order, room = book.opened.order, book.room(book.caps.epsilon_max)
    fits = _fits(expected, room=room - book.spent, order=order)
    costs = (events.charge(event, order=order) for event in expected)
    spent = book.spent + sum(cost for cost, fit in zip(costs, fits, strict=True) if fit)
    return {
        "order": order,
        "epsilon_max": book.caps.epsilon_max,
        "fits": fits,
        "share_after": spent / room,
    }


def _room(*, epsilon: float, delta: float, order: int) -> int:
    try:
        return filter.units(epsilon=epsilon, delta=delta, order=order)
    except LedgerError:  # a cap without capacity holds nothing
        return 0


def share_of(event: Event, *, epsilon: float, delta: float, order: int) -> float:
    """The share of a cap that one run would use; infinite where the cap holds nothing."""
    room = _room(epsilon=epsilon, delta=delta, order=order)
    return events.charge(event, order=order) / room if room else float("inf")


def _fits(expected: Sequence[Event], *, room: int, order: int) -> list[bool]:
    """Which of the runs, taken in this order, fit into what is free (`events.UNIT`s)."""
    fits: list[bool] = []
    for event in expected:
        cost = events.charge(event, order=order)
        fits.append(cost <= room)
        room -= cost if fits[-1] else 0
    return fits


def chosen_order(expected: Sequence[Event], *, epsilon_max: float, delta: float) -> int:
    """The best order for the runs expected.

    Raises:
        InputError: they do not fit under `epsilon_max` at any order.
    """
    found = filter.propose(expected, delta=delta)
    if found.epsilon > epsilon_max:
        raise InputError(
            "the runs expected do not fit",
            where="--expect",
            expected=f"--epsilon-max {found.epsilon:g} (order {found.order})",
            got=f"{epsilon_max:g}",
            advice="raise --epsilon-max, or expect fewer runs",
        )
    return found.order


def runs_of(ledger: Ledger) -> list[Document]:
    """Every run that was reserved or refused, in the ledger's order."""
    found: dict[str, Document] = {}
    by_reservation: dict[str, Document] = {}
    for body in ledger.bodies(0, ledger.refresh().size):
        match entry := entries.parse_entry(body):
            case entries.Reserve():
                row = found.setdefault(entry.run, _row(entry))
                row |= {
                    "state": "open",
                    "steps": entry.event.steps,
                    "charge_nats": entry.charge * events.UNIT,
                    "epsilon_alone": _alone(entry, ledger),
                }
                by_reservation[entry.reservation] = row
            case entries.ReleaseIntent():
                by_reservation[entry.reservation]["rounds_released"].append(entry.round)
            case entries.GiveBack():
                by_reservation[entry.reservation] |= {
                    "steps": entry.kept,
                    "charge_nats": entry.charge * events.UNIT,
                }
            case entries.Settle():
                by_reservation[entry.reservation]["state"] = "over"
            case Restored() if entry.basis != "moved":
                for row in by_reservation.values():
                    row["state"] = "over"
            case entries.Refusal():
                row = found.setdefault(entry.run, _row(entry) | {"state": "refused"})
                row["refusals"].append(entry.reason)
    return list(found.values())


def _alone(entry: entries.Reserve, ledger: Ledger) -> float | None:
    """ε of a run if everybody else works together, where its outlets share their noise."""
    return pooled_cost.epsilon_alone(entry.event, delta=ledger.book.opened.delta)


def _row(entry: entries.Reserve | entries.Refusal) -> Document:
    return {
        "run": entry.run,
        "purpose": purpose_of(entry),
        "day": entry.day,
        "state": "",
        "steps": 0,
        "charge_nats": 0.0,
        "epsilon_alone": None,
        "rounds_released": [],
        "refusals": [],
    }


def purpose_of(entry: entries.Reserve | entries.Refusal) -> str:
    """What an entry is about: "training", or "reader-counts"; a refused count is told as a run."""
    return (entry.purpose if isinstance(entry, entries.Reserve) else None) or "training"


def _reader_counts(ledger: Ledger, room: int) -> Document:
    """How many queries were paid for beside training, and the share of the filter that they took.

    Both share one lifetime filter: Rényi costs at its order add up, whatever they were for.
    """
    paid = [e.charge for e in _reserved(ledger) if e.purpose is not None]
    return {"queries": len(paid), "share": sum(paid) / room}


def _reserved(ledger: Ledger) -> list[entries.Reserve]:
    bodies = (b for b in ledger.bodies(0, ledger.book.size) if b'"kind":"reserve"' in b)
    parsed = map(entries.parse_entry, bodies)
    return [entry for entry in parsed if isinstance(entry, entries.Reserve)]


def _period(ledger: Ledger, period: str, policy: Policy) -> Document:
    cap, spent = policy.max_epsilon_per_period, ledger.book.charged(period=period)
    return {
        "name": period,
        "epsilon_cap": cap,
        "spent_nats": spent * events.UNIT,
        "share": None if cap is None else spent / ledger.book.room(cap),
    }


def _last_reserve(ledger: Ledger) -> entries.Reserve | None:
    runs = [entry for entry in _reserved(ledger) if entry.purpose is None]
    return runs[-1] if runs else None
