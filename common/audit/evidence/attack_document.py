"""`attack.json`: as much of it as somebody needs who holds an adapter against an attack's bound.

`presspool audit attack` writes it, with all its figures; what is read here is the claim that was
attacked, the bounds of the two attacks, and whether each would have seen a leak.

Invariant: an attack whose control without noise did not fire says nothing, whatever bound it shows.

Example: `read_attack(path.read_bytes()).epsilon`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from presspool.common.base.errors import InputError
from presspool.common.base.validation import expected
from presspool.common.contract.contract_schema import Sha256

FORMAT: Final = "presspool-attack/1"
_Bound = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class AttackArm(_Read):
    """One of the attacks.

    Attributes:
        any_mechanism: (with `this_mechanism`) the two bounds on ε.
        fired: whether its control without noise shows that it would see a leak.
    """

    any_mechanism: _Bound
    this_mechanism: _Bound
    fired: bool

    @property
    def epsilon(self) -> float:
        """The larger of the bounds."""
        return max(self.any_mechanism, self.this_mechanism)


class AttackDocument(_Read):
    """The document.

    Attributes:
        contract: what was attacked.
        outlet: where.
        updates: by the released updates.
        adapter: by the final adapter alone.
        confidence: of both bounds together.
        reproducible: whether the noise could be drawn again.
    """

    format: Literal["presspool-attack/1"]
    contract: Sha256
    outlet: Annotated[str, Field(max_length=200)]
    updates: AttackArm
    adapter: AttackArm
    confidence: Annotated[float, Field(gt=0, lt=1)]
    reproducible: bool

    @property
    def epsilon(self) -> float | None:
        """The largest bound of the attacks whose control fired; None where none did."""
        return max((one.epsilon for one in self.arms.values() if one.fired), default=None)

    @property
    def arms(self) -> dict[str, AttackArm]:
        """Both, by what they look at."""
        return {"released updates": self.updates, "final adapter": self.adapter}


def read_attack(data: bytes) -> AttackDocument:
    """Read an attack's document.

    Raises:
        InputError: it is none; names the first field that is wrong.
    """
    try:
        return AttackDocument.model_validate_json(data)
    except (ValidationError, RecursionError) as error:
        first = error.errors(include_url=False)[0] if isinstance(error, ValidationError) else None
        raise InputError(
            "not an attack's result",
            where=f"attack.json {'.'.join(map(str, first['loc']))}".strip() if first else "",
            expected=expected(first) if first else FORMAT,
            advice="presspool audit attack writes it",
        ) from None
