"""`presspool outlet peers …`: whose cosignatures this outlet's operator lets count.

Example: `presspool outlet peers`, then `presspool outlet peers approve evening-star DP4C-…`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from presspool.client.cli.budget_cli import HERE, Home, Json
from presspool.common.base.console import out, print_json

if TYPE_CHECKING:
    from presspool.client.identity.identity import Identity
    from presspool.common.wire.peers import PeerKeys

Name = Annotated[str, typer.Argument(help="The peer's name in the pool.")]


def show(context: typer.Context, home: Home = HERE, as_json: Json = False) -> None:
    """List the pool's outlets, the keys that the coordinator offers, and whom you approved.

    A peer's fingerprint is shown only after you approved it: until then it must come from the
    peer's operator.

    Example: presspool outlet peers --home /srv/presspool
    """
    if context.invoked_subcommand is not None:
        return
    from presspool.client.identity.identity import Identity

    rows = _rows(Identity.read(home))
    if as_json:
        print_json(rows)
        return
    for row in rows:
        shown = f", fingerprint {row['fingerprint']}" if row["fingerprint"] else ""
        out.print(f"{row['outlet']}: {row['state']}{shown}")
        out.print(f"  witness {row['witness_key']}")
        out.print(f"  ledger  {row['log_key']}")
    if not rows:
        out.print("nobody but you is in the pool yet")


def me(home: Home = HERE, as_json: Json = False) -> None:
    """Show this outlet's own keys and the fingerprint to read to your peers' operators.

    Example: presspool outlet peers me
    """
    from presspool.client.identity.identity import Identity

    own = Identity.read(home).peer
    if as_json:
        print_json(_row(own, "this outlet", fingerprint=own.fingerprint))
        return
    out.print(f"{own.outlet}: {own.fingerprint}")
    out.print("read it to your peers' operators by telephone; each types")
    out.print(f"  presspool outlet peers approve {own.outlet} {own.fingerprint}")


def approve(
    name: Name,
    fingerprint: Annotated[str, typer.Argument(help="What the peer's operator reads to you.")],
    home: Home = HERE,
    as_json: Json = False,
) -> None:
    """Let a peer's cosignatures count, once its operator has read you its fingerprint.

    Your outlet then also witnesses that peer's ledger.

    Example: presspool outlet peers approve evening-star DP4C-XXXI-7IDY-WCWH
    """
    from presspool.client.identity.identity import Identity
    from presspool.client.witnessing import trusted_peers as kept
    from presspool.client.witnessing.witness_client import peer_offered, peers_offered

    identity = Identity.read(home)
    found = peer_offered(peers_offered(identity), name)
    kept.approve(home, found, fingerprint, own=identity.peer)
    if as_json:
        print_json(_row(found, "approved", fingerprint=found.fingerprint))
    else:
        out.print(f"{name} is approved: its cosignatures count from the next round on")


def withdraw(name: Name, home: Home = HERE, as_json: Json = False) -> None:
    """Let a peer's cosignatures count no more, from the next round on.

    Example: presspool outlet peers withdraw evening-star
    """
    from presspool.client.witnessing import trusted_peers as kept

    kept.withdraw(home, name)
    if as_json:
        print_json({"outlet": name, "state": "withdrawn"})
    else:
        out.print(f"{name} is withdrawn")


def _rows(identity: Identity) -> list[dict[str, Any]]:
    """Everybody who is offered or approved; approved keys as they were approved."""
    from presspool.client.witnessing import trusted_peers as kept
    from presspool.client.witnessing.witness_client import peers_offered

    approved = {peer.outlet: peer for peer in kept.approved(identity.home)}
    offered = {peer.outlet: peer for peer in peers_offered(identity)}
    rows = []
    for name in sorted(approved | offered):
        peer = approved.get(name)
        if peer is None:
            rows.append(_row(offered[name], "not approved", fingerprint=None))
            continue
        state = "approved"
        if name not in offered:
            state = "approved, and no member now"
        elif offered[name] != peer:
            state = "approved with other keys than the coordinator offers now: ask its operator"
        rows.append(_row(peer, state, fingerprint=peer.fingerprint))
    return rows


def _row(peer: PeerKeys, state: str, *, fingerprint: str | None) -> dict[str, Any]:
    return {
        "outlet": peer.outlet,
        "state": state,
        "fingerprint": fingerprint,
        "witness_key": peer.witness.text,
        "log_key": peer.log.text,
    }
