"""Adapter states: read, loaded all or nothing, hashed, and saved in PEFT's own format."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import PeftModel

from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import task_of
from presspool.common.models.adapters import (
    digest,
    fault,
    group_of,
    load,
    norm,
    read,
    save,
    trainable,
)
from presspool.common.models.models import base, build


@pytest.fixture
def model(contract: Contract) -> PeftModel:
    return build(contract)


def made(
    model: PeftModel, seed: int = 0
) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    random = np.random.default_rng(seed)
    return {n: random.normal(size=a.shape).astype(np.float32) for n, a in read(model).items()}


def test_a_state_is_what_trains_and_nothing_else(model: PeftModel, contract: Contract) -> None:
    names = list(read(model))
    assert names == sorted(names)
    assert names == list(trainable(model))
    assert all("lora_B" in name or "modules_to_save" in name for name in names)  # FFA: A is frozen
    fedit = build(contract.replace(adapter={"method": "fedit"}))
    assert {name for name in read(fedit) if "lora_A" in name}
    assert {group_of(name) for name in names} == {"adapter", "head"}
    assert all((group_of(name) == "head") == ("head" in name) for name in names)


def test_what_is_loaded_is_read_back(model: PeftModel) -> None:
    state = made(model)
    load(model, state)
    again = read(model)
    assert digest(again) == digest(state)
    assert all(array.dtype == np.float32 for array in again.values())


def test_a_read_state_is_a_copy(model: PeftModel) -> None:
    state = read(model)
    before = digest(state)
    load(model, made(model))
    assert digest(state) == before
    state[next(iter(state))][:] = 7
    assert digest(read(model)) != digest(state)


@pytest.mark.parametrize("change", ["missing", "more", "shape", "name"])
def test_a_state_that_does_not_fit_loads_nothing(change: str, model: PeftModel) -> None:
    before, state = digest(read(model)), made(model)
    name = sorted(state)[-1]
    array = state.pop(name)
    if change == "more":
        state |= {name: array, "extra": array}
    elif change == "shape":  # numpy and torch would broadcast this one
        state[name] = array[:1]
    elif change == "name":
        state[name.replace(".default", "")] = array
    with pytest.raises(ValueError, match="does not fit the model"):
        load(model, state)
    assert digest(read(model)) == before


def test_the_digest_covers_names_shapes_and_bytes() -> None:
    state: Mapping[str, Any] = {"a": np.arange(6, dtype=np.float32), "b": np.zeros(2, np.float32)}
    assert digest(state).startswith("sha256:")
    variants: list[Mapping[str, Any]] = [
        {"a": state["a"]},
        {"a": state["a"], "c": state["b"]},
        {"a": state["b"], "b": state["a"]},
        {"a": state["a"].reshape(2, 3), "b": state["b"]},
        {"a": np.nextafter(state["a"], np.float32(9)), "b": state["b"]},
        {"a": state["a"], "b": -state["b"]},  # -0.0 is another value on the wire
    ]
    assert len({digest(variant) for variant in [state, *variants]}) == 7
    assert digest({"b": state["b"], "a": state["a"].astype(">f4")}) == digest(state)
    sparse: Any = np.repeat(state["a"], 2)[::2]  # the same values, laid out otherwise
    assert digest({"a": sparse, "b": state["b"]}) == digest(state)


def test_norm_is_taken_over_everything_in_double_precision() -> None:
    assert norm({"a": np.array([3.0], np.float32), "b": np.array([[4.0]], np.float32)}) == 5.0
    assert norm({}) == 0.0
    assert norm({"a": np.full(4, 1e30, np.float32)}) == pytest.approx(2e30)
    assert norm({"a": np.full(4, 1e-30, np.float32)}) == pytest.approx(2e-30)
    assert np.isnan(norm({"a": np.array([np.nan], np.float32)}))


@pytest.mark.parametrize("method", ["ffa", "fedit"])
def test_peft_loads_what_was_saved(method: str, contract: Contract, tmp_path: Path) -> None:
    contract = contract.replace(adapter={"method": method})
    model = build(contract)
    load(model, made(model))
    first = save(model, tmp_path)
    assert first == save(model, tmp_path / "again")  # the same bytes each time
    files = sorted(path.name for path in (tmp_path / "again").iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors"]
    again = PeftModel.from_pretrained(base(contract), str(tmp_path)).eval()
    batch = task_of(contract).encode(["goal match", "a treaty"])
    with torch.no_grad():
        expected = model.eval()(**batch)
        torch.testing.assert_close(again(**batch), expected, rtol=0, atol=0)
        assert (again(**batch) != base(contract)(**batch)).any()


class Counted(dict[str, NDArray[np.float32]]):
    """Arrays that lie on a disk: each reading is counted."""

    def __init__(self, arrays: dict[str, NDArray[np.float32]]) -> None:
        super().__init__(arrays)
        self.read = 0

    def items(self) -> Any:
        for name in self:
            yield name, self[name]

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        self.read += 1
        return super().__getitem__(name)


def test_arrays_from_elsewhere_are_read_once_each_and_none_after_a_fault() -> None:
    arrays = Counted({"a": np.ones((2, 3), np.float32), "b": np.ones(4, np.float32)})
    shapes = {"a": (2, 3), "b": (4,)}
    assert fault(arrays, shapes=shapes, largest=math.sqrt(10)) is None
    assert arrays.read == 2
    found = fault(arrays, shapes={"a": (3, 2), "b": (4,)}, largest=10)
    assert found is not None
    assert (found.kind, arrays.read) == ("shapes", 3)
    missing = fault(arrays, shapes={"a": (2, 3)}, largest=10)
    assert missing is not None
    assert (missing.kind, missing.got, arrays.read) == ("names", "differs in ['b']", 3)
