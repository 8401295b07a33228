"""`[simulation.clock]`: a day of a consortium on a clock of its own, which no digest covers.

::

    [simulation.clock]
    deadline = 1800           # seconds of a round; who has not answered by then is missing
    step_seconds = 20.0       # of the median outlet
    speeds = "lognormal:1.0"  # how outlets differ; or "pareto:1.5", "equal"
    link_megabytes = 0.5      # a second, of the median outlet, down and up
    links = "lognormal:1.0"
    failures = 0.1            # share of tasks that never come back
    pattern = "nights"        # when outlets are there; or "offices", "always", or a trace:
    # trace = "there.csv"     # columns outlet, from, until: hours

Invariant: everything is drawn from `seed`, by the outlets' public names; readers play no part.

Example:
    >>> ClockTable(deadline=600.0).speeds
    'equal'
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from presspool.common.base.errors import DataError

_SHAPES = {"lognormal": (0.01, 5.0), "pareto": (0.5, 50.0)}


def _shaped(law: str) -> str:
    kind, _, number = law.partition(":")
    if kind == "equal":
        return law
    low, high = _SHAPES[kind]
    try:
        if low <= float(number) <= high:
            return law
    except ValueError:  # no number
        pass
    raise ValueError(f"{kind}:NUMBER with a number from {low:g} to {high:g}")


Law = Annotated[str, Field(pattern=r"^(equal|lognormal:.+|pareto:.+)$"), AfterValidator(_shaped)]
Pattern = Literal["always", "nights", "offices"]
Seconds = Annotated[float, Field(strict=True, gt=0, le=1e9)]


class ClockTable(BaseModel):
    """How fast a simulation's outlets are, and when they are there.

    Attributes:
        deadline: seconds of a round.
        seed: public; of all that is drawn.
        step_seconds: that the median outlet needs for a step.
        speeds: law by which outlets are slower or faster than that.
        link_megabytes: a second, of the median outlet, each way.
        links: law of the links.
        failures: share of tasks that never come back.
        pattern: of the hours in which outlets are there.
        trace: a CSV file of those hours instead: `outlet`, `from`, `until`, the hours from the
            start; it begins anew after its last whole day.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    deadline: Seconds
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 0
    step_seconds: Seconds = 10.0
    speeds: Law = "equal"
    link_megabytes: Annotated[float, Field(strict=True, gt=0, le=1e6)] = 1.0
    links: Law = "equal"
    failures: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.0
    pattern: Pattern = "always"
    trace: Path | None = None

    @model_validator(mode="after")
    def _one_source_of_hours(self) -> ClockTable:
        if self.trace is not None and self.pattern != "always":
            raise ValueError("hours from a trace or from a pattern: give one of the two keys")
        return self

    @property
    def digest(self) -> str:
        """Of all that it says, with the trace's content: a run goes by one clock to its end.

        Raises:
            DataError: there is no such trace.
        """
        said = self.model_dump_json(exclude={"trace"}).encode()
        try:
            traced = b"" if self.trace is None else self.trace.read_bytes()
        except OSError as error:
            raise DataError("no trace", where=str(self.trace), got=error.strerror) from None
        return "sha256:" + hashlib.sha256(said + b"\0" + traced).hexdigest()
