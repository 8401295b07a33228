"""What a contract will cost, before anybody trains: the page that `contract check` prints.

Example: `render(summarise(contract), console)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from presspool.common.accounting import events, filter
from presspool.common.base.console import Screen
from presspool.common.base.errors import LedgerError
from presspool.common.base.foreign_text import one_line
from presspool.common.base.numbers import bound, percent
from presspool.common.contract.contract import Contract
from presspool.common.contract.contract_schema import GROUPS
from presspool.common.runs.recipe import ADAPTER_PAYS, noise_share

MOST_SHOWN = 60  # outlets in the table


def summarise(contract: Contract, *, defaults: Sequence[str] = ()) -> dict[str, Any]:
    """The contract's cost and consequences as JSON values.

    ε is null where the run is unprotected; `worst_case` is what a reader of every outlet spends,
    because readers of several outlets compose one after the other, never in parallel; `defaults`
    are the keys whose values the run file does not give (`RunFile.defaults`).
    """
    plan, weights = contract.plan, contract.weights()
    share = _adapter_noise(contract)
    trust, count = contract.trust, len(contract.outlets)
    epsilon = trust.epsilon(contract) if plan.protected else None
    every = trust.several(contract, count, plan.steps) if plan.protected else None
    return {
        "name": contract.name,
        "digest": contract.digest,
        "protected": plan.protected,
        "unit": plan.unit,
        "epsilon": epsilon,
        "delta": plan.delta,
        "accountant": contract.trust.accountant(),
        "noise_multiplier": plan.noise_multiplier,
        "sampling_rate": plan.sampling_rate,
        "steps": plan.steps,
        "clip": dict(plan.clip),
        "sensitivity": plan.sensitivity,
        "adapter_noise_share": share,
        "adapter_pays": share is None or share <= ADAPTER_PAYS,
        "ledger": _ledger(contract),
        "worst_case": None
        if every is None
        else {"outlets": count, "epsilon": every[0], "delta": every[1]},
        "trust": contract.federation.trust,
        "robust": contract.federation.robust,
        "attackers": contract.federation.attackers,
        "cohort": contract.federation.cohort,
        "turns": contract.federation.turns(count),
        "trust_claim": trust.words_of(contract.body()).claim,
        "epsilon_alone": trust.alone(contract, plan.steps) if plan.protected else None,
        "outlets": [
            {
                "name": name,
                "population": population,
                "weight": weights[name],
                "expected_batch": plan.expected_batch(population),
                "noise_to_batch": plan.noise_std / plan.expected_batch(population),
            }
            for name, population in contract.outlets.items()
        ],
        "defaults": list(defaults),
        "contract": contract.body(),
    }


def _ledger(contract: Contract) -> dict[str, Any] | None:
    """How often the usual ledger, at each order, would hold the run; None where none can price it.

    σ is solved from the contract's ε by PLD. What the run costs an outlet's ledger hangs on its
    order, which is that outlet's own and in no contract: so all of them are shown.
    """
    try:
        event = contract.trust.event(contract)
        costs = {order: events.charge(event, order=order) for order in filter.PORTFOLIO}
    except LedgerError:
        return None
    return {
        "epsilon_max": filter.USUAL_EPSILON,
        "delta": filter.USUAL_DELTA,
        "usual_order": filter.USUAL_ORDER,
        "nats": {str(order): cost * events.UNIT for order, cost in costs.items()},
        "runs_held": {str(order): _room(order) // cost for order, cost in costs.items()},
    }


def _room(order: int) -> int:
    try:
        return filter.units(epsilon=filter.USUAL_EPSILON, delta=filter.USUAL_DELTA, order=order)
    except LedgerError:  # no capacity at this order
        return 0


def _adapter_noise(contract: Contract) -> float | None:
    """Noise by signal of the pool's adapter (`recipe.noise_share`); None where none is trained."""
    from presspool.common.models.models import group_sizes

    sizes = group_sizes(contract)  # in any case: an adapter that does not fit is told here
    if contract.groups != GROUPS:  # no choice between head and adapter
        return None
    whole = noise_share(contract.plan, contract.outlets, sizes["adapter"])
    return whole * contract.trust.noise_share(contract)


def render(summary: dict[str, Any], console: Screen) -> None:
    """Print a summary for people."""
    console.print(f"{summary['name']}  {summary['digest']}", style="bold")
    if summary["protected"]:
        console.print(
            f"costs each {summary['unit']} ε = {summary['epsilon']:.3f} at δ = {summary['delta']:g}"
            f" at every outlet\n  noise multiplier σ = {summary['noise_multiplier']:g}, sampling "
            f"rate q = {summary['sampling_rate']:g}, {summary['steps']} steps, "
            f"sensitivity {summary['sensitivity']:g}\n  by {summary['accountant']}"
        )
        if (alone := summary["epsilon_alone"]) is not None:
            console.print(f"  {summary['trust_claim']} If everybody else does: ε = {bound(alone)}.")
        _render_cautions(summary, console)
    else:
        console.print('UNPROTECTED: epsilon = "inf"; readers\' records can leak', style="bold red")
    if (cohort := summary["cohort"]) is not None:
        console.print(
            f"  a round asks {cohort:,} of {len(summary['outlets']):,} outlets, in turns: none is "
            f"asked more than {summary['turns']:,} times, which is what ε counts; no amplification "
            "is claimed"
        )
    if liars := summary["attackers"]:
        console.print(
            f"  robust = {summary['robust']}: stands {liars} of {len(summary['outlets'])} outlets "
            "that lie; every outlet counts alike, and the result is noisier than a mean"
        )
    table = Table("outlet", "population", "weight", "readers a step", "noise on the mean")
    for row in summary["outlets"][:MOST_SHOWN]:
        table.add_row(
            row["name"],
            f"{row['population']:,}",
            f"{row['weight']:.3f}",
            f"{row['expected_batch']:.1f}",
            f"{row['noise_to_batch']:.4f}",
        )
    console.print(table)
    if (more := len(summary["outlets"]) - MOST_SHOWN) > 0:
        console.print(f"and {more:,} more outlets; --json has all")
    _render_tables(summary, console)


def _render_tables(summary: dict[str, Any], console: Screen) -> None:
    """Every value of the contract, those that the run file does not give marked as defaults."""
    body, defaults = summary["contract"], set(summary["defaults"])
    for part in ("model", "task", "adapter", "federation", "privacy", "optimizer", "server"):
        values = (
            f"{key} {one_line(value)}{' (default)' * (f'{part}.{key}' in defaults)}"
            for key, value in body[part].items()
        )
        console.print(f"{part}: " + ", ".join(values), style="dim")


def _render_cautions(summary: dict[str, Any], console: Screen) -> None:
    if summary["unit"] == "record":
        console.print("weaker: the unit is a record, not a reader", style="bold yellow")
    if not summary["adapter_pays"]:
        share, readers = (
            summary["adapter_noise_share"],
            sum(summary["contract"]["outlets"].values()),
        )
        console.print(
            "training inside the language model (the adapter) would probably make it worse here, "
            f"not better:\n  the noise that hides each reader is {percent(share)} as large as the "
            f"most that {readers:,} readers together can teach the adapter over the run; in our "
            "tests it never helped, at shares from 4% to 21%\n  to do: train its last layer alone "
            '(the head): [adapter] method = "head", with one number for clip and learning_rate; '
            f"or bring about {share / ADAPTER_PAYS:.1f} times as many readers (a share of "
            f"{percent(ADAPTER_PAYS)}, which nobody tried), or allow a larger ε",
            style="bold yellow",
        )
    _render_ledger(summary["ledger"], console)
    worst = summary["worst_case"]
    if worst["outlets"] > 1:
        console.print(
            f"  a reader of all {worst['outlets']} outlets spends at most ε = "
            f"{worst['epsilon']:.2f} at δ = {worst['delta']:.2g} ("
            + (
                "composed one after the other)"
                if summary["epsilon_alone"] is None
                else "a group inside each sum)"
            )
        )


def _render_ledger(found: dict[str, Any] | None, console: Screen) -> None:
    if found is None:
        console.print("no outlet's ledger can price this run: all refuse it", style="bold yellow")
        return
    held = found["runs_held"]
    shown = ", ".join(f"{order}: {held[order]}" for order in held)
    console.print(
        f"  so many times a ledger of ε = {found['epsilon_max']:g}, δ = {found['delta']:g} holds "
        f"it, by the ledger's order: {shown}"
    )
    if not held[str(found["usual_order"])]:
        console.print(
            f"an outlet with the usual ledger (order {found['usual_order']}) refuses it as "
            "over-budget\n  to do: more noise, fewer steps, or a smaller ε",
            style="bold yellow",
        )
