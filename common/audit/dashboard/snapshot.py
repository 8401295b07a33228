"""What pages, alerts and metrics are made from: one look at all sources, frozen.

`Evidence` is what can be recomputed by anybody; `PoolLook` is what only a coordinator knows
besides, and its own word for it. No field holds readers' data or anything measured on it, but for
counts that were noised and paid for.

Example:
    >>> Snapshot(evidence=Evidence(outlets=(), runs=()), now=0.0).pool is None
    True
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from presspool.common.audit.dashboard.followed_ledgers import Followed
from presspool.common.audit.evidence.evidence import Evidence
from presspool.common.released.counts_document import CountsDocument


@dataclass(frozen=True, kw_only=True)
class CertificateLook:
    """A certificate whose end somebody must not miss.

    Attributes:
        kind: its unit, as in `presspool.common.pki.certificates`, or "authority".
        name: whose.
        ends: POSIX seconds.
    """

    kind: str
    name: str
    ends: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How one outlet stands in a run's open round.

    Attributes:
        state: "answered", "no answer yet", "missed an earlier phase", "not a member", or the word
            of a failure.
        refused: code of a refused update; None for none.
    """

    outlet: str
    state: str
    refused: str | None


@dataclass(frozen=True, kw_only=True)
class PoolRun:
    """One run of a coordinator.

    Attributes:
        id: its name at the coordinator.
        contract: digest of its contract.
        name: the contract's name.
        state: queued, running, complete, stopped or failed.
        note: why it waits or how it ended.
        done: rounds that are whole.
        rounds: rounds of the contract.
        answers: of the open round; empty where none is open.
        phase: where the open round stands, in words; None where it has one phase only.
    """

    id: str
    contract: str
    name: str
    state: str
    note: str
    done: int
    rounds: int
    answers: tuple[Answer, ...]
    phase: str | None = None


@dataclass(frozen=True, kw_only=True)
class OutletLook:
    """A member as the coordinator last heard of it.

    Attributes:
        name: the outlet.
        since: POSIX seconds of its admission.
        ends: POSIX seconds of its certificate's end.
        seen: POSIX seconds; None for never.
        version: of its PressPool; "" where it says nothing.
        skew: seconds that its clock is ahead of the coordinator's; None where it says nothing.
    """

    name: str
    since: float
    ends: float
    seen: float | None
    version: str
    skew: int | None


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Calls of one outlet that the coordinator refused for one reason.

    Attributes:
        run: id of the run; "" where the call named none.
        code: a word of `presspool.common.wire.envelope.CALL_REFUSALS`.
        count: how many.
        last: POSIX seconds of the newest.
    """

    outlet: str
    run: str
    code: str
    count: int
    last: float


@dataclass(frozen=True, kw_only=True)
class PoolLook:
    """What a coordinator knows of its pool.

    Attributes:
        members: how many outlets are in each state of the list of members.
        certificates: the pool's own and its members'.
        refused: by outlet, run and code.
        failures: how often a run failed, those that went on later included; since this process
            began to look, so it never falls.
        forks: names of logs against which a proof of two histories is kept.
        fleet: the members.
    """

    name: str
    address: str
    members: Mapping[str, int]
    certificates: tuple[CertificateLook, ...]
    runs: tuple[PoolRun, ...]
    refused: tuple[Refused, ...]
    failures: int
    forks: tuple[str, ...] = ()
    fleet: tuple[OutletLook, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SourceFault:
    """A source that cannot be shown now.

    Attributes:
        source: its file's name.
        words: the error, for people.
        evidence: it was read and does not hold: damaged, rolled back, or of two histories.
    """

    source: str
    words: str
    evidence: bool


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One look.

    Attributes:
        evidence: ledgers and run folders.
        now: POSIX seconds of the look; only certificates are held against it.
        ledgers: by origin, for entries and proofs.
        cards: text of the privacy card that lies beside an adapter, by the adapter's sha256.
        certificates: of outlets' homes.
        forks: files with a proof that a log has two histories, found in outlets' homes.
        faults: sources that could not be read.
        pool: at a coordinator only.
        counts: of readers, with noise: those in outlets' homes that are bound in the ledger beside.
    """

    evidence: Evidence
    now: float
    ledgers: Mapping[str, Followed] = field(default_factory=dict)
    cards: Mapping[str, bytes] = field(default_factory=dict)
    certificates: tuple[CertificateLook, ...] = ()
    forks: tuple[str, ...] = ()
    faults: tuple[SourceFault, ...] = ()
    pool: PoolLook | None = None
    counts: tuple[CountsDocument, ...] = ()
