"""`presspool outlet adapters …`: what finished runs came to, brought here and checked.

Example: `presspool outlet adapters fetch`, then `presspool predict adapters/NAME FILE`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from presspool.client.cli.budget_cli import HERE, Home, Json
from presspool.common.base.console import err, out, print_json, progress
from presspool.common.base.errors import EvidenceError, InputError, LinkError, PressPoolError

if TYPE_CHECKING:
    from presspool.client.agent.adapter_fetching import Links
    from presspool.client.identity.adapter_client import OfferedRun

Run = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="A run, by name or digest; default all.")
]


def list_adapters(home: Home = HERE, as_json: Json = False) -> None:
    """List the finished runs that this outlet is part of, and which adapters are here.

    Example: presspool outlet adapters list
    """
    from presspool.client.agent.adapter_fetching import Links
    from presspool.client.agent.fetched_adapter import kept
    from presspool.client.identity.identity import Identity

    identity = Identity.read(home)
    try:
        with Links.to(identity) as links:
            offered = links.adapters.runs()
    except LinkError as error:
        err.print(f"{error}\nthe coordinator is not there; what is here:")
        offered = []
    here = {str(one.path.name): str(one.path) for one in kept(home)}
    rows: list[dict[str, Any]] = [_row(one, here) for one in offered]
    rows += [{"run": name, "contract": None, "ended": None, "folder": here[name]} for name in here]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        place = row["folder"] or "not here: presspool outlet adapters fetch " + row["run"]
        out.print(f"{row['run']}: {place}")
    if not rows:
        out.print("no run of this outlet is complete")


def fetch(run: Run = None, home: Home = HERE, as_json: Json = False) -> None:
    """Bring finished runs' adapters here, each checked against the witnessed log.

    Each lies in adapters/RUN below the outlet's folder, for `presspool predict`.

    Example: presspool outlet adapters fetch spring-0a1b2c3d4e5f
    """
    from presspool.client.agent import home as homes
    from presspool.client.agent.adapter_fetching import STEPS, Links
    from presspool.client.agent.adapter_fetching import fetch as fetch_one
    from presspool.client.identity.identity import Identity

    identity, policy = Identity.read(home), homes.policy_in(home)
    done, refused = [], list[PressPoolError]()
    with Links.to(identity) as links:
        for offered in _wanted(links, run, home):
            try:
                with progress(f"fetching {offered.run}", total=STEPS) as advance:
                    found, no_card = fetch_one(identity, policy, offered.contract, links, advance)
            except (EvidenceError, InputError) as error:  # of one run, and in no other's way
                refused.append(error)
                continue
            done.append({"run": offered.run, "folder": str(found.path), "no_card": no_card or None})
    if as_json:
        print_json(done)
    else:
        _say_fetched(done, nothing=not refused)
    for other in refused[1:]:
        err.print(str(other))
    if refused:
        raise refused[0]


def verify(run: Run = None, home: Home = HERE, as_json: Json = False) -> None:
    """Check fetched adapters again, offline: weights, contract, log, witnesses and card.

    Example: presspool outlet adapters verify
    """
    from presspool.client.agent import home as homes
    from presspool.client.agent.fetched_adapter import kept
    from presspool.client.identity.identity import Identity
    from presspool.client.witnessing.witness_rule import WitnessRule

    witnesses = homes.policy_in(home).witnesses
    rule = WitnessRule.of(Identity.read(home), liars=witnesses.liars)
    found = [one.verify(rule, required=witnesses.required) for one in kept(home, run)]
    if as_json:
        print_json(found)
        return
    for one in found:
        seen = ", ".join(one["witnessed_by"]) or "nobody"  # type: ignore[arg-type]
        card = "with its privacy card" if one["card"] else "without a privacy card"
        out.print(
            f"{one['run']}: the adapter is the one that the log names, {card}; cosigned by {seen}. "
            f"{one['statement']}"
        )
    if not found:
        out.print("no adapter is here: presspool outlet adapters fetch")


def _say_fetched(done: list[dict[str, Any]], *, nothing: bool) -> None:
    for one in done:
        out.print(f"{one['run']}: {one['folder']}")
        if one["no_card"]:
            err.print(f"without a privacy card: {one['no_card']}")
    if nothing and not done:
        out.print("nothing to fetch: every finished run's adapter is here")


def _row(one: OfferedRun, here: dict[str, str]) -> dict[str, Any]:
    """One run; what is here of it is taken out of `here`."""
    name = next((name for name in here if name.endswith(f"-{_short(one)}")), "")
    ended = datetime.fromtimestamp(min(one.ended, 4e9), UTC).isoformat(timespec="seconds")
    folder = here.pop(name, None)
    return {"run": one.run, "contract": one.contract, "ended": ended, "folder": folder}


def _short(one: OfferedRun) -> str:
    return one.contract.removeprefix("sha256:")[:12]


def _wanted(links: Links, run: str | None, home: Path) -> list[OfferedRun]:
    """The run that is meant, or all that are not here."""
    from presspool.client.agent.fetched_adapter import kept

    offered = links.adapters.runs()
    if run is None:
        here = [one.path.name for one in kept(home)]
        return [one for one in offered if not any(n.endswith(f"-{_short(one)}") for n in here)]
    found = [one for one in offered if run in (one.run, one.contract)]
    if not found:
        raise InputError(
            "no such finished run of this outlet",
            where="RUN",
            expected=", ".join(one.run for one in offered) or "a run that is complete",
            got=ascii(run),
            advice="presspool outlet adapters list",
        )
    return found
