"""When an answer leaves: at a beat of public numbers, not when training happens to end.

How long training takes depends on how many readers were drawn and how long their texts are. So an
answer leaves at a whole multiple of the policy's `answer_seconds` after its task arrived, whatever
it waited for: the coordinator learns which multiple, and nothing finer.

Invariants:
    * An answer that readers' data took part in never leaves between two beats, also when it is sent
      again after a lost link or a restart.
    * Nothing but arrival, clock and policy decides when; of refusals that no data has part in, and
      of words of a phase that trains nobody, there is nothing to hide, and they leave at once.

Example:
    >>> [seconds_to_beat(arrived=100.0, now=now, beat=60.0) for now in (103.0, 158.5, 160.0)]
    [57.0, 1.5, 60.0]
"""

from __future__ import annotations

from presspool.common.ledger.entries import GUARD_REASONS
from presspool.common.wire.update import FAILURES

# Said before the first record is read, of contract, policy, ledger and adapter alone.
_BEFORE_DATA = frozenset({"contract-invalid", "over-budget", *GUARD_REASONS})


def seconds_to_beat(*, arrived: float, now: float, beat: float) -> float:
    """How long an answer waits: up to the next whole multiple of `beat` after its task arrived.

    Args:
        arrived: when the task did, in seconds.
        now: the time, on the same clock; one that was set back delays by at most one beat.
        beat: seconds between two beats; 0 for none.
    """
    return beat - (now - arrived) % beat if beat > 0 else 0.0


def decided_before_data(failure: int | None) -> bool:
    """Whether a failure's number is of a refusal in which no reader's record had part."""
    return failure is not None and FAILURES[failure] in _BEFORE_DATA
