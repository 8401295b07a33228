"""`presspool outlet join`: from a token to a member, as the operator sees it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from presspool.common.base.console import err, out, print_json
from presspool.common.base.numbers import moment

if TYPE_CHECKING:
    from presspool.client.identity.identity import Identity
    from presspool.client.identity.joining import Joining
    from presspool.common.wire.token import Token

T = TypeVar("T")

_LONGEST_PAUSE = 30.0  # seconds between questions while the coordinator cannot be reached
_PATIENCE = 60.0  # seconds for a coordinator that was never reached: it may just be starting


def join(
    token: Annotated[
        str, typer.Argument(help="The token's text, a file that holds it, or - for input.")
    ],
    home: Annotated[Path, typer.Option(help="This outlet's folder.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Join a pool: make this outlet's keys and wait until its coordinator has admitted them.

    The keys never leave the folder. Read the fingerprint that is shown to the coordinator's
    operator by telephone or in person. You may stop with Ctrl-C: the same command goes on.
    A new token of the same pool renews a membership that was revoked, lost or has moved: keys,
    ledger and budget stay as they are.

    Example: presspool outlet join invitation.txt --home /var/lib/presspool
    """
    from presspool.client.identity import joining

    read = joining.read_token(token)
    identity = joining.joined(read, home, now=time.time())
    if identity is None:
        identity = _join(read, home)
    _report(identity, as_json=as_json)


def _join(token: Token, home: Path) -> Identity:
    from presspool.client.identity.joining import POLL_SECONDS, Joining

    try:
        with Joining.begin(token, home) as begun:
            _over_the_link(begun.ask, patience=_PATIENCE)
            _show_fingerprint(token, begun)
            while (identity := _over_the_link(begun.collect, patience=math.inf)) is None:
                time.sleep(POLL_SECONDS)
            return identity
    except KeyboardInterrupt:
        err.print("stopped; the keys are kept: the same command goes on", style="yellow")
        raise typer.Exit(2) from None


def _show_fingerprint(token: Token, begun: Joining) -> None:
    err.print(f"{token.outlet} asks to join {token.pool} at {token.address}")
    err.print(f"fingerprint of its keys: {begun.fingerprint}")
    err.print(
        "read it to the coordinator's operator, who types\n"
        f"  presspool coordinator admit {token.outlet} {begun.fingerprint}\n"
        "waiting; Ctrl-C stops, the same command goes on"
    )


def _over_the_link(call: Callable[[], T], *, patience: float) -> T:
    """What a call returns; a link that breaks is tried again for so many seconds.

    Raises:
        LinkError: it did not come back.
    """
    from presspool.client.identity.joining import POLL_SECONDS
    from presspool.common.base.errors import LinkError

    pause, until = POLL_SECONDS, time.monotonic() + patience
    while True:
        try:
            return call()
        except LinkError as error:
            if time.monotonic() + pause > until:
                raise
            err.print(f"{error.what}: {error.got}; trying again in {pause:.0f} s")
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _report(identity: Identity, *, as_json: bool) -> None:
    until = moment(identity.facts.ends)
    if as_json:
        print_json(
            {
                "outlet": identity.name,
                "pool": identity.pool,
                "address": identity.address,
                "home": str(identity.home),
                "certificate_until": until,
                "update_key": identity.update.public.hex(),
                "log_key": identity.keys.log.public.hex(),
            }
        )
        return
    out.print(f"{identity.name} has joined {identity.pool}")
    out.print(f"certificate until {until}; it renews by itself")
    name, own = identity.name, identity.peer.fingerprint
    out.print(
        "read it to the other outlets' operators by telephone; each types it with\n"
        f"  presspool outlet init --peer {name}={own}\n"
        f"or later  presspool outlet peers approve {name} {own}\n"
        "go on with: presspool outlet init --data FILE"
    )
