"""One thing that the gate looked at: what was found, and what to do where it is not enough.

Invariants:
    * A check that could not be made has not passed: it is `failed` with the reason, or
      `not_applicable` where the adapter is of a kind that it says nothing about.
    * A failed finding says what to do.

Example: `Finding(check="floors", what="accuracy", verdict="passed", said="0.87, at least 0.8")`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from presspool.common.base.validation import StrictDocument

Verdict = Literal["passed", "failed", "not_applicable"]
Figure = float | int | str | None


class Finding(StrictDocument):
    """What one check says of one thing.

    Attributes:
        check: which check, as the policy's table is called: "floors".
        what: of what it speaks: a metric, an outlet, a kind of damage.
        verdict: whether that is enough for a release.
        said: one sentence with the numbers.
        advice: what to do; of a failure always.
        figures: the numbers behind the sentence, by name.
        rows: lines of a table that the page shows below it, all with the same keys; no reader's.
    """

    check: Annotated[str, Field(pattern=r"^[a-z_]{1,40}\z")]
    what: Annotated[str, AfterValidator(lambda text: text[:200])]
    verdict: Verdict
    said: Annotated[str, AfterValidator(lambda text: text[:2000])]
    advice: Annotated[str, Field(max_length=1000)] = ""
    figures: dict[str, Figure] = Field(default_factory=dict)
    rows: tuple[dict[str, Figure], ...] = ()

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.verdict == "failed") != bool(self.advice):
            raise ValueError("advice where it failed, and only there")
        return self


def finding(
    check: str,
    what: str,
    said: str,
    advice: str = "",
    figures: Mapping[str, Figure] = {},
    *,
    rows: tuple[dict[str, Figure], ...] = (),
    judged: bool = True,
) -> Finding:
    """Failed where there is something to do; not applicable where nothing had to be `judged`.

    A figure that is not finite becomes None, for JSON has none of them.
    """
    known = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
    }
    verdict: Verdict = "failed" if advice else "passed" if judged else "not_applicable"
    return Finding(
        check=check, what=what, verdict=verdict, said=said, advice=advice, figures=known, rows=rows
    )
