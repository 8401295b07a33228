"""Methods that put a module of `presspool.common.methods.parts.added_layers` around the targets.

Invariant: of such a module exactly the parameters named `trained` train, beside the head.

Example: `FedSb().attach(base(contract), contract)`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from presspool.common.methods.lora import public_factor
from presspool.common.methods.method import Branch, Method, start_frozen
from presspool.common.methods.parts.places import replace, targeted

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from presspool.common.contract.contract import Contract
    from presspool.common.models.adapters import State


class AroundTargets(Method):
    """A module around each of the contract's targets.

    Attributes:
        trained: names of the parameters in it that train.
        drawn: of those that start at the contract's seed, whether they train or not.
    """

    trained: ClassVar[tuple[str, ...]]
    drawn: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def around(self, layer: nn.Module, model: nn.Module, contract: Contract) -> nn.Module:
        """The module that takes a frozen layer's place."""

    @abstractmethod
    def bent(self, name: str, module: Any, values: dict[str, Tensor]) -> Branch:
        """What such a module does beside its frozen layer.

        Args:
            name: of the module in the model.
            module: as `around` made it.
            values: its trained parameters' values in the adapter that is asked about.
        """

    def attach(self, model: nn.Module, contract: Contract) -> nn.Module:
        """As `Method.attach`: the base itself, some layers of it replaced."""
        start_frozen(model)
        for name, layer in targeted(model, contract):
            module = self.around(layer, model, contract)
            for own, parameter in module.named_parameters():
                if own in self.drawn:
                    parameter.data = _drawn(contract, f"{name}.{own}", parameter)
                parameter.requires_grad_(own in self.trained)
            replace(model, name, module)
        return model

    def folded(self, model: nn.Module) -> nn.Module:
        """As `Method.folded`: each module says whether it can be."""
        from presspool.common.methods.parts.added_layers import Around

        around = [(name, one) for name, one in model.named_modules() if isinstance(one, Around)]
        for name, module in around:
            replace(model, name, module.folded())
        return model

    def branches(self, model: nn.Module, state: State) -> Iterator[Branch]:
        """As `Method.branches`: one a target."""
        import torch

        from presspool.common.methods.parts.added_layers import Around

        for name, module in model.named_modules():
            if isinstance(module, Around):
                came = {own: torch.tensor(state[f"{name}.{own}"]) for own in self.trained}
                yield self.bent(name, module, came)

    def targets(self, contract: Contract) -> tuple[str, ...]:
        """The contract's."""
        return contract.adapter.targets

    def constants(self, model: nn.Module, contract: Contract) -> Iterator[tuple[str, Tensor]]:
        """What was drawn and does not train."""
        from presspool.common.methods.parts.added_layers import Around

        for name, module in model.named_modules():
            if isinstance(module, Around):
                for own in {*self.drawn} - {*self.trained}:
                    yield (
                        f"{name}.{own}",
                        _drawn(contract, f"{name}.{own}", module.get_parameter(own)),
                    )


def factor_norm(factor: Tensor) -> Tensor:
    """A factor's spectral norm, (1, 1) float64 on the CPU; infinite where it is out of range."""
    import torch

    found = factor.detach().cpu().double()
    if not bool(found.isfinite().all()):
        return torch.full((1, 1), torch.inf, dtype=torch.float64)
    norm: Tensor = torch.linalg.matrix_norm(found, 2)
    return norm.view(1, 1)


def _drawn(contract: Contract, name: str, parameter: torch.Tensor) -> torch.Tensor:
    """A factor's public values: in ±1/√(its longer side), whichever way round it is stored."""
    rows, columns = parameter.shape
    if rows <= columns:
        return public_factor(contract.seed, name, (rows, columns))
    return public_factor(contract.seed, name, (columns, rows)).T.contiguous()
