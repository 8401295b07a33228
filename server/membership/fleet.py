"""When each outlet was last heard of, and what it said of itself then.

An outlet says two things when it asks for work: the version of its PressPool and what its clock
shows. Neither hangs on a reader. How much room its disk has is not asked for: what lies there are
readers' data, so that is shown to the outlet's own operator alone (`presspool outlet doctor`).

Invariants:
    * Nothing is decided by what is kept here; it is shown.
    * What does not look like a version or a time is not kept, and at most one row is written for
      each outlet in a minute.

Example: `fleet.seen("daily-bugle", version="0.2.0", clock=1.8e9)`; `sightings(database)`.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import String, select
from sqlalchemy.orm import Mapped, mapped_column

from presspool.server.database import Base, Database

_AGAIN_SECONDS = 60.0
_MOST_SKEW = 10**9  # seconds; thirty years
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+]{0,19}")


class SightingRow(Base):
    """An outlet's last call."""

    __tablename__ = "sightings"

    outlet: Mapped[str] = mapped_column(String(63), primary_key=True)
    at: Mapped[float]
    version: Mapped[str] = mapped_column(String(20))
    skew: Mapped[int | None]


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """An outlet when it was last heard of.

    Attributes:
        at: POSIX seconds.
        version: of its PressPool; "" where it says nothing.
        skew: whole seconds that its clock is ahead of ours; None where it says nothing.
    """

    at: float
    version: str
    skew: int | None


class Fleet:
    """Writes down who calls; any number of threads may use it.

    Args:
        database: the coordinator's.
        clock: POSIX seconds.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock
        self._written: dict[str, float] = {}

    def seen(self, outlet: str, *, version: str, clock: float) -> None:
        """A member asked for work and said this of itself ("" and 0 for nothing).

        Raises:
            StorageError: the database refuses.
        """
        now = self._clock()
        if now - self._written.get(outlet, -math.inf) < _AGAIN_SECONDS:
            return
        self._written[outlet] = now
        told = math.isfinite(clock) and clock > 0
        skew = max(-_MOST_SKEW, min(_MOST_SKEW, round(clock - now))) if told else None
        said = version if _VERSION.fullmatch(version) else ""
        with self._database.writing() as session:
            session.merge(SightingRow(outlet=outlet, at=now, version=said, skew=skew))


def sightings(database: Database) -> Mapping[str, Sighting]:
    """Each outlet that was ever heard of."""
    with database.reading() as session:
        rows = session.scalars(select(SightingRow)).all()
    return {row.outlet: Sighting(at=row.at, version=row.version, skew=row.skew) for row in rows}
