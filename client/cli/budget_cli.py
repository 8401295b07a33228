"""`presspool outlet budget …` and `outlet runs`: the ledger, as its operator makes and reads it.

Example: `presspool outlet budget init --epsilon-max 8`, then `presspool outlet budget`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from presspool.common.base.console import out, print_json
from presspool.common.base.numbers import bound

Home = Annotated[Path, typer.Option(help="The outlet's folder, with outlet.toml.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Delta = Annotated[float, typer.Option(help="δ of the ledger, for its lifetime.")]
HERE = Path()


def show(context: typer.Context, home: Home = HERE, as_json: Json = False) -> None:
    """Show how much of the outlet's lifetime budget is used, and what still fits.

    Example: presspool outlet budget --home /srv/presspool
    """
    if context.invoked_subcommand is not None:
        return
    from presspool.client.agent import home as homes
    from presspool.client.consent import budget_report
    from presspool.common.ledger.log import utc_today

    with homes.ledger_in(home) as ledger:
        found = budget_report.shown(ledger, homes.policy_in(home), utc_today())
    if as_json:
        print_json(found)
        return
    out.print(
        f"{found['origin']}: {found['share']:.1%} of the lifetime budget is used "
        f"(ε = {found['epsilon_max']:g}, δ = {found['delta']:g}, order {found['order']}, "
        f"{found['unit']} level)"
    )
    if found["no_claim"]:
        out.print(found["no_claim"])
    period = found["period"]
    share = "no cap" if period["share"] is None else f"{period['share']:.1%} of its cap"
    out.print(f"period {period['name']}: {share}")
    for run in found["open"]:
        rounds = ", ".join(map(str, run["rounds_released"])) or "none"
        out.print(f"open: {run['run']}, {run['share']:.1%}, rounds released: {rounds}{_alone(run)}")
    if (counts := found["reader_counts"])["queries"]:
        said = f"{counts['share']:.1%} of the lifetime budget went into"
        noun = "count" if counts["queries"] == 1 else "counts"
        out.print(f"{said} {counts['queries']} {noun} of readers, by the same filter as training")
    if found["restored"]:
        out.print(found["restored"])
    if not found["witnessed"]:
        out.print("runs are not witnessed: policy.toml [witnesses] required = false")
    if found["more_like_the_last"] is not None:
        out.print(f"{found['more_like_the_last']} more runs like the last one fit")


def init(
    home: Home = HERE,
    epsilon_max: Annotated[float, typer.Option(help="ε of everything the outlet ever does.")] = 8.0,
    delta: Delta = 1e-5,
    order: Annotated[
        int | None, typer.Option(help="Order α of the filter; 6, or the best for --expect.")
    ] = None,
    expect: Annotated[
        list[Path] | None, typer.Option(help="A run.toml that you expect; repeatable.")
    ] = None,
    unit: Annotated[str, typer.Option(help="Unit of privacy: reader or record.")] = "reader",
    origin: Annotated[
        str | None, typer.Option(help="Name of the ledger; presspool/NAME if not given.")
    ] = None,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Make identity/log.key, where no join made it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make the outlet's ledger. Unit, ε, δ and order are for its lifetime.

    Example: presspool outlet budget init --epsilon-max 8 --expect run.toml --expect run.toml
    """
    from presspool.client.agent import home as homes
    from presspool.client.agent.ledger_making import LedgerWish, make
    from presspool.client.consent import budget_report

    expected = [homes.event_in(run) for run in expect or []]
    if order is None:
        order = 6
        if expected:
            order = budget_report.chosen_order(expected, epsilon_max=epsilon_max, delta=delta)
    made = make(
        home,
        LedgerWish(
            epsilon_max=epsilon_max,
            delta=delta,
            order=order,
            unit=unit,
            origin=origin,
            new_key=new_key,
        ),
    )
    if as_json:
        print_json(made)
        return
    out.print(
        f"made {made['ledger']}: ε = {epsilon_max:g}, δ = {bound(delta)}, order {order}, {unit}s"
    )
    out.print(f"its key, for auditors and peers: {made['key']}")
    for line in made["add_to_outlet_toml"]:
        out.print(f"add to outlet.toml, above any table: {line}")


def rename(home: Home = HERE, as_json: Json = False) -> None:
    """Give a ledger that has paid for nothing the outlet's own name; the old file is kept.

    For one that was made before joining, or while outlet.toml had another outlet's name in it.

    Example: presspool outlet budget rename
    """
    from presspool.client.agent.ledger_renaming import rename as made_anew

    made = made_anew(home)
    if as_json:
        print_json(made)
        return
    out.print(f"{made['ledger']}: {made['from']} is {made['to']} now")
    out.print(f"its key, for auditors and peers: {made['key']}")
    out.print(f"the old one, which paid for nothing: {made['kept']}")


def plan(
    runs: Annotated[list[Path], typer.Argument(help="run.toml files that you expect.")],
    times: Annotated[int, typer.Option(min=1, help="How often each of them.")] = 1,
    epsilon_max: Annotated[
        float, typer.Option(help="Say for each order how many would fit under this ε.")
    ] = 8.0,
    delta: Delta = 1e-5,
    home: Annotated[
        Path | None, typer.Option(help="An outlet's folder: say also what fits its ledger.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Propose ε and order for the runs you expect, and say what fits into the ledger you have.

    Example: presspool outlet budget plan spring.toml autumn.toml --times 4
    """
    from presspool.client.agent import home as homes
    from presspool.client.consent import budget_report

    files = [run for run in runs for _ in range(times)]
    events = {run: homes.event_in(run) for run in runs}
    expected = [events[run] for run in files]
    document = budget_report.proposed(files, expected, delta=delta, epsilon_max=epsilon_max)
    if home is not None:
        with homes.ledger_in(home) as ledger:
            document["ledger"] = budget_report.fitting(ledger, expected)
    if as_json:
        print_json(document)
        return
    out.print(
        f"{len(files)} runs: order {document['order']} with ε = {document['epsilon_max']:g}, "
        f"δ = {bound(delta)}"
    )
    for known, needed in document["needed_epsilon_by_order"].items():
        fit = document["fit_by_order"][known]
        out.print(f"  order {known:>2}: ε = {needed:.3f}; {fit} of them fit under {epsilon_max:g}")
    if home is not None:
        kept = document["ledger"]
        out.print(
            f"your ledger (ε = {kept['epsilon_max']:g}, order {kept['order']}) holds "
            f"{sum(kept['fits'])} of them; {kept['share_after']:.1%} is used then"
        )


def end(
    run: Annotated[
        str,
        typer.Argument(help="A run's digest or its first digits, its name, run.toml or contract."),
    ],
    home: Home = HERE,
    as_json: Json = False,
) -> None:
    """Say that a run is over here, and take back the budget of rounds that were never begun.

    No round of it is trained afterwards, whatever its coordinator sends. Decide by what everybody
    may know, such as a run that its coordinator stopped; never by what it did on your own readers'
    data.

    Example: presspool outlet end sha256:924e02db...
    """
    from presspool.client.agent import home as homes
    from presspool.client.agent.spool import Spool
    from presspool.client.consent.budget import Budget
    from presspool.client.sums.sum_party import forget
    from presspool.client.witnessing.witness_folder import WitnessFolder
    from presspool.common.accounting.events import UNIT
    from presspool.common.base.errors import GuardError, asked_wrongly

    contract, kept = homes.contract_of(home, run), WitnessFolder.at(home)
    with Budget.open(
        homes.require_ledger(home),
        policy=homes.policy_in(home),
        head=kept.own_head,
        outlet=homes.settings_in(home).name,
    ) as budget:
        with asked_wrongly(GuardError):
            try:
                freed = budget.end(contract)
            except GuardError:  # over already: there is no more use for its secrets
                forget(home, contract.digest)
                raise
        share = freed / budget.book.room(budget.book.caps.epsilon_max)
    Spool(home / homes.WORK).end(contract.digest)
    forget(home, contract.digest)
    if as_json:
        print_json({"ended": contract.digest, "freed_nats": freed * UNIT, "freed_share": share})
    else:
        out.print(f"ended {contract.digest}; {share:.1%} of the lifetime budget is free again")


def runs(home: Home = HERE, as_json: Json = False) -> None:
    """List the runs this outlet took part in, refused, declined, or has not approved yet.

    Example: presspool outlet runs --json
    """
    from presspool.client.agent import home as homes
    from presspool.client.consent import budget_report

    with homes.ledger_in(home) as ledger:
        rows = budget_report.runs_of(ledger)
    approvals = homes.approvals_in(home)
    waiting, declined = approvals.waiting(), approvals.all_declined()
    if as_json:
        print_json({"runs": rows, "waiting_for_approval": waiting, "declined": declined})
        return
    if rows and (beat := homes.policy_in(home).answer_seconds):
        out.print(f"answers wait for a multiple of {beat:g} s after their task arrived")
    for row in rows:
        said = f", refused: {', '.join(row['refusals'])}" if row["refusals"] else ""
        rounds = ", ".join(map(str, row["rounds_released"])) or "none"
        what = "" if row["purpose"] == "training" else f" ({row['purpose']})"
        out.print(f"{row['day']} {row['state']:<7} {row['run']}{what}")
        out.print(
            f"  {row['steps']} steps, {row['charge_nats']:.4f} nats, rounds released: "
            f"{rounds}{said}{_alone(row)}"
        )
    for run in waiting:
        out.print(f"waits for: presspool outlet approve {run}")
    for run in declined:
        out.print(f"declined: {run}")
    if not rows and not waiting and not declined:
        out.print("no run yet")


def _alone(run: dict[str, Any]) -> str:
    if run["epsilon_alone"] is None:
        return ""
    return f"; ε = {bound(run['epsilon_alone'])} if everybody else works together"
