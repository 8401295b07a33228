"""A round on a simulation's clock: when it was, and what became of its tasks. Public figures only.

Example:
    >>> VirtualRound(begun=0.0, ended=90.0, asked=3, answered=2, late=1, failed=0, away=0).asked
    3
"""

from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from presspool.common.runs.result_fields import CHECKED, Amount, Count


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class VirtualRound:
    """One round of a simulated day.

    Attributes:
        begun: seconds from the run's start to when its tasks were handed out.
        ended: seconds to when it was over.
        asked: tasks that came to an end in it, one way or another.
        answered: whose answer came in time.
        late: that were worked on, and whose answer counts no more.
        failed: that never came back.
        away: that nobody took up.
        tries: how often its outlets were asked, until enough had answered.

    Raises:
        pydantic.ValidationError: a field holds something else, or the tasks do not add up.
    """

    begun: Amount
    ended: Amount
    asked: Count
    answered: Count
    late: Count
    failed: Count
    away: Count
    tries: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _verify(self) -> Self:
        if self.ended < self.begun:
            raise ValueError("a round that ends after its begin")
        if self.answered + self.late + self.failed + self.away != self.asked:
            raise ValueError("as many answered, late, failed and away as were asked")
        return self
