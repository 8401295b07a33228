"""`presspool adapters gate`: whether an adapter may go into use, and what is in the way if not.

Exit codes: 0 it may, 1 it may not, 2 wrong usage or bad input, of which no report is written.

Example: `presspool adapters gate topics@1 --policy release.toml --ledger one.export`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from presspool.common.base.console import err, out, print_json, progress
from presspool.common.base.foreign_text import one_line
from presspool.server.cli.registry_cli import PLACE, Json, Place, Which

if TYPE_CHECKING:
    from presspool.server.gate.finding import Finding
    from presspool.server.gate.gate_judging import FullReport

_COLOURS = {"passed": "", "failed": "red", "not_applicable": "dim"}


def gate(
    which: Which,
    policy: Annotated[Path, typer.Option(help="What is demanded: release.toml.")],
    ledger: Annotated[
        list[Path] | None, typer.Option(help="An outlet's ledger export; repeatable.")
    ] = None,
    attack: Annotated[
        Path | None, typer.Option(help="attack.json of `presspool audit attack` on the run.")
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(help="First key of an outlet's ledger, from elsewhere; repeatable."),
    ] = None,
    head: Annotated[
        list[Path] | None,
        typer.Option(help="A checkpoint of a ledger that somebody kept; repeatable."),
    ] = None,
    registry: Place = PLACE,
    out_file: Annotated[
        Path, typer.Option("--out", help="The report; a page with the same name lies beside it.")
    ] = Path("gate.json"),
    as_json: Json = False,
) -> None:
    """Judge an adapter by a release policy: papers, ledgers, attack, quality and behaviour.

    The report is what `presspool adapters promote --gate` takes on the way into production.

    Example: presspool adapters gate topics@1 --policy release.toml --attack runs/attack/attack.json
    """
    from presspool.common.audit.evidence.sources import Brought
    from presspool.common.base.files import replace_file
    from presspool.server.gate import gate_judging, gate_page
    from presspool.server.registry.adapter_registry import open_registry

    _make_room(out_file)
    opened = open_registry(registry)
    one = opened.shelves.find(which)
    known = Brought.of(key, head)
    handed = gate_judging.Handed(policy=policy, ledgers=ledger or (), attack=attack, known=known)
    with (
        gate_judging.opened(opened, one, handed) as case,
        progress("judging", total=len(gate_judging.CHECKS)) as advance,
    ):
        found = gate_judging.findings(case, advance=advance)
        report = gate_judging.report(case, found)
        page = gate_page.render(report)
    replace_file(out_file, report.model_dump_json(indent=1).encode() + b"\n")
    replace_file(out_file.with_suffix(".html"), page.encode())
    print_json(report.model_dump(mode="json")) if as_json else _show(report, out_file)
    _require_passed(report)


def _make_room(file: Path) -> None:
    """Take an older report away: it must not stand for one that was not made."""
    from presspool.common.base.errors import InputError

    if file.suffix != ".json" or file.is_dir() or not file.parent.is_dir():
        raise InputError(
            "no place for a report",
            where="--out",
            expected="NAME.json in a folder that is there",
            got=str(file),
        )
    for old in (file, file.with_suffix(".html")):
        old.unlink(missing_ok=True)


def _show(report: FullReport, file: Path) -> None:
    for found in report.findings:
        out.print(_line(found), style=_COLOURS[found.verdict])
    verdict = "may go into production" if report.passed else "may not go into production"
    out.print(f"{report.title} {verdict}", style="bold")
    err.print(f"report: {file}, page: {file.with_suffix('.html')}")


def _line(found: Finding) -> str:
    sign = {"passed": "passed", "failed": "FAILED", "not_applicable": "–"}[found.verdict]
    advice = f" To do: {found.advice}." if found.advice else ""
    return one_line(f"{sign:6} {found.check}, {found.what}: {found.said}.{advice}")


def _require_passed(report: FullReport) -> None:
    """Fail where it did not pass, with the first of what is in the way."""
    from presspool.common.base.errors import PressPoolError

    if not report.passed:
        first = report.failures[0]
        raise PressPoolError(
            f"the release gate does not let it pass, for {len(report.failures)} reasons",
            where=report.title,
            expected=f"every check passed; {first.check}, {first.what} did not",
            got=first.said,
            advice=first.advice,
        )
