"""What every form of an export says of itself: what it holds, how it is written and read back.

Invariants:
    * `read` goes through the library that the form is for, never through what wrote it.
    * A task or a model that a form cannot hold is refused by `check`, before anything is written.

Example: `Merged().write(placed, folder)`; `Merged().read(contract, folder).outputs(batch)`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from presspool.common.base.errors import InputError
from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import task_of

if TYPE_CHECKING:
    from torch import Tensor

    from presspool.common.released.exports.placed import Placed


class Says(Protocol):
    """What was read back, at work."""

    def outputs(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The head's outputs of a batch that `Task.encode` made."""

    def spelt(self, outputs: Tensor) -> Tensor:
        """Outputs as numbers that say an answer."""


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far an export may be off.

    Attributes:
        outputs: root mean square of the outputs' differences, as a share of the outputs' own; None
            if only answers are held.
        same: least share of texts, of writers tokens, with the same answer.
        score: how much the task's first measure may get worse where answers are known, in its unit.
    """

    outputs: float | None
    same: float
    score: float


EXACT = Tolerance(outputs=1e-4, same=0.995, score=0.005)
"""For forms in which nothing but the order of additions is another."""
HALF = Tolerance(outputs=0.02, same=0.98, score=0.005)
"""For weights of 16 bits."""
EIGHT = Tolerance(outputs=None, same=0.95, score=0.005)
"""For weights and activations of 8 bits."""


class ExportFormat(ABC):
    """One form.

    Attributes:
        name: as it is asked for.
        reads: who reads it and how, for people.
        tolerance: how far it may be off.
        folds: whether what is written is the base with the adapter folded into it.
        heads: where a trained head is; None where it is in the file itself.
    """

    name: ClassVar[str]
    reads: ClassVar[str]
    tolerance: ClassVar[Tolerance] = EXACT
    folds: ClassVar[bool] = True
    heads: ClassVar[str | None] = None

    @abstractmethod
    def check(self, contract: Contract) -> None:
        """Return if this form can hold what a contract makes.

        Raises:
            InputError: it cannot, or its library is not here.
        """

    @abstractmethod
    def write(self, placed: Placed, folder: Path) -> None:
        """Write it into an empty folder; `placed` is used up."""

    @abstractmethod
    def read(self, contract: Contract, folder: Path) -> Says:
        """What the library reads."""

    def prepared(self, placed: Placed) -> Placed:
        """The model as it is written; raises as `Placed.folded`."""
        return placed.folded() if self.folds else placed


def refused(form: str, what: str, *, got: object, advice: str) -> InputError:
    """A form that cannot hold something."""
    return InputError(what, where=f"--format {form}", got=got, advice=advice)


def require_whole_base(form: str, contract: Contract) -> None:
    """Refuse a task that uses one half of an encoder-decoder: there is no name for the half."""
    from presspool.common.models.models import is_paired

    if is_paired(contract.model) and task_of(contract).groups != ("adapter",):
        raise refused(
            form,
            "half of a base model with an encoder and a decoder cannot be named",
            got=contract.model.id,
            advice="--format onnx holds it",
        )


def save_tokenizer(contract: Contract, folder: Path) -> None:
    """The pinned tokenizer, with its padding token."""
    from presspool.common.models.models import tokenizer

    kept: Any = tokenizer(contract.model)
    kept.save_pretrained(folder)
