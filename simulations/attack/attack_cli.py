"""`presspool audit attack`: what an adversary who sees every update really finds out.

Exit codes: 0 the attack ran and found no more than is claimed, 1 it found more, or had no power and
so no verdict, 2 wrong usage or bad input.

Example: `presspool audit attack runs/demo/run --out runs/attack`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from presspool.common.base.console import err, out, print_json, progress, start_logging

if TYPE_CHECKING:
    from presspool.common.contract.contract import Contract
    from presspool.simulations.attack.attack import Options
    from presspool.simulations.attack.findings import Attack, Found
    from presspool.simulations.attack.roc import Separation

UNFINISHED = "attack-unfinished"  # beside an outlet's own settings, where the next attack finds it


def attack(
    run: Annotated[Path, typer.Argument(help="A run folder, or a run.toml.")],
    outlet: Annotated[
        str | None,
        typer.Option(help="The outlet to attack; default that of --own, or the contract's first."),
    ] = None,
    own: Annotated[
        Path | None,
        typer.Option(
            metavar="OUTLET.TOML",
            help="Train on this outlet's own readers instead of made ones. Figures then go to the "
            "screen alone; the attack works beside this file and leaves nothing there.",
        ),
    ] = None,
    canaries: Annotated[
        int, typer.Option(min=20, max=20_000, help="Planted readers: more show more.")
    ] = 1000,
    out_folder: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The audit's folder; the same one continues it. Default runs/attack-<name>.",
        ),
    ] = None,
    deterministic: Annotated[
        int | None,
        typer.Option(metavar="SEED", help="Reproducible coins and noise, for tests; no card."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Attack one outlet with planted canary readers and bound its ε from below.

    Trains the contract's plan four times at a made outlet (with and without noise, malicious and
    honest coordinator) and says how much of who was in leaks; of a model that writes, also the
    exposure of what canaries wrote. Nothing of it is released, and the budget ledger is not
    touched.

    Example: presspool audit attack runs/demo/run --out runs/attack
    """
    from presspool.client.identity.settings import read_settings
    from presspool.simulations.attack.attack import Options, units_of_work
    from presspool.simulations.attack.attack import attack as audit
    from presspool.simulations.attack.attack_report import PAGE_FILE, keep, require_verdict

    if own and out_folder:
        raise typer.BadParameter("of real readers nothing is kept: leave out --out, or --own")
    start_logging(quiet=True)
    contract = _contract(run)
    if own:
        outlet, folder = outlet or read_settings(own).name, own.parent / UNFINISHED
    else:
        folder = out_folder or Path("runs") / f"attack-{contract.name}"
    options = Options(out=folder, canaries=canaries, own=own, deterministic=deterministic)
    with progress("attacking", total=units_of_work(contract)) as advance, _stopped(options):
        found = audit(contract, outlet or min(contract.outlets), options, on_step=advance)
    keep(found, folder, run)
    print_json(found.to_json()) if as_json else _show(found)
    if found.readers == "made" and not as_json:
        out.print(f"page: {folder / PAGE_FILE}")
    require_verdict(found)


@contextmanager
def _stopped(options: Options) -> Iterator[None]:
    """Say what a stopped attack leaves."""
    try:
        yield
    except KeyboardInterrupt:
        err.print(
            "stopped; nothing of your readers was left behind"
            if options.own
            else "stopped; what was finished is kept: the same command goes on",
            style="yellow",
        )
        raise typer.Exit(2) from None


def _contract(run: Path) -> Contract:
    from presspool.common.runs.run_file import freeze, read_run_file
    from presspool.common.runs.run_folder import RunFolder

    if run.is_dir():
        return RunFolder(run).read_contract()
    return freeze(read_run_file(run).contract, fetch=True)


def _show(found: Attack) -> None:
    for name, one in (("released updates", found.updates), ("final adapter", found.adapter)):
        out.print(_line(name, one))
    for name, members in (
        ("readers' losses", found.members),
        ("without noise", found.members_control),
    ):
        low, high = members.auc_interval
        out.print(
            f"membership of {found.readers} readers by loss, {name}: AUC {members.auc:.3f} "
            f"[{low:.3f}, {high:.3f}], {_found_among(members)}"
        )
    for line in (_exposure(found), _tokens(found)):
        if line:
            out.print(line)
    out.print(found.sentence, style="bold red" if found.defect else "")


def _exposure(found: Attack) -> str | None:
    if found.exposure is None or found.exposure_control is None:
        return None
    under, bare = found.exposure, found.exposure_control
    return (
        f"exposure of the canaries that were in: mean {under.mean:.2f} bits, largest "
        f"{under.largest:.2f}; without noise {bare.mean:.2f} and {bare.largest:.2f} (mean by "
        f"chance {under.chance:.2f}; {under.highest:.2f} is the most there could be, and chance "
        "alone gets there every other time)"
    )


def _tokens(found: Attack) -> str | None:
    if found.tokens is None or found.tokens_control is None:
        return found.tokens_left_out
    bare, planned = found.tokens_control, found.tokens
    return (
        f"tokens read off one update: {100 * bare.exact:.0f} % of a short record without noise; "
        f"under the plan {100 * planned.exact:.1f} % exactly, {100 * planned.suspected:.1f} % "
        f"suspected where chance gives {100 * planned.chance:.1f} %"
    )


def _found_among(one: Separation) -> str:
    """TPR at 1 % FPR with all that limits it: how many were counted, where the threshold lies."""
    from presspool.simulations.attack.roc import FALSE_POSITIVES

    low, high = (100 * end for end in one.tpr_interval)
    at = (
        f"at {100 * FALSE_POSITIVES:.0f} % false positives"
        if FALSE_POSITIVES * one.others >= 1
        else f"at no false positive (too few for {100 * FALSE_POSITIVES:.0f} %)"
    )
    return (
        f"{100 * one.tpr:.1f} % [{low:.1f}, {high:.1f}] of {one.members} found {at} among "
        f"{one.others} (95 %: up to {100 * one.fpr_interval[1]:.1f} % elsewhere)"
    )


def _line(name: str, found: Found) -> str:
    g, control = found.guesses, found.control
    fired = "fires" if found.fired else "does not fire: no power, no verdict"
    return (
        f"{name}: {g.right} of {g.made} guesses right, ε ≥ {found.epsilon:.2f} (at most "
        f"{found.ceiling:.2f} could be shown); control without noise {fired} "
        f"({100 * control.tpr:.0f} % at 1 % false positives)"
    )
