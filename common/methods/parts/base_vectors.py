"""Methods that train vectors of the base model itself: biases, norms.

Invariants:
    * Vectors inside the numbered layers train, those of embeddings and of the last norm never do.
    * What each was in the base is remembered beside the model: how far an adapter is from it is
      what is held against the layer.

Example: `BitFit().attach(base(contract), contract)`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from presspool.common.base.errors import ContractError
from presspool.common.methods.method import Branch, Method, start_frozen, unpulled
from presspool.common.methods.parts.places import inside, linear

if TYPE_CHECKING:
    from torch import Tensor, nn

    from presspool.common.contract.contract import Contract
    from presspool.common.models.adapters import State

_KEPT = "presspool_base_vectors"


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """A vector as it is in the base.

    Attributes:
        start: its values.
        beside: the frozen matrix that it is held against; of a norm, its largest scale alone.
    """

    start: Tensor
    beside: Tensor


class BaseVectors(Method):
    """Some vectors of the base model.

    Attributes:
        what: they are, for a message.
    """

    what: ClassVar[str]

    @abstractmethod
    def chosen(self, name: str, layer: nn.Module) -> tuple[str, ...]:
        """Which of a layer's own parameters train, of those named "weight" and "bias".

        Args:
            name: of the layer in the model.
            layer: a linear layer or a norm.
        """

    def attach(self, model: nn.Module, contract: Contract) -> nn.Module:
        """As `Method.attach`: the base itself."""
        start_frozen(model)
        kept = {
            f"{name}.{own}": _kept(layer, own)
            for name, layer in inside(model, contract)
            if linear(layer) or is_norm(layer)
            for own in self.chosen(name, layer)
            if getattr(layer, own, None) is not None
        }
        if not kept:
            raise ContractError(
                f"this base model's layers have no {self.what}",
                where="[adapter] method",
                got=contract.adapter.method,
                advice="take another method, 'ffa' for example",
            )
        for name in kept:
            model.get_parameter(name).requires_grad_(True)
        vars(model)[_KEPT] = kept
        return model

    def folded(self, model: nn.Module) -> nn.Module:
        """As `Method.folded`: what trained is the base's own."""
        return model

    def branches(self, model: nn.Module, state: State) -> Iterator[Branch]:
        """As `Method.branches`: a bias as the weight of an input 1, scales as a diagonal."""
        import torch

        kept: dict[str, _Kept] = vars(model)[_KEPT]
        for name, one in kept.items():
            moved = torch.tensor(state[name]) - one.start
            if name.endswith(".weight"):
                moved = moved.abs().max().view(1)
            yield Branch(
                layer=name,
                frozen=one.beside,
                up=moved[:, None],
                down=torch.ones(1, 1),
                scale=1.0,
            )

    def check(self, contract: Contract) -> None:
        """Vectors start at the base's."""
        unpulled(contract)


def is_norm(layer: Any) -> bool:
    """Whether it is a layer norm or a root-mean-square norm."""
    weight = getattr(layer, "weight", None)
    return "Norm" in type(layer).__name__ and weight is not None and weight.dim() == 1


def _kept(layer: Any, own: str) -> _Kept:
    weight = layer.weight.detach()
    return _Kept(
        start=getattr(layer, own).detach().cpu().clone(),
        beside=weight.abs().max().view(1, 1).clone() if is_norm(layer) else weight,
    )
