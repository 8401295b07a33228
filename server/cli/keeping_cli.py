"""`presspool coordinator backup | restore | move | reissue | migrate`: a home over the years.

Example: `presspool coordinator backup pool.backup`, then `presspool coordinator restore pool.backup
--home coordinator`, on another machine.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from presspool.common.base.console import err, out, print_json
from presspool.common.base.numbers import moment
from presspool.server.cli.coordinator_cli import HOME, Home, Json


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file (mode 0600).")],
    home: Home = HOME,
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
    out.print(f"wrote {file}: it holds the pool's private keys")
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
    out.print(f"{folder.name} at {folder.address}, in {home}")
    err.print(
        "never serve the folder that it came from again; outlets that joined since the backup ask "
        "for a new token"
    )


def move(
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="HOST:PORT, where outlets will dial in.")
    ],
    statement: Annotated[
        Path | None,
        typer.Option("--out", help="Write the signed statement to this new file, for outlets."),
    ] = None,
    home: Home = HOME,
    as_json: Json = False,
) -> None:
    """Let outlets dial this pool elsewhere; the former addresses stay good while they answer.

    A certificate for all addresses is issued, and outlets are told the new one, signed, whenever
    they reach the pool at any of them: keep the old one alive for a while. An outlet that comes too
    late takes the file of --out: presspool outlet moved FILE. Start the coordinator anew.

    Example: presspool coordinator move pool.example.com:7443 --out moved.statement
    """
    from presspool.common.base.errors import InputError
    from presspool.common.base.files import new_file
    from presspool.server.coordinator.coordinator_folder import CoordinatorFolder

    before = CoordinatorFolder.read(home)
    if statement is not None and address == before.address and not before.moves:
        raise InputError(
            "there is nothing to tell outlets",
            where="ADDRESS",
            expected="another address than the pool has always had",
            got=address,
        )
    with nullcontext() if statement is None else new_file(statement, private=False) as stream:
        folder = before.moved(address, now=time.time())
        if stream is not None:
            stream.write(folder.addresses)
    if as_json:
        print_json({"address": folder.address, "also": list(folder.also), "moves": folder.moves})
        return
    out.print(f"{folder.name} is dialled at {folder.address}")
    for other in folder.also:
        out.print(f"  and, as long as it answers there, at {other}")
    err.print("a coordinator that is running takes it up at its next start")


def reissue(home: Home = HOME, as_json: Json = False) -> None:
    """Issue the certificate of the pool's port anew, for the same key and the same addresses.

    Example: presspool coordinator reissue
    """
    from presspool.common.pki.certificates import read_certificate
    from presspool.server.coordinator.coordinator_folder import CoordinatorFolder

    before = CoordinatorFolder.read(home)
    folder = before.moved(before.address, now=time.time())
    until = moment(read_certificate(folder.server.certificate).ends)
    if as_json:
        print_json({"address": folder.address, "certificate_until": until})
    else:
        out.print(f"certificate of the port until {until}; start the coordinator anew")


def migrate(home: Home = HOME, as_json: Json = False) -> None:
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
