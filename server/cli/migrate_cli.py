"""`presspool coordinator migrate`: an older version's database, brought up to date on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from presspool.common.base.console import out, print_json


def migrate(
    home: Annotated[Path, typer.Option(help="The coordinator's folder.")] = Path("coordinator"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Bring the database of an older PressPool up to date; copy it first, there is no way back.

    The coordinator must not run. What is up to date already stays as it is.

    Example: presspool coordinator migrate --home /var/lib/presspool
    """
    from presspool.server.coordinator.coordinator_folder import CoordinatorFolder
    from presspool.server.coordinator.process import alone
    from presspool.server.database import Database

    folder = CoordinatorFolder.read(home)
    with alone(home):
        Database.open(folder.database, migrate=True).close()
    if as_json:
        print_json({"pool": folder.name, "database": "current"})
        return
    out.print(f"{folder.name}: its database is up to date")
