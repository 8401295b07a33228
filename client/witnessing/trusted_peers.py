"""`peers.json`: whose cosignatures count here, decided by this outlet's operator and nobody else.

The coordinator offers its members' keys. A key is approved only if its fingerprint is the one that
the peer's operator said over another channel, so a coordinator that invents outlets, or puts its
own key in a peer's place, gains nothing.

Invariants:
    * Nothing that comes over the network ever changes the file; `approve` and `withdraw` do.
    * No key is there twice, under whatever names.

Example: ``approve(home, offered, "DP4C-XXXI-7IDY-WCWH", own=identity.peer)``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from presspool.client.witnessing.witness_folder import WitnessFolder
from presspool.common.base.errors import EvidenceError, InputError
from presspool.common.base.files import replace_file
from presspool.common.base.validation import unread
from presspool.common.contract.contract_schema import Name
from presspool.common.pki.keys import same_fingerprint
from presspool.common.transparency.checkpoints import open_checkpoint
from presspool.common.transparency.witness import Heads
from presspool.common.wire.peers import PeerKeys

PEERS = "peers.json"
LARGEST_FILE = 1 << 20  # bytes


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    outlet: Name
    witness_key: str
    log_key: str


_LINES = TypeAdapter(list[_Line])


def approved(home: Path) -> tuple[PeerKeys, ...]:
    """The peers approved at an outlet's home, by name.

    Raises:
        InputError: the file is damaged.
    """
    path = home / PEERS
    if not path.exists():
        return ()
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError
        lines = _LINES.validate_json(path.read_bytes())
        return tuple(
            PeerKeys.parse(line.outlet, witness=line.witness_key, log=line.log_key)
            for line in lines
        )
    except (OSError, ValueError, ValidationError, EvidenceError) as error:
        raise InputError(
            "cannot read the approved peers",
            where=str(path),
            got=unread(error),
            advice="restore the file, or remove it and approve the peers again",
        ) from None


def approve(home: Path, offered: PeerKeys, fingerprint: str, *, own: PeerKeys) -> None:
    """Let a peer's cosignatures count, and witness its ledger, from here on.

    Args:
        home: this outlet's.
        offered: the peer's keys, as the coordinator offers them.
        fingerprint: what the peer's operator said.
        own: this outlet's keys.

    Raises:
        InputError: another fingerprint, keys that are approved, or this outlet's own keys or name.
    """
    require_fingerprint(offered, fingerprint)
    before = approved(home)
    others = [peer for peer in before if peer.outlet != offered.outlet]
    taken = {key.public for peer in (*others, own) for key in (peer.witness, peer.log)}
    if {offered.witness.public, offered.log.public} & taken:
        raise InputError(
            "a key that another outlet has",
            where=offered.outlet,
            expected="keys of its own",
            advice="ask its operator",
        )
    if offered.outlet == own.outlet:
        raise InputError(
            "a peer of this outlet's own name",
            where=offered.outlet,
            expected="another outlet",
            advice="ask the coordinator who that is",
        )
    _forget_another(WitnessFolder.at(home).heads, offered)
    _write(home, [*others, offered])


def require_fingerprint(offered: PeerKeys, said: str) -> None:
    """Raise `InputError` unless a peer's operator said the fingerprint of the keys offered."""
    if not same_fingerprint(said, offered.fingerprint):
        raise InputError(
            "not the fingerprint of the keys that the coordinator offers",
            where=offered.outlet,
            expected="the one that the peer's operator reads to you from `presspool outlet peers "
            "me`",
            got=ascii(said),
            advice="read it again; if it still differs, do not approve, and ask both operators",
        )


def withdraw(home: Path, name: str) -> None:
    """Let a peer's cosignatures count no more; raises `InputError` where it is not approved."""
    before = approved(home)
    if name not in {peer.outlet for peer in before}:
        raise InputError(
            "no approved peer of this name",
            where=ascii(name),
            expected=", ".join(peer.outlet for peer in before) or "nobody is approved",
            advice="presspool outlet peers",
        )
    _write(home, [peer for peer in before if peer.outlet != name])


def _forget_another(heads: Heads, peer: PeerKeys) -> None:
    """A peer with a new ledger key has a new ledger: what was held of the old one is in its way."""
    held = heads.read(peer.log.name)
    try:
        if held is not None:
            open_checkpoint(held, log=peer.log)
    except EvidenceError:
        heads.forget(peer.log.name)


def _write(home: Path, peers: Iterable[PeerKeys]) -> None:
    lines = [
        _Line(outlet=peer.outlet, witness_key=peer.witness.text, log_key=peer.log.text)
        for peer in sorted(peers, key=lambda peer: peer.outlet)
    ]
    replace_file(home / PEERS, _LINES.dump_json(lines, indent=1) + b"\n")
