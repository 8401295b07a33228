"""`presspool outlet policy …`, `outlet approve | decline`: an outlet's rules, its word on a run.

Example: `presspool outlet policy check run.toml`, then `presspool outlet approve run.toml`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from presspool.client.cli.budget_cli import HERE, Home, Json
from presspool.common.base.console import out, print_json
from presspool.common.base.foreign_text import one_line

if TYPE_CHECKING:
    from presspool.common.contract.contract import Contract

_DIGEST = len("sha256:") + 64
Run = Annotated[str, typer.Argument(help="A run's digest, or its run.toml or contract.")]
By = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Who says so, for the outlet's own reports; your account's name if not given.",
    ),
]


def show(context: typer.Context, home: Home = HERE, as_json: Json = False) -> None:
    """Check the outlet's policy.toml and show what it says, defaults included.

    Example: presspool outlet policy --home /srv/presspool
    """
    if context.invoked_subcommand is not None:
        return
    from presspool.client.agent.home import policy_in

    rules = policy_in(home).model_dump(mode="json")
    if as_json:
        print_json(rules)
        return
    for key, value in rules.items():
        out.print(f"{key}: {value}")


def example(
    out_file: Annotated[
        Path | None, typer.Option("--out", help="New file to write; the screen if not given.")
    ] = None,
) -> None:
    """Write a policy with the default rules and a comment for each.

    Example: presspool outlet policy example --out policy.toml
    """
    from presspool.client.consent.policy import EXAMPLE
    from presspool.common.base.errors import InputError
    from presspool.common.base.files import replace_file

    if out_file is None:
        typer.echo(EXAMPLE, nl=False)
        return
    if out_file.exists():
        raise InputError("the file exists", where="--out", expected="a new file", got=out_file)
    replace_file(out_file, EXAMPLE.encode())


def pin(
    folder: Annotated[Path, typer.Argument(help="A base model's folder.")],
    as_json: Json = False,
) -> None:
    """Print the entry of a policy that lets a base model be trained, by the hashes of its files.

    Example: presspool outlet policy pin /srv/models/minilm >> policy.toml
    """
    from presspool.common.base.toml_values import toml_value
    from presspool.common.models.base_model import examine

    found = examine(folder.resolve())
    entry = {"name": folder.name, **found.pins, "folder": str(found.path)}
    if as_json:
        print_json({**entry, "files": dict(found.files)})
        return
    typer.echo("\n[[base_models]]")
    for key, value in entry.items():
        typer.echo(f"{key} = {toml_value(value)}")


def check(
    run: Annotated[Path, typer.Argument(help="A run.toml, or a contract kept under approvals/.")],
    home: Home = HERE,
    as_json: Json = False,
) -> None:
    """Say what the policy, and the ledger if there is one, would answer to a run.

    Example: presspool outlet policy check run.toml
    """
    from presspool.client.agent import home as homes
    from presspool.client.consent import decision
    from presspool.client.witnessing import trusted_peers

    rules, contract = homes.policy_in(home), homes.contract_in(run)
    peers = [peer.outlet for peer in trusted_peers.approved(home)]
    found = list(decision.findings(contract, rules, peers=peers))
    approvals = homes.approvals_in(home)
    document = {
        "run": contract.digest,
        "admitted": all(rule.holds for rule in found),
        "rules": [
            {
                "rule": rule.key,
                "field": rule.field,
                "asked": rule.asked,
                "allowed": rule.allowed,
                "holds": rule.holds,
            }
            for rule in found
        ],
        "needs_approval": rules.manual_approval and not approvals.approved(contract.digest),
        "declined": approvals.declined(contract.digest),
        "budget": _price(home, contract),
    }
    print_json(document) if as_json else _print(document)
    decision.check_policy(contract, rules, peers=peers)  # a refusal is exit code 1


def approve(run: Run, by: By = None, home: Home = HERE, as_json: Json = False) -> None:
    """Approve a run by the digest of its contract; a contract with another word is another run.

    Never by a name or a part of the digest: its coordinator could have chosen those to fit.

    Example: presspool outlet approve sha256:924e02db... --by "A. Editor"
    """
    _say("approved", run, by, home, as_json=as_json)


def decline(run: Run, by: By = None, home: Home = HERE, as_json: Json = False) -> None:
    """Decline a run: the coordinator is told so, and every round of it is refused from now on.

    What it has spent stays spent; `outlet approve` takes the word back for later rounds. A run that
    waits may also be named by the first digits of its digest, or by its name.

    Example: presspool outlet decline sha256:924e02db
    """
    from presspool.client.agent.home import waiting_in

    whole = len(run) == _DIGEST or Path(run).is_file()
    _say("declined", run if whole else waiting_in(home, run), by, home, as_json=as_json)


def _say(word: str, run: str, by: str | None, home: Path, *, as_json: bool) -> None:
    from presspool.client.agent import home as homes

    digest = run if run.startswith("sha256:") else homes.contract_in(Path(run)).digest
    approvals, who = homes.approvals_in(home), account() if by is None else by
    said = (approvals.approve if word == "approved" else approvals.decline)(digest, by=who)
    if as_json:
        print_json({word: digest, "by": said.by, "day": said.day})
    else:
        out.print(f"{word} {digest} by {said.by or 'nobody named'}")


def account() -> str:
    """The name of the account that types; "" where it has none (a container, say)."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _price(home: Path, contract: Contract) -> dict[str, Any] | None:
    """What the run would cost the outlet's ledger; None where there is no ledger."""
    from presspool.client.agent import home as homes
    from presspool.client.consent import budget_report

    if not homes.ledger_path(home).exists():
        return None
    with homes.ledger_in(home) as ledger:
        fits = budget_report.fitting(ledger, [contract.trust.event(contract)])
    return {"fits": fits["fits"][0], "share_after": fits["share_after"]}


def _print(document: dict[str, Any]) -> None:
    for rule in document["rules"]:
        verdict = "allowed" if rule["holds"] else "REFUSED"
        out.print(f"{verdict}  {rule['field']}: {one_line(rule['asked'])} ({rule['allowed']})")
    if all(rule["rule"] != "max_epsilon_per_run" for rule in document["rules"]):
        out.print("ε of the whole run is judged once all of these allow it")
    if document["budget"] is not None:
        fits, share = document["budget"]["fits"], document["budget"]["share_after"]
        out.print(
            f"the ledger {'holds it' if fits else 'does NOT hold it'}; {share:.1%} is used then"
        )
    if document["declined"]:
        out.print("it was declined; presspool outlet approve takes that back")
    if document["needs_approval"]:
        out.print(f"it needs: presspool outlet approve {document['run']}")
