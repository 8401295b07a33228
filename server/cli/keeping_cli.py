"""`presspool coordinator backup | restore | move | reissue`: a pool's home over the years.

Example: `presspool coordinator backup pool.backup`, then `presspool coordinator restore pool.backup
--home coordinator`, on another machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from presspool.common.base.console import err, out, print_json

Home = Annotated[Path, typer.Option(help="The coordinator's folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_HOME = Path("coordinator")


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file (mode 0600).")],
    home: Home = _HOME,
    as_json: Json = False,
) -> None:
    """Write the pool's keys, members, runs and database to one file, also while it is serving.

    The file holds the pool's private keys: who has it is the pool. A PostgreSQL database is not in
    it: save that with pg_dump, before this command.

    Example: presspool coordinator backup /mnt/offline/pool.backup
    """
    from presspool.server.coordinator import safekeeping

    whole = safekeeping.backup(home, file)
    if as_json:
        print_json({"file": str(file), "bytes": file.stat().st_size, "database": whole})
        return
    out.print(f"wrote {file}: it holds the pool's private keys", soft_wrap=True)
    if not whole:
        err.print("the database is not in it: save it with pg_dump", style="yellow")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `backup` wrote.")],
    home: Annotated[Path, typer.Option(help="The new folder, where nothing is yet.")],
    as_json: Json = False,
) -> None:
    """Make a coordinator's folder from a backup.

    Outlets that have cosigned more of the consortium log than the backup holds train nothing for
    it: restore the newest, and see that the old folder is never served again.

    Example: presspool coordinator restore /mnt/offline/pool.backup --home coordinator
    """
    from presspool.server.coordinator import safekeeping

    folder = safekeeping.restore(file, home)
    if as_json:
        print_json({"pool": folder.name, "address": folder.address, "home": str(home)})
        return
    out.print(f"{folder.name} at {folder.address}, in {home}", soft_wrap=True)
    err.print(
        "never serve the folder that it came from again; outlets that joined since the backup ask "
        "for a new token",
        soft_wrap=True,
    )
