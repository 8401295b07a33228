"""The engine's self-test passes on a right engine and fails closed on each planted defect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from presspool.client import client_app
from presspool.client.engine import noise, selftest
from presspool.client.engine import optimizer as optimizer_module
from presspool.client.engine.clipping import clip_factors
from presspool.client.engine.optimizer import ReaderOptimizer
from presspool.client.engine.reader_gradients import ReaderGradients
from presspool.client.engine.selftest import prove
from presspool.client.identity.settings import OutletSettings
from presspool.client.round import Round
from presspool.common.base.errors import EngineError, SelfTestError
from presspool.common.contract.contract import Contract
from presspool.common.contract.contract_schema import ALONE
from presspool.common.models import adapters
from presspool.common.models.models import HeadedModel, build
from presspool.common.runs.run_file import freeze
from presspool.common.wire.update import TrainTask


@pytest.mark.parametrize(
    ("method", "clip"),
    [
        ("ffa", 1.0),
        ("ffa", {"adapter": 0.3, "head": 2.0}),
        ("fedit", 1.0),
        ("fedit", {"adapter": 0.3, "head": 2.0}),
        ("head", 1.0),
    ],
)
@pytest.mark.parametrize("sigma", [0.8, 0.0])
def test_a_right_engine_passes(contract: Contract, method: str, clip: object, sigma: float) -> None:
    chosen = contract.replace(
        adapter={"method": method}, privacy={"clip": clip, "noise_multiplier": sigma}
    )
    prove(build(chosen), chosen)


def _pooled(contract: Contract, *, rank: int, grid: int) -> Contract:
    """Both factors, four outlets that share their noise, on a grid of so many binary places."""
    body = contract.body()
    del body["privacy"]["noise_multiplier"]
    changed = contract.replace(
        adapter={"method": "fedit", "rank": rank},
        federation={**ALONE, "trust": "pooled", "local_steps": 1},
        outlets={f"outlet-{at}": 25 for at in range(4)},
        privacy={**body["privacy"], "epsilon": 6.0, "noise_multiplier": None},
        pooled={"colluders": 1, "dropouts": 0, "grid": grid},
    )
    return freeze(changed, fetch=False)


@pytest.mark.parametrize(("rank", "grid"), [(1, 8), (16, 12), (16, 16)])
def test_what_a_grid_cuts_off_is_no_defect(contract: Contract, rank: int, grid: int) -> None:
    """Of many numbers a coarse grid takes more than rounding does, and no bound is broken."""
    chosen = _pooled(contract, rank=rank, grid=grid)
    prove(build(chosen), chosen)


def test_a_coarse_grid_excuses_no_lost_half(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, chosen = clip_factors, _pooled(contract, rank=256, grid=8)
    prove(build(chosen), chosen)
    monkeypatch.setattr(optimizer_module, "clip_factors", lambda *given: 0.4 * right(*given))
    with pytest.raises(SelfTestError, match=r"raise \[pooled\] grid"):
        prove(build(chosen), chosen)


def _untrained_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    right = ReaderGradients.backward

    def backward(self: ReaderGradients, *arguments: Any, **named: Any) -> None:
        right(self, *arguments, **named)
        next(iter(self._trained.values())).grad_sample.zero_()  # type: ignore[attr-defined]

    monkeypatch.setattr(ReaderGradients, "backward", backward)


def _no_clipping(monkeypatch: pytest.MonkeyPatch) -> None:
    factors = lambda gradients, _: torch.ones(len(gradients[0]), dtype=torch.float64)  # noqa: E731
    monkeypatch.setattr(optimizer_module, "clip_factors", factors)


def _half_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    right = noise.add_noise

    def add_noise(sums: Any, *, noise_multiplier: float, **named: Any) -> Any:
        return right(sums, noise_multiplier=noise_multiplier / 2, **named)

    monkeypatch.setattr(optimizer_module, "add_noise", add_noise)


def _noise_divided_by_the_batch_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    right = ReaderOptimizer.scale_grad

    def scale(self: ReaderOptimizer) -> None:
        right(self)
        right(self)

    monkeypatch.setattr(ReaderOptimizer, "scale_grad", scale)


def _uncounted_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReaderOptimizer, "steps_taken", property(lambda _: 0))


def _mixed_frozen_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features that are centred over the batch, as a batch norm would."""
    right = HeadedModel.features

    def features(self: HeadedModel, *arguments: Any) -> torch.Tensor:
        own = right(self, *arguments)
        return own - own.mean(0)

    monkeypatch.setattr(HeadedModel, "features", features)


def _lossy_saving(monkeypatch: pytest.MonkeyPatch) -> None:
    right = selftest._named

    def named(model: Any) -> dict[str, Any]:
        return {n: a.astype(np.float16).astype(np.float32) for n, a in right(model).items()}

    monkeypatch.setattr(selftest, "_named", named)


def _nothing_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    right = adapters.save

    def save(model: Any, folder: Any) -> str:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.zero_()
        return right(model, folder)

    monkeypatch.setattr(selftest, "save", save)


@pytest.mark.parametrize(
    "defect",
    [
        _untrained_layer,
        _no_clipping,
        _half_the_noise,
        _noise_divided_by_the_batch_twice,
        _uncounted_steps,
        _lossy_saving,
        _nothing_saved,
    ],
)
def test_every_planted_defect_stops_the_outlet(
    contract: Contract, monkeypatch: pytest.MonkeyPatch, defect: Any
) -> None:
    model = build(contract)
    defect(monkeypatch)
    with pytest.raises(SelfTestError):
        prove(model, contract)


def test_records_that_mix_below_the_trained_layers_stop_the_outlet(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's own proof follows gradients, which do not reach the frozen layers."""
    head = contract.replace(adapter={"method": "head"})
    model = build(head)
    _mixed_frozen_layers(monkeypatch)
    with pytest.raises(SelfTestError, match="mixed in the frozen layers"):
        prove(model, head)


def test_a_model_that_cannot_be_trained_is_refused_before_any_reader_is_read(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the refusal is the same for every outlet and says nothing about who is in the data."""

    def silent(self: ReaderGradients, sums: Any) -> None:
        raise EngineError("a trained parameter received no gradient")

    def read(*_: Any, **__: Any) -> None:
        raise AssertionError("readers' data was read before the engine was proved")

    monkeypatch.setattr(ReaderGradients, "_check_complete", silent)
    monkeypatch.setattr(client_app, "_readers", read)
    client_app._proved.cache_clear()
    state = adapters.read(build(contract))
    text = contract.canonical().decode()
    task = TrainTask(contract=text, digest=contract.digest, round=1, state=state)
    settings = OutletSettings(name="north-post", data=Path("nowhere.parquet"))
    with pytest.raises(EngineError):
        next(client_app.answer(Round(task), settings))
