"""Putting an outlet's agent together: identity, settings, spool, link, the app that trains.

A real outlet has a policy and a ledger; without them its agent does not start, because a run would
then be neither judged nor charged.

Example: `with agent(Path("/var/lib/presspool")) as node: node.run()`.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from flwr.app import Message

from presspool.client import home as homes
from presspool.client.budget import position
from presspool.client.identity import Identity
from presspool.client.joining import renew_if_due
from presspool.client.link import Link
from presspool.client.node import Node
from presspool.client.spool import Spool
from presspool.common.errors import InputError, LedgerError, LinkError
from presspool.common.tls import channel, split_address

log = logging.getLogger(__name__)

WORK = "work"
NO_ROOT = "0" * 64


@contextmanager
def agent(home: Path) -> Iterator[Node]:
    """The agent of the outlet at a home.

    Raises:
        InputError: not joined, or settings, policy or ledger that are missing or wrong.
        FolderError: another agent works here.
    """
    identity = Identity.read(home)
    check_home(home, identity)
    with Spool.open(home / WORK) as spool:
        yield Node(
            identity=identity, spool=spool, link=Link(identity.address, _dialler(home)),
            trainer=_trainer(home, spool), position=_position(home),
        )  # fmt: skip


def check_home(home: Path, identity: Identity) -> None:
    """Return if the settings at a home are those of a real outlet, with policy and ledger.

    Raises:
        InputError: missing or wrong, without policy and ledger, or another outlet's.
        EvidenceError: a damaged ledger.
    """
    where, settings = home / homes.SETTINGS, homes.settings_in(home)
    if settings.name != identity.name:
        raise InputError("another outlet's settings", where=str(where), expected=identity.name,
                         got=settings.name, advice=f'write name = "{identity.name}"')  # fmt: skip
    if settings.deterministic is not None and not _is_loopback(identity.address):
        raise InputError(
            "noise that can be drawn again protects nobody", where=f"{where} deterministic",
            expected="no such line, or a coordinator on this machine", got=identity.address,
            advice="remove the line",
        )  # fmt: skip
    if settings.policy is None or settings.ledger is None:
        raise InputError(
            "no policy and no ledger", where=str(where), expected="policy and ledger",
            advice="presspool outlet policy and presspool outlet budget init make them",
        )  # fmt: skip
    homes.policy_in(home)
    with homes.ledger_in(home):
        pass


def _is_loopback(address: str) -> bool:
    host, _ = split_address(address, where="identity/coordinator.json")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _dialler(home: Path) -> Callable[[], grpc.Channel]:
    """Makes the link anew, after renewing the certificate where that is due."""

    def dial() -> grpc.Channel:
        identity = Identity.read(home)
        try:
            identity = renew_if_due(identity, now=time.time())
        except (InputError, LinkError) as error:  # the old one may be good for ten days more
            log.warning("the certificate could not be renewed yet: %s", error)
        return channel(identity.address, identity.credential, root=identity.root)

    return dial


def _trainer(home: Path, spool: Spool) -> Callable[[Message], Message]:
    def train(message: Message) -> Message:
        from presspool.client.app import serve

        kept = spool.answer(message.metadata.message_id)
        return serve(message, home / homes.SETTINGS, kept=kept)

    return train


def _position(home: Path) -> Callable[[str], tuple[int, str]]:
    def of(run: str) -> tuple[int, str]:
        with homes.ledger_in(home) as ledger:
            try:
                return position(ledger, run)
            except LedgerError:  # refused: nothing was reserved
                return 0, NO_ROOT

    return of
