"""Where a method adds something of its own: layers of the base by name, counted as PEFT does.

Invariant: what lies outside the numbered layers (embeddings, the last norm) is in no place, so that
`[adapter] layers` cuts every method's frozen part alike.

Example: `for name, layer in targeted(model, contract): replace(model, name, Rescaled(layer))`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from presspool.common.base.errors import ContractError

if TYPE_CHECKING:
    from torch import nn

    from presspool.common.contract.contract import Contract

_NUMBER = re.compile(r"\.(\d+)\.")


def inside(model: nn.Module, contract: Contract) -> Iterator[tuple[str, nn.Module]]:
    """Names and modules of the layers that may be trained, their own parts included.

    Raises:
        ContractError: a base model with an encoder beside its decoder, in which none of this was
            tried; or fewer layers than the contract says.
    """
    if spared_in(model) is not None:
        raise ContractError(
            "a method that was not tried on base models with an encoder beside the decoder",
            where="[adapter] method",
            expected="a kind of LoRA: ffa, fedit",
            got=contract.adapter.method,
        )
    chosen = last_layers(model, contract.adapter.layers)
    for name, module in model.named_modules():
        number = _NUMBER.search(f"{name}.")
        if number and (chosen is None or int(number[1]) in chosen):
            yield name, module


def targeted(model: nn.Module, contract: Contract) -> list[tuple[str, nn.Module]]:
    """The linear layers in them that the contract's targets name.

    Raises:
        ContractError: there is no such layer in the base model, or fewer layers.
    """
    check_targets(model, targets := contract.adapter.targets)
    return [
        (name, module)
        for name, module in inside(model, contract)
        if linear(module) and any(f".{name}".endswith(f".{target}") for target in targets)
    ]


def replace(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module where another was."""
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)


def spared_in(model: nn.Module) -> str | None:
    """The pattern of layers that no adapter bends: of an encoder beside its decoder, what reads."""
    return getattr(model.get_submodule("encoder"), "spared", None)


def last_layers(model: nn.Module, count: int | None) -> list[int] | None:
    """Indices of the last `count` layers; None for all.

    Raises:
        ContractError: there are fewer, or two rows of them.
    """
    if count is None:
        return None
    if spared_in(model) is not None:
        raise ContractError(
            "a base model with an encoder and a decoder has two rows of layers",
            where="[adapter] layers",
            expected="no such key",
            got=count,
            advice="name the targets: ['EncDecAttention.q'] of a T5, say; all are the decoder's",
        )
    config: Any = model.config
    total: int = config.num_hidden_layers
    if count > total:
        raise ContractError(
            "more layers than the base model has",
            where="[adapter] layers",
            expected=f"at most {total}",
            got=count,
        )
    return list(range(total - count, total))


def check_targets(model: nn.Module, targets: tuple[str, ...]) -> None:
    """Return if the base model has linear layers of all those names."""
    spared = spared_in(model)
    layers = [
        name
        for name, module in model.named_modules()
        if linear(module)
        and name.partition(".")[0] != "head"
        and (spared is None or not re.fullmatch(spared, name))
    ]
    if missing := [t for t in targets if not any(f".{n}".endswith(f".{t}") for n in layers)]:
        names = sorted({name.rpartition(".")[2] for name in layers})
        raise ContractError(
            "LoRA targets that this base model does not have",
            where="[adapter] targets",
            expected=f"names among {', '.join(names)}",
            got=", ".join(missing),
        )


def linear(module: nn.Module) -> bool:
    """Whether it is a linear layer, or GPT-2's kind of one."""
    from torch import nn

    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
