"""What a ledger must be before a run is reserved in it: of the right kind, with the policy's caps.

Invariants:
    * Runs whose noise can be drawn again and real ones never share a ledger: a trial's first run
      marks its ledger as non-private, and a ledger that ever paid for a real run takes none.
    * Every change is an entry.

Example: `keep_apart(ledger, reproducible=False)`, then `follow_policy(ledger, policy)`.
"""

from __future__ import annotations

from presspool.client.consent.policy import Policy
from presspool.common.accounting.filter import Caps
from presspool.common.base.errors import InputError, LedgerError
from presspool.common.ledger.store import Ledger


def keep_apart(ledger: Ledger, *, reproducible: bool) -> None:
    """Mark a trial's new ledger, or see that this one is for noise of this kind.

    A run whose noise can be drawn again is `dp_accounting`'s `NonPrivateDpEvent`, which no cap can
    hold; so it is a mark on a ledger as a whole, and no charge that would fit or not.

    Args:
        ledger: an open one.
        reproducible: the outlet's noise can be drawn again.

    Raises:
        InputError: it is for noise of the other kind.
    """
    book = ledger.refresh()
    if reproducible and book.non_private is None and not book.began:
        ledger.protect_nobody()
    elif reproducible != (book.non_private is not None):
        raise InputError(
            "a ledger for real runs takes none whose noise can be drawn again"
            if reproducible
            else "a non-private ledger takes no real run",
            where="outlet.toml deterministic",
            expected="no such line" if reproducible else "the line that this ledger began with",
            advice="a trial needs a home of its own, with made data",
        )


def follow_policy(ledger: Ledger, policy: Policy) -> None:
    """Let the ledger's cap on a period be the policy's.

    Raises:
        InputError: the ledger has no room for such a cap.
    """
    caps, wanted = ledger.refresh().caps, policy.max_epsilon_per_period
    if caps.period == wanted:
        return
    try:
        ledger.change_policy(
            Caps(epsilon_max=caps.epsilon_max, period=wanted, dataset=caps.dataset)
        )
    except LedgerError as error:
        raise InputError(
            "the ledger has no such cap",
            where="policy.toml max_epsilon_per_period",
            expected=error.expected,
            got=wanted,
            advice=error.advice,
        ) from None
