"""Noised counts of an outlet's readers, as they are shown: the whole of what leaves.

Invariant: the bytes are RFC 8785's, so that their digest in the ledger can be taken again.

Example: ``CountsDocument.read(Path("counts/mood.json")).statement``.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Final, Literal

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, model_validator

from presspool.common.accounting import pooled_cost
from presspool.common.base.errors import DataError
from presspool.common.base.files import read_most
from presspool.common.base.validation import unread
from presspool.common.released.opinion_series import By, OpinionPeriod, Periods, of_counts

FORMAT: Final = "presspool-reader-counts/1"
LARGEST = 1 << 22  # bytes


class CountsDocument(BaseModel):
    """One answer.

    Attributes:
        origin: name of the outlet's ledger.
        name: of the query.
        labels: in the order of the columns of `counts`.
        first: the first day of the first period, with
        by: what a period is.
        counts: (periods, labels); readers, with noise.
        sigma: standard deviation of the noise on each count.
        entry: place of the reservation in the ledger.
        epsilon: ε of this answer alone, at
        delta: δ.
        claim: ε of everything ever released under the ledger, at the same δ; None for no claim.
        pooled_runs: runs of the ledger whose claim leans on other outlets.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["presspool-reader-counts/1"] = FORMAT
    origin: str
    name: str
    labels: tuple[str, ...]
    first: date
    by: By
    counts: Annotated[tuple[tuple[int, ...], ...], Field(min_length=1)]
    sigma: Annotated[float, Field(gt=0)]
    entry: Annotated[int, Field(ge=0)]
    epsilon: float
    delta: float
    claim: float | None
    pooled_runs: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _square(self) -> CountsDocument:
        if any(len(row) != len(self.labels) for row in self.counts):
            raise ValueError("counts: expected one for each label in every period")
        return self

    @property
    def periods(self) -> Periods:
        """Its periods."""
        return Periods(first=self.first, count=len(self.counts), by=self.by)

    @property
    def series(self) -> list[OpinionPeriod]:
        """The shares, and how far noise may have moved them."""
        return of_counts(self.counts, sigma=self.sigma, periods=self.periods)

    @property
    def statement(self) -> str:
        """What is promised to readers."""
        return (
            f"Readers of {self.origin}, each in one count of a period at most; discrete Gaussian "
            f"noise of standard deviation {self.sigma:.4g} on every count. This answer alone is "
            f"({self.epsilon:.3g}, {self.delta:g})-DP at reader level, add/remove, over all "
            f"{len(self.counts)} periods; it is paid for in entry {self.entry} of the ledger, "
            f"{self._of_the_ledger}."
        )

    @property
    def _of_the_ledger(self) -> str:
        if self.claim is None:
            return "of which nothing is claimed as a whole: entries of it are lost"
        return (
            "whose claim for everything that it ever releases, training included, is "
            f"({self.claim:g}, {self.delta:g})-DP{pooled_cost.assumption(self.pooled_runs)}"
        )

    def encode(self) -> bytes:
        """The bytes that are bound and shown."""
        return rfc8785.dumps(self.model_dump(mode="json"))

    @classmethod
    def read(cls, path: Path) -> CountsDocument:
        """Read an answer.

        Raises:
            DataError: something else.
        """
        try:
            return cls.model_validate_json(read_most(path, LARGEST))
        except (OSError, ValueError) as error:
            raise DataError(
                "not counts of readers",
                where=str(path),
                expected="the file that `presspool outlet count` writes",
                got=unread(error),
            ) from None
