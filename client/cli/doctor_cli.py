"""`presspool outlet doctor`, as the operator sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from presspool.common.base.console import out, print_json


def doctor(
    home: Annotated[Path, typer.Option(help="This outlet's folder.")] = Path(),
    run: Annotated[
        Path | None, typer.Option(help="A run.toml: try the engine with its base model.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check clock, TLS, versions, data, engine, ledger and disk, and say what to do.

    Exit code 1 if something does not work. Nothing that is found leaves this screen.

    Example: presspool outlet doctor --home /var/lib/presspool
    """
    from presspool.client.agent.doctor import FAULT, examine

    findings = []
    for finding in examine(home, run=run):
        findings.append(finding)
        if not as_json:
            out.print(f"{finding.state:<8} {finding.check:<9} {finding.found}")
            if finding.advice:
                out.print(f"{'':<18} to do: {finding.advice}")
    if as_json:
        print_json([finding.__dict__ for finding in findings])
    if any(finding.state == FAULT for finding in findings):
        raise typer.Exit(1)
