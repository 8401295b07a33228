"""What a ledger entry can say: a closed list of kinds, each a frozen record in canonical JSON.

An entry's bytes are a leaf of the ledger's Merkle tree, so they must never be spelled two ways:
sorted keys, no white space, UTF-8, shortest round-trip numbers. Entries hold floats (δ, σ, caps),
which RFC 8785 spells otherwise, so they keep our first form (`canonical_v1`) until their own schema
moves: what old logs hold verifies for ever.

Invariants:
    * `parse_entry(e.canonical()) == e`, and any other bytes that say the same are refused.
    * No free text: every string is a random id, a digest, a key, a date or a word of a fixed list.
      Reader ids, hashes of readers' data and unnoised values have no field to go in; a commitment
      to data has a secret nonce (`frozen_data`).
    * Days, not seconds: how long a run took may depend on readers' data, and is not ours to tell.

Example:
    >>> entry = Settle(seq=3, day="2026-01-05", reservation="0" * 32)
    >>> entry.canonical()[:36]
    b'{"day":"2026-01-05","kind":"settle",'
    >>> parse_entry(entry.canonical()) == entry
    True
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from presspool.common.accounting import events
from presspool.common.accounting.filter import PORTFOLIO, Caps
from presspool.common.base.errors import EvidenceError, LedgerError
from presspool.common.base.validation import expected
from presspool.common.contract.privacy_plan import AccountantName
from presspool.common.ledger.entry_base import Charge, Period, Purpose, Sha256
from presspool.common.ledger.entry_base import LedgerEntry as _Entry
from presspool.common.ledger.frozen_data import DataFrozen
from presspool.common.ledger.restored_entries import Lost, Restored

LONGEST_ENTRY = 1 << 14  # bytes; 64 phases need about 10 kB
MOST_DATASETS = 64
BudgetReason = Literal["filter", "period", "dataset", "period-closed", "unit"]
"""Why the budget refuses a run."""
GuardReason = Literal[
    "policy-task",
    "policy-base-model",
    "policy-rounds",
    "policy-steps",
    "policy-sampling-rate",
    "policy-noise",
    "policy-delta",
    "policy-epsilon",
    "policy-targets",
    "policy-cohort",
    "round-not-agreed",
    "event-not-priceable",
    "adapter-names",
    "adapter-shapes",
    "adapter-not-finite",
    "adapter-norm",
    "witnesses-too-few",
    "split-view",
    "policy-trust",
    "policy-adapter-scale",
    "policy-record-size",
    "adapter-branch",
    "declined",
    "policy-colluders",
    "policy-dropouts",
    "policy-peers",
    "policy-alone",
    "sum-refused",
]
"""Why the outlet's own rules refuse a run or a round of it."""
GUARD_REASONS: tuple[GuardReason, ...] = get_args(GuardReason)
Reason = BudgetReason | GuardReason
REASONS: tuple[Reason, ...] = (*get_args(BudgetReason), *GUARD_REASONS)
"""Why a run was refused; none of them depends on readers' data."""


def _known_order(order: int) -> int:
    if order not in PORTFOLIO:
        raise ValueError(f"expected one of {', '.join(map(str, PORTFOLIO))}")
    return order


def _sorted_once(ids: tuple[str, ...]) -> tuple[str, ...]:
    if list(ids) != sorted(set(ids)):
        raise ValueError("expected each id once, in sorted order")
    return ids


RandomId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}\z")]
Origin = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9./-]{0,199}\z")]
Key = Annotated[
    str, Field(pattern=r"^[a-z0-9][a-z0-9./-]{0,199}\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44}\z")
]
SignatureText = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{86}==\z")]
Version = Annotated[str, Field(pattern=r"^[0-9][0-9A-Za-z.]{0,19}\z")]
Cap = Annotated[float, Field(gt=0, le=1e6)]
Delta = Annotated[float, Field(gt=0, lt=1)]
Steps = Annotated[int, Field(ge=0, le=events.MOST_STEPS * events.MOST_PHASES)]
Round = Annotated[int, Field(ge=0, le=1_000_000)]


class _Capped(_Entry):
    """Caps, each an ε at the ledger's δ and order; None for no cap of its own."""

    epsilon_max: Cap
    period_epsilon: Cap | None = None
    dataset_epsilon: Cap | None = None

    @property
    def caps(self) -> Caps:
        """The caps as the filter knows them; raises `LedgerError` where they contradict."""
        return Caps(
            epsilon_max=self.epsilon_max, period=self.period_epsilon, dataset=self.dataset_epsilon
        )


K = TypeVar("K", bound=_Entry)


class Opened(_Capped):
    """The ledger was created; the first entry, and the only one of its kind.

    Attributes:
        origin: the log's name in its checkpoints.
        unit: whose records are added or removed together.
        order: α of the filter, for the ledger's lifetime.
        delta: δ, for the ledger's lifetime.
        key: verifier key that signs checkpoints.
    """

    kind: Literal["opened"] = "opened"
    origin: Origin
    unit: Literal["reader", "record"]
    order: Annotated[int, AfterValidator(_known_order)]
    delta: Delta
    key: Key


class NonPrivate(_Entry):
    """Before any run, for ever: noise can be drawn again, no cap holds that, nothing is claimed."""

    kind: Literal["non-private"] = "non-private"
    reason: Literal["reproducible-noise"] = "reproducible-noise"


class Stated(BaseModel):
    """What a run's contract says it costs, by an accountant that is not the filter of one order.

    Attributes:
        accountant: loss distributions; or, of pooled sums, Rényi costs at the best whole order.
        epsilon: ε of the whole event at `delta`.
        version: of the accountant.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    accountant: AccountantName = "dp_accounting PLD"
    delta: Delta
    epsilon: Annotated[float, Field(ge=0, le=1e6)]
    version: Version


class Reserve(_Entry):
    """A run's whole cost, from the round in which the outlet joins, is taken before any of it.

    Attributes:
        reservation: random id of this reservation.
        run: digest of the run contract.
        unit: the run's unit; must be the ledger's.
        period: the period whose sub-cap it counts under.
        datasets: random ids of the data sets it trains on.
        event: what the run's code will do, composed.
        charge: its cost at the ledger's order, in `events.UNIT`s.
        stated: the contract's own ε, if it was computed.
        alone: likewise, of pooled sums if everybody else works together; others have no such key.
        purpose: what it is for, where it is no run of training.
    """

    kind: Literal["reserve"] = "reserve"
    reservation: RandomId
    run: Sha256
    unit: Literal["reader", "record"]
    period: Period
    datasets: Annotated[
        tuple[RandomId, ...],
        Field(min_length=1, max_length=MOST_DATASETS),
        AfterValidator(_sorted_once),
    ]
    event: events.Event
    charge: Charge
    stated: Stated | None = None
    alone: Annotated[Charge | None, Field(exclude_if=lambda charge: charge is None)] = None
    purpose: Purpose = None


class ReleaseIntent(_Entry):
    """These bytes, and no others, are about to be sent for this round.

    Attributes:
        steps: of the reserved steps, those executed so far (public: of contract and first round).
        digest: of the exact bytes, noised already.
    """

    kind: Literal["release-intent"] = "release-intent"
    reservation: RandomId
    round: Round
    steps: Steps
    digest: Sha256


class GiveBack(_Entry):
    """Steps that were never executed, and never will be.

    Attributes:
        kept: the steps that stay charged, counted from the first.
        charge: what they cost; the rest is free again.
    """

    kind: Literal["give-back"] = "give-back"
    reservation: RandomId
    kept: Steps
    charge: Charge


class Settle(_Entry):
    """The run is over; what it is charged with stays for ever."""

    kind: Literal["settle"] = "settle"
    reservation: RandomId


class PolicyChanged(_Capped):
    """New caps from here on; claims keep the highest that were ever in force."""

    kind: Literal["policy-changed"] = "policy-changed"


class AdapterReceived(_Entry):
    """A round's aggregated adapter came from the coordinator; `digest` names its bytes."""

    kind: Literal["adapter-received"] = "adapter-received"
    run: Sha256
    round: Round
    digest: Sha256


class Refusal(_Entry):
    """A run, or one round of it, was refused; nothing was computed.

    Attributes:
        charge: what it would have cost; 0 where the outlet's own rules refused before a price.
        free: what the cap that refused had left; 0 where no cap was asked.
    """

    kind: Literal["refusal"] = "refusal"
    run: Sha256
    reason: Reason
    charge: Charge
    free: Charge


class KeyRotated(_Entry):
    """Checkpoints that include this entry are signed by another key.

    Attributes:
        key: the new verifier key.
        signature: by the old key over `entry_base.rotation_message`.
    """

    kind: Literal["key-rotated"] = "key-rotated"
    key: Key
    signature: SignatureText


class PeriodClosed(_Entry):
    """No run can be charged to this period any more; `charge` is its total."""

    kind: Literal["period-closed"] = "period-closed"
    period: Period
    charge: Charge


Entry = (
    Opened
    | Reserve
    | ReleaseIntent
    | GiveBack
    | Settle
    | PolicyChanged
    | AdapterReceived
    | Refusal
    | KeyRotated
    | NonPrivate
    | PeriodClosed
    | Lost
    | Restored
    | DataFrozen
)
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])


def parse_entry(data: bytes) -> Entry:
    """Read an entry's bytes.

    Raises:
        EvidenceError: not an entry, or not in its canonical spelling.
    """
    if len(data) > LONGEST_ENTRY:
        raise EvidenceError("ledger entry", expected=f"at most {LONGEST_ENTRY} bytes")
    try:
        entry = _ENTRY.validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "union_tag_invalid":
            raise EvidenceError(
                "a ledger entry of a kind that this PressPool does not know",
                expected=f"one of {first['ctx']['expected_tags']}",
                got=repr(first["ctx"]["tag"][:40]),
                advice="a newer PressPool wrote it: install that one, and type it again",
            ) from None
        place = ".".join(map(str, first["loc"]))
        raise EvidenceError("ledger entry", where=place, expected=expected(first)) from None
    if entry.canonical() != data:
        raise EvidenceError("ledger entry", expected="canonical JSON: sorted keys, no white space")
    return entry


def new_id() -> str:
    """A random id for a reservation or a data set: 128 bits that say nothing."""
    return secrets.token_hex(16)


def build(kind: type[K], **parts: Any) -> K:
    """A new entry of this kind, with one error of ours for what it cannot hold.

    Raises:
        LedgerError: names the field and what is wrong with it.
    """
    try:
        return kind(**parts)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, (kind.__name__, *first["loc"])))
        raise LedgerError("ledger entry", where=place, expected=expected(first)) from None
