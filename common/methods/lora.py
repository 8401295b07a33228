"""Low-rank adapters (LoRA: Hu et al. 2021) through PEFT, and the head: what all kinds of it share.

A frozen linear layer W gets a branch α/r · B A, with B at zero and A at values that anybody can
derive from the contract's seed by SHAKE-256: the same on every machine and in every version of
torch. The kinds differ in which of the factors train. The head is in PEFT's `modules_to_save`, so
the whole trainable part is one ordinary PEFT adapter.

Invariant: a factor A that does not train is never received from anybody; it is a public constant.

Example: ``model = Ffa().attach(base(contract), contract)``.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from presspool.common.methods.method import Branch, Method
from presspool.common.methods.parts.places import check_targets, last_layers, spared_in

if TYPE_CHECKING:
    from torch import Tensor, nn

    from presspool.common.contract.contract import Contract
    from presspool.common.models.adapters import State

A, B = "lora_A", "lora_B"


class Lora(Method):
    """LoRA on the contract's targets.

    Attributes:
        factors: which of the two train.
        options: switches of `LoraConfig` that are on.
    """

    library = "peft"
    factors: ClassVar[tuple[str, ...]]
    options: ClassVar[tuple[str, ...]] = ()

    def attach(self, model: nn.Module, contract: Contract) -> nn.Module:
        """As `Method.attach`: a `PeftModel`."""
        from peft import LoraConfig, get_peft_model

        spec = contract.adapter
        spared = spared_in(model)
        check_targets(model, spec.targets)
        config = LoraConfig(
            r=spec.rank,
            lora_alpha=spec.alpha,
            lora_dropout=0.0,
            bias="none",
            target_modules=list(spec.targets),
            modules_to_save=["head"] if list(model.get_submodule("head").parameters()) else None,
            layers_to_transform=last_layers(model, spec.layers),
            exclude_modules=spared,
            **dict.fromkeys(self.options, True),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT misses a hub name on our wrapper: set below
            adapted = get_peft_model(model, config)
        adapted.peft_config["default"].base_model_name_or_path = contract.model.id
        for name, parameter in adapted.named_parameters():
            if A in name:
                parameter.data = public_factor(contract.seed, name, tuple(parameter.shape))
            if A in name or B in name:
                parameter.requires_grad_(any(factor in name for factor in self.factors))
        attached: nn.Module = adapted
        return attached

    def branches(self, model: nn.Module, state: State) -> Iterator[Branch]:
        """As `Method.branches`: a factor that does not train is the model's own."""
        import torch
        from peft.tuners.lora.layer import LoraLayer

        def factor(name: str) -> Tensor:
            came = state.get(name)
            return model.get_parameter(name).detach() if came is None else torch.tensor(came)

        for name, layer in model.named_modules():
            if isinstance(layer, LoraLayer):
                ((adapter, scale),) = layer.scaling.items()
                yield Branch(
                    layer=name,
                    frozen=layer.get_base_layer().weight.detach(),
                    up=factor(f"{name}.{B}.{adapter}.weight"),
                    down=factor(f"{name}.{A}.{adapter}.weight"),
                    scale=scale,
                )

    def folded(self, model: nn.Module) -> nn.Module:
        """As `Method.folded`, by PEFT."""
        peft: Any = model
        merged: nn.Module = peft.merge_and_unload(progressbar=False, safe_merge=True)
        return merged

    def scale(self, contract: Contract) -> float:
        """As `Method.scale`: α/r."""
        return contract.adapter.alpha / contract.adapter.rank

    def targets(self, contract: Contract) -> tuple[str, ...]:
        """The contract's."""
        return contract.adapter.targets

    def constants(self, model: nn.Module, contract: Contract) -> Iterator[tuple[str, Tensor]]:
        """Every A that does not train."""
        for name, parameter in model.named_parameters():
            if A in name and A not in self.factors:
                yield name, public_factor(contract.seed, name, tuple(parameter.shape))


def public_factor(seed: int, name: str, shape: tuple[int, ...]) -> Tensor:
    """A frozen or initial LoRA factor that anybody can derive from the contract's seed.

    Uniform in ±1/√fan_in, the range of PEFT's own Kaiming initialisation (a = √5), from a SHAKE-256
    stream over seed and parameter name.

    Args:
        seed: the contract's public seed.
        name: the parameter's name.
        shape: (rank, fan_in).

    Returns:
        float32 tensor of `shape`.
    """
    import numpy as np
    import torch

    stream = hashlib.shake_256(b"presspool/public-init/v1\0" + f"{seed}\0{name}".encode())
    words = np.frombuffer(stream.digest(4 * math.prod(shape)), dtype="<u4")
    bound = 1 / math.sqrt(shape[-1])
    values = (words.astype(np.float64) / 2**31 - 1) * bound
    return torch.from_numpy(values.astype(np.float32).reshape(shape))
