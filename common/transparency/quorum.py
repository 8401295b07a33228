"""When enough witnesses have seen a head to go on from it: the rule before each round.

An outlet trains round r + 1 only from a head of round r that its own witness cosigned and that
more than (n + f)/2 of the n peers cosigned whose keys its operator approved out of band, f being
the number of them that may lie. An honest witness cosigns one history only.

Why this finds every fork: let honest outlets A and B, who approved each other and the same others,
go on from contradicting heads. Neither cosigned the other's head, so both quorums lie among the
n − 1 others. Two sets of more than (n + f)/2 among n − 1 share more than f + 1 witnesses, one of
them honest, who cosigned both: a contradiction. Without the outlet's own cosignature the sets may
share only f, all liars.

Invariants:
    * Keys that the operator did not approve count for nothing, whatever the coordinator invents.
    * One key counts once, under whatever names.

Source: the quorum intersection argument of Malkhi & Reiter, "Byzantine quorum systems",
Distributed Computing 11, 1998, section 3.

Example:
    >>> [needed(peers=n, liars=f) for n, f in ((3, 0), (4, 1), (7, 2))]
    [2, 3, 5]
"""

from __future__ import annotations

from collections.abc import Collection

from presspool.common.base.errors import EvidenceError, LedgerError
from presspool.common.transparency import notes
from presspool.common.transparency.checkpoints import Checkpoint, open_checkpoint


def needed(*, peers: int, liars: int) -> int:
    """The smallest number of cosignatures above (n + f)/2.

    Raises:
        LedgerError: no approved peer, or as many liars as peers: no number would be enough.
    """
    if not 0 <= liars < peers:
        raise LedgerError(
            "approved peers",
            expected="more peers than may lie",
            got=f"{peers}, {liars} may lie",
            advice="approve more peers' keys",
        )
    return (peers + liars) // 2 + 1


def require_quorum(
    note: notes.Note,
    *,
    log: notes.VerifierKey,
    own: notes.VerifierKey,
    approved: Collection[notes.VerifierKey],
    liars: int,
) -> Checkpoint:
    """The head, if this outlet may go on from it.

    Args:
        note: a head of the consortium log with its cosignatures.
        log: the consortium log's key.
        own: key of this outlet's own witness.
        approved: keys of the n peers that the operator approved.
        liars: f, how many of those may lie.

    Raises:
        EvidenceError: too few cosignatures, or a signature that does not verify.
        LedgerError: approved keys from which no quorum can be made.
    """
    _check_keys([own, *approved])
    least = needed(peers=len(approved), liars=liars)
    head, _ = open_checkpoint(note, log=log)
    found = notes.verified(note, [own, *approved])
    signed = {(s.name, s.key_id) for s in found}
    if (own.name, own.id) not in signed:
        raise EvidenceError(
            "cosignatures",
            where=head.origin,
            expected="this outlet's own",
            got="a head that its witness did not cosign",
        )
    peers = [key.name for key in approved if (key.name, key.id) in signed]
    if len(peers) < least:
        raise EvidenceError(
            "cosignatures",
            where=f"{head.origin}, {head.size} entries",
            expected=f"{least} of {len(approved)} approved peers ({liars} may lie)",
            got=f"{len(peers)}: {', '.join(sorted(peers)) or 'none'}",
            advice="train nothing from this head; compare heads with the peers that are missing",
        )
    return head


def _check_keys(keys: list[notes.VerifierKey]) -> None:
    """One key must not count twice, and only cosigning keys count."""
    wrong = [key.text for key in keys if key.kind != notes.COSIGNATURE]
    if wrong:
        raise LedgerError("key of a witness", expected="a cosigning key", got=wrong[0])
    if len({key.public for key in keys}) < len(keys):
        raise LedgerError(
            "approved keys",
            expected="every key once, and not this outlet's own",
            got=", ".join(sorted(key.name for key in keys)),
        )
