"""What the coordinator's consortium log says: each run's cohort, and the adapter after each round.

One entry for each whole round of each run; round 0 is the run's start. Entries are canonical JSON
(RFC 8785) and leaves of an RFC 6962 tree. An outlet trains round r + 1 only from the adapter that
the entry of round r names, so what all outlets see in the log is what all of them train from.

A Merkle tree alone does not stop its owner from appending two entries for one round and showing
each to somebody else. So every witness of this log reads all entries, and one that contradicts
another is no entry: `Rounds` is that rule.

Invariants:
    * `parse_entry(e.canonical()) == e`, and any other bytes that say the same are refused.
    * Rounds of one contract come in ascending order, hence each at most once.

Example:
    >>> start = Entry(run="spring", contract="sha256:" + "c" * 64, round=0,
    ...               outlets=("east-mail", "north-post"), adapter="sha256:" + "a" * 64)
    >>> parse_entry(start.canonical()) == start
    True
    >>> rounds = Rounds()
    >>> rounds.take(start)
    >>> rounds.take(start)
    Traceback (most recent call last):
    ...
    presspool.common.base.errors.EvidenceError: entry 1 of the consortium log: a round twice, or...
      expected a round after 0 of sha256:ccc...
      got      round 0
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from presspool.common.base.errors import EvidenceError
from presspool.common.base.validation import CanonicalDocument
from presspool.common.contract.contract_schema import Name, Sha256

FORMAT: Final = "presspool-consortium/1"
LONGEST_ENTRY = 1 << 17  # bytes; a thousand outlets need 66 kB
MOST_OUTLETS = 1000


def _sorted_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if list(names) != sorted(set(names)):
        raise ValueError("expected each outlet once, in sorted order")
    return names


class Entry(CanonicalDocument):
    """One entry; its bytes are a leaf of the tree.

    Attributes:
        run: its id at the coordinator.
        contract: digest of its contract, which names the cohort's data, plan and rounds.
        round: the whole round that is over; 0 for the run's start.
        adapter: digest of the adapter after it, from which the next round starts.
        outlets: whose updates were averaged; for round 0 the whole cohort.
        keys: for round 0 of a run whose outlets mask what they send: digest of the keys by which
            they know each other (`presspool.common.secagg`); other entries have no such key.
    """

    format: Literal["presspool-consortium/1"] = FORMAT
    run: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\z")]
    contract: Sha256
    round: Annotated[int, Field(ge=0, le=10_000)]
    adapter: Sha256
    outlets: Annotated[
        tuple[Name, ...], Field(max_length=MOST_OUTLETS), AfterValidator(_sorted_once)
    ]
    keys: Annotated[Sha256 | None, Field(exclude_if=lambda keys: keys is None)] = None


def parse_entry(data: bytes) -> Entry:
    """Read an entry; raises `EvidenceError` for none in its one spelling."""
    return Entry.parse(data, what="not an entry of a consortium log", most=LONGEST_ENTRY)


class Rounds:
    """Which rounds the entries so far have told of.

    Attributes:
        size: entries so far.
    """

    def __init__(self) -> None:
        self.size = 0
        self._last: dict[str, int] = {}

    def last(self, contract: str) -> int:
        """The newest round of a contract; -1 for none."""
        return self._last.get(contract, -1)

    def check(self, entry: Entry) -> None:
        """Return if this may be the next entry.

        Raises:
            EvidenceError: its round was told of before, or a later one was.
        """
        last = self.last(entry.contract)
        if entry.round <= last:
            raise EvidenceError(
                "a round twice, or out of order",
                where=f"entry {self.size} of the consortium log",
                entry=self.size,
                expected=f"a round after {last} of {entry.contract}",
                got=f"round {entry.round}",
            )

    def take(self, entry: Entry) -> None:
        """Add the next entry; raises as `check` does, and is unchanged then."""
        self.check(entry)
        self._last[entry.contract] = entry.round
        self.size += 1
