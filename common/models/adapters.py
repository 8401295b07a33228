"""The trainable part of a model as plain arrays: read, loaded, hashed, saved.

An adapter's *state* is a mapping from parameter name to a float32 array, holding exactly the
parameters that train (a frozen factor is public and never travels).

Invariants:
    * `load` demands the very same names and shapes: nothing is loaded half or by luck.
    * `digest` covers names, shapes and bytes in sorted order, so equal digests mean equal adapters.

Example:
    >>> state = {"b": np.zeros((2, 1), np.float32), "a": np.ones(3, np.float32)}
    >>> digest(state) == digest(dict(sorted(state.items())))
    True
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from presspool.common.base.files import file_sha256

if TYPE_CHECKING:
    from torch import nn

State = Mapping[str, NDArray[np.float32]]
WEIGHTS = "adapter_model.safetensors"
_WRAPPERS = ("base_model", "model")  # what PEFT puts before the names of the model that it wraps
FaultKind = Literal["names", "shapes", "finite", "norm"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Why arrays are not what was asked for.

    Attributes:
        kind: the check that failed, the cheapest first.
        expected: in words.
        got: in words; quotes names, shapes and the norm, never other numbers.
    """

    kind: FaultKind
    expected: str
    got: str


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name to parameter for everything that trains, in sorted order."""
    return {name: p for name, p in sorted(model.named_parameters()) if p.requires_grad}


def group_of(name: str) -> str:
    """The parameter group, "head" or "adapter", that clip norms and rates speak of.

    The head is the task's own module, whatever a method wrapped around the whole; all else that
    trains is the method's.

    >>> group_of("base_model.model.head.modules_to_save.default.weight"), group_of("head.bias")
    ('head', 'head')
    """
    own = dropwhile(_WRAPPERS.__contains__, name.split("."))
    return "head" if next(own, "") == "head" else "adapter"


def read(model: nn.Module) -> dict[str, NDArray[np.float32]]:
    """A copy of the model's adapter state."""
    return {
        name: p.detach().to("cpu", copy=True).float().numpy()
        for name, p in trainable(model).items()
    }


def load(model: nn.Module, state: State) -> None:
    """Put `state` into the model's trainable parameters.

    Raises:
        ValueError: a name or shape differs; nothing has been loaded then.
    """
    import torch

    parameters = trainable(model)
    expected = {name: tuple(p.shape) for name, p in parameters.items()}
    got = {name: tuple(array.shape) for name, array in state.items()}
    if expected != got:
        wrong = sorted(set(expected.items()) ^ set(got.items()))
        raise ValueError(f"adapter state does not fit the model: {wrong[:4]}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.tensor(state[name]))


def digest(state: State) -> str:
    """`sha256:` of the state's names, shapes and little-endian float32 bytes."""
    hasher = hashlib.sha256(b"presspool/adapter/v1\0")
    for name in sorted(state):
        array = np.ascontiguousarray(state[name], dtype="<f4")
        hasher.update(f"{name}\0{array.shape}\0".encode())
        hasher.update(array.tobytes())
    return "sha256:" + hasher.hexdigest()


def norm(state: State) -> float:
    """L2 norm over all arrays, summed in float64."""
    return math.sqrt(sum(squares(array) for array in state.values()))


def squares(array: NDArray[np.float32]) -> float:
    """The sum of an array's squares in float64; finite if, and only if, all its numbers are."""
    return float(np.sum(np.square(array, dtype=np.float64)))


def fault(state: State, *, shapes: Mapping[str, tuple[int, ...]], largest: float) -> Fault | None:
    """The first thing that is wrong with arrays that came from elsewhere; None if they fit.

    Each array is asked for once, for it may have to be read from a disk.

    Args:
        state: what came.
        shapes: name to shape of exactly what was asked for.
        largest: L2 norm over all arrays that is still taken.
    """
    if set(state) != set(shapes):
        odd = sorted(set(state) ^ set(shapes))[:4]
        return Fault(
            kind="names", expected="exactly the parameters that train", got=f"differs in {odd!r}"
        )
    total = 0.0
    for name, array in state.items():
        if array.shape != shapes[name]:
            expected, got = f"{name}: {shapes[name]}", f"{name}: {array.shape}"
            return Fault(kind="shapes", expected=expected, got=got)
        total += squares(array)
    if not math.isfinite(total):
        return Fault(kind="finite", expected="finite numbers", got="NaN or infinity")
    size = math.sqrt(total)
    if size > largest:
        return Fault(kind="norm", expected=f"L2 norm at most {largest:g}", got=f"{size:g}")
    return None


def save(model: nn.Module, folder: Path) -> str:
    """Write the adapter; returns the hex sha256 of its weights file.

    PEFT's models are written in its own format, others as their state.
    """
    from peft import PeftModel
    from safetensors.numpy import save_file

    if isinstance(model, PeftModel):
        model.save_pretrained(str(folder), save_embedding_layers=False)
        # PEFT's template of a model card says where the base model lies here, and else nothing.
        (folder / "README.md").unlink(missing_ok=True)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(read(model), folder / WEIGHTS, metadata={"format": "pt"})
    return file_sha256(folder / WEIGHTS)
