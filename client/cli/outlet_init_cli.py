"""`presspool outlet init`: a member's settings, policy, ledger and snapshot, by flags or questions.

Example: `presspool outlet init --data readers.csv --peer evening-star=DP4C-XXXI-7IDY-WCWH`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from presspool.client.cli.budget_cli import HERE, Delta, Home, Json
from presspool.common.base.console import err, out, print_json, start_logging
from presspool.common.base.numbers import bound
from presspool.common.base.questions import Stopped, agreed, ask, at_a_terminal, positive

if TYPE_CHECKING:
    from presspool.client.agent.outlet_making import PlannedHome


def init(
    data: Annotated[
        Path | None, typer.Option(help="The readers' records: CSV, JSONL or Parquet, also gzipped.")
    ] = None,
    home: Home = HERE,
    reader: Annotated[
        str | None, typer.Option(help="Column of reader ids; `reader` if not given.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="Column of texts; `text` if not given.")] = None,
    label: Annotated[
        str | None, typer.Option(help="Column of labels; `label` if not given.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=COLUMN", help="Another of the task's; may be repeated."),
    ] = None,
    task: Annotated[str, typer.Option(help="What the data is for.")] = "classification",
    drop_damaged: Annotated[
        bool, typer.Option("--drop-damaged", help="Leave out damaged records, and say which.")
    ] = False,
    epsilon_max: Annotated[
        float | None,
        typer.Option(help="ε of everything the outlet ever does, for good; 8 if not given."),
    ] = None,
    delta: Delta = 1e-5,
    order: Annotated[int, typer.Option(help="Order α of the ledger's filter.")] = 6,
    epsilon_per_run: Annotated[
        float | None,
        typer.Option(help="The most that one run may cost a reader; 3 if not given."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="A run.toml that you were offered, and approve.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who approves it; your account if not given.")
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FINGERPRINT", help="A peer, as its operator read it to you; repeatable."
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask nothing: flags and defaults are the answer.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a member's home ready to work: outlet.toml, policy.toml, ledger, snapshot, approvals.

    On a terminal it asks for what is not given; elsewhere, and with --yes, defaults hold. It comes
    after `outlet join`, which brings the outlet's name. Nothing that is there is replaced; stopped
    at any moment, the same command goes on.

    Example: presspool outlet init --data readers.csv --reader user_id --run run.toml
    """
    from presspool.client.agent.home import POLICY
    from presspool.client.agent.ledger_making import LedgerWish
    from presspool.client.agent.outlet_making import HomeWish, plan
    from presspool.client.cli.policy_cli import account
    from presspool.client.consent.policy import Policy
    from presspool.client.identity.identity import Identity
    from presspool.common.accounting.filter import USUAL_EPSILON
    from presspool.common.audit.evidence.audit_console import percents
    from presspool.common.base.errors import InputError
    from presspool.common.base.validation import pairs

    start_logging(quiet=as_json)
    identity = Identity.read(home)
    interview = _Interview(asks=at_a_terminal() and not yes and not as_json)
    try:
        data = interview.data(data)
        if data is None:
            raise InputError("no data", where="--data", expected="a file of your readers' records")
        names = {"reader": reader, "text": text, "label": label}
        columns = interview.columns(data, task, names, dict(pairs(column, "--column")))
        total = interview.number(
            "ε of everything this outlet ever does", epsilon_max, USUAL_EPSILON
        )
        each, usual = epsilon_per_run, Policy().max_epsilon_per_run
        if not (home / POLICY).exists():
            each = interview.number("the most ε that one run may cost", each, usual)
        run = interview.run(run)
        peers = dict(pairs(peer, "--peer")) or interview.peers(identity)
        wish = HomeWish(
            data=data,
            columns=columns,
            task=task,
            drop_damaged=drop_damaged,
            epsilon_per_run=usual if each is None else each,
            ledger=LedgerWish(epsilon_max=total, delta=delta, order=order),
            run=run,
            by=account() if by is None else by,
            peers=peers,
        )
        planned = plan(home, wish)
        interview.confirm(planned)
    except Stopped:
        err.print("stopped; nothing was written", style="yellow")
        raise typer.Exit(2) from None
    with percents("importing") as moved:
        made = planned.write(moved)
    print_json(made) if as_json else _report(made)


@dataclass(frozen=True)
class _Interview:
    """What is asked where something is not given.

    Attributes:
        asks: whether somebody is there to answer; else defaults are the answers.
    """

    asks: bool

    def data(self, given: Path | None) -> Path | None:
        if given is not None or not self.asks:
            return given
        return ask("the file of your readers' records", _file)

    def number(self, question: str, given: float | None, usual: float) -> float:
        if given is not None:
            return given
        return ask(question, positive, default=f"{usual:g}") if self.asks else usual

    def columns(
        self, data: Path, task: str, given: Mapping[str, str | None], more: Mapping[str, str]
    ) -> Any:
        from presspool.client.data.check_data import task_named
        from presspool.common.base.errors import InputError
        from presspool.common.base.validation import validate
        from presspool.common.data.table_refusals import column_names
        from presspool.common.data.tables import Columns

        there, known = column_names(data), ("reader", *task_named(task).columns)
        said: dict[str, str] = {}
        for name, column in given.items():
            wanted = column or name
            if self.asks and column is None and name in known:
                wanted = ask(
                    f"the column of a record's {name} ({', '.join(there)})",
                    lambda text: _one_of(text, there),
                    default=name if name in there else None,
                )
            said[name] = wanted
        return validate(
            Columns,
            said | dict(more),
            where="--reader, --text, --label, --column",
            fault=InputError,
        )

    def run(self, given: Path | None) -> Path | None:
        if given is not None or not self.asks:
            return given
        question = "the run.toml that you were offered and approve (empty: later)"
        return ask(question, lambda text: _file(text) if text else None)

    def peers(self, identity: Any) -> dict[str, str]:
        """The fingerprint of each outlet of the pool that was heard by telephone."""
        from presspool.client.witnessing import trusted_peers
        from presspool.client.witnessing.witness_client import peers_offered
        from presspool.common.base.errors import LinkError

        if not self.asks:
            return {}
        err.print(f"your own fingerprint, for your peers: {identity.peer.fingerprint}")
        try:
            members = peers_offered(identity)
        except LinkError as error:
            err.print(f"{error}\npeers are for later: presspool outlet peers", style="yellow")
            return {}
        approved, found = {p.outlet for p in trusted_peers.approved(identity.home)}, {}
        for offered in members:
            if offered.outlet in approved:
                continue

            def heard(text: str, offered: Any = offered) -> str:
                if text:
                    trusted_peers.require_fingerprint(offered, text)
                return text

            name = offered.outlet
            if said := ask(f"what {name}'s operator read to you (empty: later)", heard):
                found[name] = said
        return found

    def confirm(self, planned: PlannedHome) -> None:
        """Show a plan, and stop unless it is agreed to."""
        if not self.asks:
            return
        for line in _plan_lines(planned):
            err.print(line)
        if not agreed("make it? ε, δ and order of the ledger are for good", default=True):
            raise Stopped


def _plan_lines(planned: PlannedHome) -> list[str]:
    lines = [
        f"{planned.identity.name} of {planned.identity.pool}: ledger of ε = "
        f"{planned.wish.ledger.epsilon_max:g}, at most {planned.policy.max_epsilon_per_run:g} a run"
    ]
    if (contract := planned.contract) is not None:
        lines.append(
            f"approved is {contract.name}, {contract.digest}: ε = "
            f"{bound(contract.trust.epsilon(contract))} at δ = {bound(contract.plan.delta)}, "
            f"{planned.share:.1%} of the ledger, with {', '.join(contract.outlets)}"
        )
    return lines


def _report(made: Mapping[str, Any]) -> None:
    out.print(
        f"{made['outlet']} is ready: {made['records']:,} records, a ledger of ε = "
        f"{made['epsilon_max']:g}, at most {made['epsilon_per_run']:g} a run"
    )
    for reason, count in made["dropped"].items():
        out.print(f"left out: {count:,} {reason}")
    if made["kept"]:
        out.print(f"kept as it was: {', '.join(made['kept'])}")
    out.print(f"its ledger's key, for auditors and peers: {made['key']}")
    if made["approved"]:
        out.print(f"approved {made['approved']}: {made['share']:.1%} of the ledger")
    if made["peers"]:
        out.print(f"approved peers: {', '.join(made['peers'])}")
    else:
        err.print(
            "no round is trained before you approve peers: presspool outlet peers approve NAME "
            "FINGERPRINT"
        )
    out.print("go on with: presspool outlet run")


def _file(text: str) -> Path:
    from presspool.common.base.errors import InputError

    path = Path(text).expanduser()
    if not text or not path.is_file():
        raise InputError("a file", expected="a file that is there", got=ascii(text))
    return path


def _one_of(text: str, there: list[str]) -> str:
    from presspool.common.base.errors import InputError

    if text not in there:
        raise InputError("a column", expected=", ".join(there), got=ascii(text))
    return text
