"""What every PEFT method says of itself: what trains, and which tensors are public constants.

A method is given the base model with its untrained head and makes of it what outlets train. All it
needs is one file and one line in `presspool.common.contract.doors`; nobody else knows it by name.

What is not a method's to say:

* Whether its gradients are exact. The engine looks at what trains, and takes it only where it has
  an exact per-reader formula (`presspool.client.engine`); anything else is refused by name.
* What is the head: the task's own module, wherever it lies (`adapters.group_of`). All else that
  trains is the method's, and counts as the group "adapter".
* How large what trains may be: outlets' policies cap that, on the branches that a method names.
* How an adapter is saved: PEFT's models in PEFT's format, other modules as the state that trains.

Invariants:
    * A method's file imports neither torch nor peft before `attach`: auditors read contracts too.
    * What trains starts at public values, and no random generator is drawn from.
    * What trains in a round depends on the round's number alone.

Example:
    >>> from presspool.common.contract.doors import METHODS
    >>> METHODS["head"].groups
    ('head',)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from presspool.common.base.errors import ContractError, InputError
from presspool.common.contract.contract_schema import GROUPS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from presspool.common.contract.contract import Contract
    from presspool.common.models.adapters import State


@dataclass(frozen=True, kw_only=True)
class Branch:
    """What trains beside one frozen linear layer, whose output becomes W x + s · B A x.

    Attributes:
        layer: its name in the model.
        frozen: W or its transpose, which has the same norm.
        up: B, (outputs, rank).
        down: A, (rank, inputs).
        scale: s.
    """

    layer: str
    frozen: Tensor
    up: Tensor
    down: Tensor
    scale: float


class Method(ABC):
    """One way to train a model.

    Attributes:
        groups: parameter groups in which something trains.
        library: whose format a saved adapter has, for model cards.
    """

    groups: ClassVar[tuple[str, ...]] = GROUPS
    library: ClassVar[str] = "presspool"

    @abstractmethod
    def attach(self, model: nn.Module, contract: Contract) -> nn.Module:
        """The model in which exactly what trains needs gradients, everything at public values.

        Args:
            model: the base with its head (`presspool.common.models.models.base`), which is used up.
            contract: the run's.

        Returns:
            A `PeftModel`, or the module itself.

        Raises:
            ContractError: the contract does not fit the base model.
        """

    @abstractmethod
    def branches(self, model: nn.Module, state: State) -> Iterator[Branch]:
        """Every product that an adapter puts beside a frozen layer; none if it puts none.

        Only these are held against their layers (`presspool.common.models.spectral`); a tensor that
        is in none of them is held by the norm of the whole adapter alone.

        Args:
            model: as `attach` made it; its own adapter plays no part.
            state: an adapter that fits it, which is not loaded.
        """

    def folded(self, model: nn.Module) -> nn.Module:  # noqa: ARG002
        """The base with its head alone, whose own layers say what the adapted model says.

        Args:
            model: as `attach` made it, with its adapter in place; used up.

        Raises:
            InputError: as long as this is not overridden: a base has no place for what it adds.
        """
        raise unfoldable(type(self).__name__)

    def targets(self, contract: Contract) -> tuple[str, ...]:  # noqa: ARG002
        """The layers that get trained weights of their own, for policies' `lora_targets`."""
        return ()

    def scale(self, contract: Contract) -> float:  # noqa: ARG002
        """s, by which products of factors are multiplied, for policies' `max_adapter_scale`."""
        return 0.0

    def check(self, contract: Contract) -> None:  # noqa: B027 - most fit everything
        """Return if the method fits what else the contract says; no model is there yet.

        Raises:
            ContractError: it does not.
        """

    def resting(self, names: Collection[str], number: int) -> frozenset[str]:  # noqa: ARG002
        """Which of all parameters that train have no turn in a round.

        They get neither gradient nor noise, and an outlet's change of them is zero.

        Args:
            names: of all that train.
            number: of the round, from 1.
        """
        return frozenset()

    def constants(
        self,
        model: nn.Module,  # noqa: ARG002
        contract: Contract,  # noqa: ARG002
    ) -> Iterator[tuple[str, Tensor]]:
        """Frozen parameters that the contract's seed gives: each one's name and right value.

        Everything else that is frozen is the base model's, whose hash the contract pins.
        """
        yield from ()


def unfoldable(what: str) -> InputError:
    """What to raise where something that was added cannot be written as a base's own layers."""
    return InputError(
        "an adapter that cannot be folded into its base model",
        where=what,
        expected="weights, biases or products of matrices that are added to a layer's own",
        got="layers that bend what they read",
        advice="--format onnx keeps such layers",
    )


def start_frozen(model: nn.Module) -> None:
    """Let nothing of a base with its head train but the head."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("head."))


def unpulled(contract: Contract) -> None:
    """Refuse a decay to zero of what starts at the base's own values.

    Raises:
        ContractError: the optimiser's weights decay.
    """
    if contract.optimizer.weight_decay:
        raise ContractError(
            "weights of this method start at the base model's, and decay would pull them to zero",
            where="optimizer.weight_decay",
            expected=f"0 with method = {contract.adapter.method!r}",
            got=contract.optimizer.weight_decay,
        )
