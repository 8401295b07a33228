"""`presspool coordinator …`: what a coordinator's operator types to make and keep a pool."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from presspool.common.base.console import err, out, print_json
from presspool.common.base.numbers import moment

if TYPE_CHECKING:
    from presspool.server.coordinator.coordinator_folder import CoordinatorFolder
    from presspool.server.database import Database

Home = Annotated[Path, typer.Option(help="The coordinator's folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Outlet = Annotated[str, typer.Argument(metavar="NAME", help="The outlet, as contracts call it.")]

HOME = Path("coordinator")
_UNITS = {"m": 60, "h": 3600, "d": 86_400}
_SHORTEST, _LONGEST = 60, 30 * 86_400  # seconds that a token may be open


def init(
    name: Annotated[str, typer.Option(help="The pool's name: small letters, digits, dashes.")],
    address: Annotated[str, typer.Option(help="HOST:PORT, where outlets will dial in.")],
    home: Home = HOME,
    database: Annotated[
        str | None, typer.Option(help="URL of the database; SQLite in the folder if not given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a new pool: its root, its keys and an empty database.

    Example: presspool coordinator init --name press-pool --address pool.example.org:7443
    """
    from presspool.common.pki.certificates import fingerprint_of
    from presspool.server.coordinator.coordinator_folder import CoordinatorFolder

    _require_name(name, "--name")
    folder = CoordinatorFolder.create(
        home, name=name, address=address, database=database, now=time.time()
    )
    root = fingerprint_of(folder.root.certificate)
    if as_json:
        print_json(
            {
                "pool": folder.name,
                "address": folder.address,
                "home": str(home),
                "root_sha256": root,
                "contract_key": folder.contract.public.hex(),
                "log_key": folder.log.key.text,
            }
        )
        return
    out.print(f"{folder.name} at {folder.address}, in {home}")
    out.print(f"root certificate sha256 {root}")
    err.print("keep a copy of the folder offline: who has its keys is the pool")


def invite(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="The outlets, as contracts call them.")
    ],
    ttl: Annotated[str, typer.Option(help="How long the token may be used: 90m, 24h, 7d.")] = "24h",
    place: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Write the token to this new file (mode 0600), or to NAME.token in this folder.",
        ),
    ] = None,
    home: Home = HOME,
    as_json: Json = False,
) -> None:
    """Make a token with which one outlet may ask to join, once; for several, one token each.

    Several tokens go into a folder, or with --json into a list.

    Example: presspool coordinator invite daily-bugle evening-star --ttl 24h --out .
    """
    from presspool.common.base.errors import InputError
    from presspool.common.base.files import new_file
    from presspool.server.membership.members import Members

    seconds, names = _seconds(ttl), list(dict.fromkeys(names))
    many = len(names) > 1
    for name in names:
        _require_name(name)
    folder_given = place is not None and place.is_dir()
    if many and not folder_given and not (as_json and place is None):
        raise InputError("where to", where="--out", got=place, expected="a folder that is there")
    made = []
    # The files first: an invitation makes the one before it void.
    with opened(home) as (folder, database), ExitStack() as files:
        streams = {
            name: files.enter_context(new_file(place / f"{name}.token" if folder_given else place))
            for name in names
            if place is not None
        }
        for name in names:
            token = folder.token(Members(database).invite(name, ttl=seconds), now=time.time())
            made.append({"outlet": name, "token": token.encode(), "expires": moment(token.expires)})
            if name in streams:
                streams[name].write(token.encode().encode() + b"\n")
    if as_json:
        print_json(made if many else made[0])
    elif place is None:
        typer.echo(made[0]["token"])
    err.print(
        f"for {', '.join(names)} only, once, until {made[0]['expires']}; hand it over so that "
        "nobody can change it on its way, then compare fingerprints"
    )


def admit(
    name: Outlet,
    fingerprint: Annotated[str, typer.Argument(help="What the outlet's operator reads to you.")],
    home: Home = HOME,
    as_json: Json = False,
) -> None:
    """Make an outlet a member, once its operator has read you its keys' fingerprint.

    Example: presspool coordinator admit daily-bugle F2M3-RWOV-A2TL-VY7U
    """
    from presspool.server.membership.members import Members

    with opened(home) as (folder, database):
        facts = Members(database).admit(name, fingerprint, folder.root)
    if as_json:
        print_json({"outlet": name, "serial": facts.serial, "until": moment(facts.ends)})
    else:
        out.print(f"{name} is a member; certificate until {moment(facts.ends)}")


def revoke(
    name: Outlet,
    reason: Annotated[str, typer.Option(help="Why, for the pool's records.")],
    home: Home = HOME,
    as_json: Json = False,
) -> None:
    """Cut an outlet off at once, in the middle of what it does, and withdraw its tokens.

    Example: presspool coordinator revoke daily-bugle --reason "laptop stolen"
    """
    from presspool.server.coordinator.submission import require_reason
    from presspool.server.membership.members import Members

    require_reason(reason)
    with opened(home) as (_, database):
        Members(database).revoke(name, reason)
    if as_json:
        print_json({"outlet": name, "state": "revoked", "reason": reason})
    else:
        out.print(f"{name} is revoked")


def members(home: Home = HOME, as_json: Json = False) -> None:
    """List who is in, who waits to be admitted, who was cut off, and who was last seen when.

    Example: presspool coordinator members --json
    """
    from rich import box
    from rich.table import Table

    from presspool.server.membership.member_list import standings

    with opened(home) as (_, database):
        found = standings(database, now=time.time())
    rows = [
        {
            "outlet": line.name,
            "state": line.state,
            "since": moment(line.since),
            "until": moment(line.until),
            "note": line.note,
            "seen": moment(line.heard.at) if line.heard else None,
            "version": (line.heard.version if line.heard else "") or None,
            "clock_ahead_seconds": line.heard.skew if line.heard else None,
        }
        for line in found
    ]
    if as_json:
        print_json(rows)
        return
    table = Table(box=box.SIMPLE)
    for name in ("outlet", "state"):
        table.add_column(name, overflow="fold")
    for name in ("since", "until"):
        table.add_column(name, no_wrap=True)
    for name in ("note", "last seen", "version", "clock ahead, s"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*("unknown" if said is None else str(said) for said in row.values()))
    out.print(table if rows else "nobody yet: presspool coordinator invite NAME")


def viewer(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A person or program.")],
    file: Annotated[
        Path | None,
        typer.Option("--out", help="New file: .p12 for a browser, .pem for Prometheus and curl."),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Let them look no more.")] = False,
    home: Home = HOME,
    as_json: Json = False,
) -> None:
    """Let somebody look at the dashboard, and do nothing else; or take that back.

    Example: presspool coordinator viewer editor --out editor.p12
    """
    from presspool.common.base.errors import InputError
    from presspool.common.base.files import new_file
    from presspool.server.coordinator.coordinator_folder import CoordinatorFolder
    from presspool.server.membership.viewers import Viewers, for_the_holder

    _require_name(name)
    folder = CoordinatorFolder.read(home)
    viewers = Viewers(home)
    if remove:
        viewers.remove(name)
        print_json({"viewer": name, "state": "removed"}) if as_json else out.print(
            f"{name} may look no more"
        )
        return
    if file is None or file.suffix not in (".p12", ".pem"):
        raise InputError("where to", where="--out", got=file, expected="NAME.p12 or NAME.pem")
    with new_file(file) as stream:
        made = viewers.add(name, folder.root, now=time.time())
        content, password = for_the_holder(made, folder.root, name, kind=file.suffix)
        stream.write(content)
    if as_json:
        print_json({"viewer": name, "file": str(file), "password": password})
        return
    out.print(f"{name} may look at the dashboard with {file}")
    if password is not None:
        out.print(f"its password: {password}")


@contextmanager
def opened(home: Path) -> Iterator[tuple[CoordinatorFolder, Database]]:
    """A coordinator's folder and its database, closed at the end."""
    from presspool.server.coordinator.coordinator_folder import CoordinatorFolder
    from presspool.server.database import Database

    folder = CoordinatorFolder.read(home)
    with closing(Database.open(folder.database)) as database:
        yield folder, database


def _require_name(name: str, where: str = "NAME") -> None:
    from pydantic import TypeAdapter, ValidationError

    from presspool.common.base.errors import InputError
    from presspool.common.contract.contract_schema import Name

    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise InputError(
            "name",
            where=where,
            got=ascii(name),
            expected="1 to 63 small letters, digits and dashes",
        ) from None


def _seconds(ttl: str) -> int:
    from presspool.common.base.errors import InputError

    match = re.fullmatch("([0-9]{1,6})([mhd])", ttl)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not _SHORTEST <= seconds <= _LONGEST:
        raise InputError(
            "time to live", where="--ttl", got=ascii(ttl), expected="1m to 30d, as 90m, 24h or 7d"
        )
    return seconds
