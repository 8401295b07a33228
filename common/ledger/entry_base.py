"""What every ledger entry has, and the fields that entries of several modules share.

Example: `class Settle(LedgerEntry): kind: Literal["settle"] = "settle"`.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from presspool.common.accounting import events
from presspool.common.base.canonical_json import canonical_v1


def _real_day(text: str) -> str:
    date.fromisoformat(text)
    return text


Day = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\z"), AfterValidator(_real_day)]
Period = Annotated[str, Field(pattern=r"^[0-9]{4}(-(Q[1-4]|H[12]|0[1-9]|1[0-2]))?\z")]
Sha256 = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}\z")]
Purpose = Annotated[Literal["reader-counts"] | None, Field(exclude_if=lambda what: what is None)]
"""What is paid for, where it is no training; entries of runs have no such key."""
Charge = Annotated[int, Field(ge=0, le=events.LARGEST_CHARGE)]


class LedgerEntry(BaseModel):
    """What every entry has: its place in the log and the day (UTC) it was written."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    seq: Annotated[int, Field(ge=0, lt=2**53)]
    day: Day

    def canonical(self) -> bytes:
        """The entry's bytes: canonical JSON, version 1."""
        return canonical_v1(self.model_dump(mode="json"))


def rotation_message(origin: str, key: str) -> str:
    """What the old key signs when a new one takes over."""
    return f"presspool ledger key rotation v1\n{origin}\n{key}\n"
