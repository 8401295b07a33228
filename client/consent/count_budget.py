"""What counting readers costs them: reserved before a record is read, bound before it is shown.

A query's answer is paid for as a run is: from the same lifetime filter, whose Rényi costs at one
order add up over training and counts alike.

Invariants:
    * A name is reserved once in the ledger's lifetime, and its answer is one sequence of bytes.
    * What a kill left reserved and unbound is gone on with, under the reserved event; it is paid
      for, and nothing of it was ever shown.
    * Nothing here sees readers' data.

Example: ``held = reserve_counts(ledger, policy=…, run=query.run, event=…, …)``, then
``bind_counts(ledger, held, data)``.
"""

from __future__ import annotations

import hashlib

from presspool.client.consent.budget import only_dataset
from presspool.client.consent.ledger_fit import follow_policy, keep_apart
from presspool.client.consent.policy import CountRules, Policy, period_of
from presspool.common.accounting import events
from presspool.common.base.errors import InputError
from presspool.common.ledger import entries
from presspool.common.ledger.ledger_state import Reservation
from presspool.common.ledger.log import utc_today
from presspool.common.ledger.store import Ledger
from presspool.common.transparency.checkpoints import Checkpoint

ONLY_ROUND = 1  # of a count's release


def require_allowed(rules: CountRules, share: float) -> None:
    """Raise `InputError` where the policy does not let readers be counted, or not for so much."""
    if not rules.allowed:
        raise InputError(
            "this outlet's policy lets nobody count its readers",
            where="policy.toml [counts] allowed",
            expected=True,
            got=False,
            advice="the outlet's own people decide it: set it, or do without",
        )
    if share > rules.max_share:
        raise InputError(
            "a count that may cost more than the policy allows",
            where="policy.toml [counts] max_share",
            expected=f"at most {rules.max_share:g} of the lifetime budget",
            got=f"{share:g}",
            advice="ask for a smaller share: the counts get more noise",
        )


def answered(ledger: Ledger, run: str) -> str:
    """The digest of the bytes that a query's answer is bound to; "" where there is none yet."""
    first, reservation = ledger.refresh().reserved(run) or (0, "")
    for body in ledger.bodies(first, ledger.book.size):
        entry = entries.parse_entry(body)
        if isinstance(entry, entries.ReleaseIntent) and entry.reservation == reservation:
            return entry.digest
    return ""


def reserve_counts(
    ledger: Ledger,
    *,
    policy: Policy,
    run: str,
    event: events.SelfComposed,
    dataset: str | None,
    head: Checkpoint | None,
) -> Reservation:
    """Pay for a query's answer, or find what is paid for.

    Args:
        ledger: the outlet's.
        policy: likewise.
        run: digest of the query's name.
        event: of the query.
        dataset: random id of the data; None for the ledger's only data set.
        head: the ledger's highest head that is known from elsewhere, if any is.

    Raises:
        BudgetError: it does not fit; the refusal is written down.
        InputError: a ledger of single records, or of noise that can be drawn again; a name that
            was reserved for other periods, or is over.
        RollbackError: an older copy of the ledger.
        StorageError: the disk refuses.
    """
    if head is not None:
        ledger.compare(head)
    keep_apart(ledger, reproducible=False)
    book = ledger.refresh()
    if book.opened.unit != "reader":
        raise InputError(
            "readers are counted, and this ledger protects single records",
            where="the ledger's unit",
            expected="reader",
            got=book.opened.unit,
        )
    known = book.reserved(run)
    if known is None:
        follow_policy(ledger, policy)
        entry = ledger.reserve(
            run=run,
            unit="reader",
            period=period_of(utc_today(), policy.period),
            datasets=[dataset or only_dataset(ledger)],
            event=event,
            head=head,
            once=True,
            purpose="reader-counts",
        )
        return ledger.book.dangling[entry.reservation]
    held = book.dangling.get(known[1])
    if held is None or held.steps != event.count or held.entry.purpose != "reader-counts":
        raise InputError(
            "this name was asked before",
            where="name",
            expected="a new name, or the very query that was interrupted",
            got="one that is over" if held is None else f"one of {held.steps} periods",
            advice="a name is answered once: each answer costs readers again",
        )
    return held


def finish_counts(ledger: Ledger, run: str) -> None:
    """End a query whose answer was bound just before a kill."""
    known = ledger.refresh().reserved(run)
    if known is not None and known[1] in ledger.book.dangling:
        ledger.settle(known[1])


def bind_counts(ledger: Ledger, held: Reservation, data: bytes) -> str:
    """Bind the answer to these bytes, and end the query; returns their digest.

    Raises:
        LedgerError: it is bound to other bytes.
        StorageError: the disk refuses.
    """
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    reservation = held.entry.reservation
    ledger.intend(reservation, round_number=ONLY_ROUND, steps=held.steps, digest=digest)
    ledger.settle(reservation)
    return digest
