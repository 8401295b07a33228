"""A round of a simulation's timetable, and what is said where one never comes to its end.

Example: `TimedRound(virtual=virtual, counted={"north-post": 3}, vain={})`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from presspool.common.base.errors import InputError
from presspool.common.runs.virtual_round import VirtualRound
from presspool.simulations.clock.presence import DAY

LONGEST = 30 * DAY  # that a round stays open


@dataclass(frozen=True, kw_only=True)
class TimedRound:
    """A round of the timetable.

    Attributes:
        virtual: when it is, and what its tasks come to.
        counted: outlet to the round whose task it answers, of each answer that is averaged.
        vain: the same, of each task of this round that is worked on though its answer will not
            count.
    """

    virtual: VirtualRound
    counted: Mapping[str, int]
    vain: Mapping[str, int]


def never(number: int, *, fewest: int, got: int) -> InputError:
    """The error of a round that would stay open for ever."""
    return InputError(
        f"round {number} never has enough answers",
        where="run.toml [simulation.clock]",
        expected=f"{fewest} in {LONGEST / DAY:g} days",
        got=got,
        advice="a longer deadline, faster outlets, fewer failures, or a smaller quorum",
    )
