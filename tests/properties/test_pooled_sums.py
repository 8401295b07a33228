"""What leaves an outlet whose noise the pool shares: whole numbers of one step, with a share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.fakes.instruments.detectors import Bench, Delta, subset, train, watching
from tests.fakes.sums.pooled_runs import pooled_contract
from torch import Tensor

from presspool.client.engine import clipping, noise
from presspool.client.engine import optimizer as optimizers
from presspool.client.engine.discrete_gaussian import discrete_gaussian
from presspool.client.engine.optimizer import ReaderOptimizer
from presspool.client.engine.randomness import SecureRandom
from presspool.common.accounting import events
from presspool.common.accounting.pooled_plan import of_contract
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.contract.privacy_plan import grid_step

C = 0.5
SIZES = (1500, 500)


def outlet(contract: Contract, name: str = "a", sizes: Sequence[int] = SIZES) -> ReaderOptimizer:
    """An outlet's optimiser on parameters without a model."""
    parameters = [torch.nn.Parameter(torch.zeros(size)) for size in sizes]
    groups = dict(zip(contract.plan.clip, [[p] for p in parameters], strict=False))
    return ReaderOptimizer(
        torch.optim.SGD(parameters, lr=1.0),
        plan=contract.plan,
        groups=groups if len(groups) > 1 else {"all": parameters},
        population=40,
        random=SecureRandom.deterministic(name),
        noise_share=contract.trust.noise_share(contract),
        grid_bits=contract.trust.grid_bits(contract),
    )


def counted(contract: Contract, rows: Tensor) -> list[int]:
    """The sum that an outlet counts for (readers, d) gradients, without noise."""
    made = outlet(contract)
    for p, part in zip(made.params, torch.split(rows, list(SIZES), 1), strict=True):
        p.grad_sample = part.clone()
    made.accumulate()
    return [int(x) for p in made.params for x in p.summed_grad]


def rows(readers: int, scale: float, seed: int) -> Tensor:
    return scale * torch.randn((readers, sum(SIZES)), generator=torch.Generator().manual_seed(seed))


def by_python(contract: Contract, gradients: Tensor) -> list[int]:
    """Clip, then cut off towards zero, reader by reader, in fractions."""
    plan = of_contract(contract)
    total = [0] * gradients.shape[1]
    for row in gradients.double().tolist():
        length = math.sqrt(math.fsum(x * x for x in row))
        factor = Fraction(min(1.0, C * (1 - 2.0**-20) / length)) / Fraction(plan.grid)
        for at, x in enumerate(row):
            total[at] += math.trunc(Fraction(x) * factor)
    return total


def pooled(**changes: Any) -> Contract:
    usual: dict[str, Any] = {"privacy": {"clip": C}, "parameters": sum(SIZES)}
    return pooled_contract(**usual | changes)


def test_an_outlet_s_sum_is_that_of_python_s_own_whole_numbers() -> None:
    contract = pooled()
    gradients = torch.cat([rows(3, 0.1, 1), rows(2, 1e-4, 2)])
    got, expected = counted(contract, gradients), by_python(contract, gradients)
    off = max(abs(one - other) for one, other in zip(got, expected, strict=True))
    assert off <= len(gradients)  # a product's last bit may lie on the other side of a step
    assert max(map(abs, expected)) > 1000


def longest_move(contract: Contract) -> Fraction:
    """(how far a reader moves the sum)² by the bound S/γ squared; readers of every size."""
    plan, worst = of_contract(contract), Fraction(0)
    for seed, scale in enumerate([1e-4, 0.01, 0.02, 1.0, 1e20]):
        others, one = rows(3, 0.05, seed), rows(1, scale, 10 + seed)
        one = one.sign() * scale if seed % 2 else one  # all alike: most is cut off, or rounded up
        with_, without = counted(contract, torch.cat([others, one])), counted(contract, others)
        moved = sum((a - b) ** 2 for a, b in zip(with_, without, strict=True))
        worst = max(worst, Fraction(moved) / Fraction(plan.moved) ** 2)
    return worst


@pytest.mark.parametrize("grid", [8, 16, 30])
@pytest.mark.parametrize("clip", [C, {"adapter": 0.3, "head": 0.4}])
def test_a_reader_moves_the_sum_by_no_more_than_s(grid: int, clip: Any) -> None:
    contract = pooled(pooled={"grid": grid}, privacy={"clip": clip})
    assert 0.8 < longest_move(contract) <= 1


def rounded_first(gradient: Tensor, factors: Tensor, step: float) -> Tensor:
    """Planted: whole numbers are made before clipping, and clipped to the nearest."""
    whole = (gradient.double() / step).round() * factors.view(-1, *[1] * (gradient.dim() - 1))
    return whole.round().nan_to_num(0.0).sum(0).long()


def test_planted_rounding_before_clipping_moves_the_sum_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(optimizers, "counted", rounded_first)
    assert longest_move(pooled(pooled={"grid": 8})) > 1
    assert clipping.counted is not rounded_first


def left(contract: Contract, shares: int) -> float:
    """The standard deviation that so many outlets' shares have together, in units of σS/γ."""
    total = torch.zeros(20_000, dtype=torch.int64)
    for number in range(shares):
        made = outlet(contract, f"outlet {number}", sizes=(20_000,))
        made.finish_step()
        total += made.noisy[0]
    plan = of_contract(contract)
    return float(total.double().std()) / (plan.plan.noise_multiplier * plan.moved)


def test_k_less_c_less_d_shares_are_the_noise_that_is_claimed() -> None:
    contract = pooled(outlets=8, pooled={"colluders": 2, "dropouts": 1}, parameters=20_000)
    off = 4 / math.sqrt(2 * 20_000)
    assert left(contract, 5) == pytest.approx(1, abs=off)
    assert left(contract, 4) < 1 - 4 * off  # planted: one share is missing


def quiet(self: ReaderOptimizer) -> None:
    """Planted: an outlet leaves its noise out."""
    self.noisy = [p.summed_grad for p in self.params]
    for p in self.params:
        p.grad = torch.zeros_like(p)


def test_planted_missing_shares_of_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReaderOptimizer, "add_noise", quiet)
    with pytest.raises(AssertionError):
        test_k_less_c_less_d_shares_are_the_noise_that_is_claimed()


# --- A round on a real model ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench(contract_body: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Both LoRA factors on the tiny base."""
    body = contract_body | {"adapter": contract_body["adapter"] | {"method": "fedit"}}
    return Bench.of(parse_contract(body), tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def shared(bench: Bench) -> Contract:
    """The bench's contract with shared noise and every reader in every step."""
    contract = bench.contract.replace(
        federation={"trust": "pooled", "local_steps": 1},
        pooled={
            "colluders": 0,
            "dropouts": 0,
            "parameters": sum(array.size for array in bench.state.values()),
        },
        privacy={"sampling_rate": 1.0, "records_per_reader": 4},
    )
    return contract.with_noise()


def flat(delta: Delta) -> np.ndarray[Any, np.dtype[Any]]:
    return np.concatenate([delta[name].ravel() for name in sorted(delta)])


def test_a_round_answers_with_the_noised_sum_in_steps_of_the_grid(
    bench: Bench, shared: Contract
) -> None:
    with watching() as seen:
        delta = train(bench, bench.readers, contract=shared)
    assert {array.dtype.name for array in delta.values()} == {"int64"}
    plan = of_contract(shared)
    drawn = flat(delta) - np.rint(seen.sums[0] / plan.grid).astype(np.int64)
    assert plan.cohort.honest == 2
    assert np.std(drawn) == pytest.approx(plan.scale, rel=4 / math.sqrt(2 * drawn.size))
    lengths = {name: float(np.abs(array).max()) for name, array in delta.items()}
    assert all(lengths.values())  # both factors and the head


@pytest.mark.parametrize("trust", ["local", "pooled"])
def test_a_round_draws_noise_of_the_very_scale_that_is_charged(
    bench: Bench, shared: Contract, trust: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten percent less is seen in no variance of so few numbers: the law itself is compared."""
    contract, scales = shared if trust == "pooled" else bench.contract, list[float]()

    def seen(count: int, scale: float, random: SecureRandom) -> NDArray[np.int64]:
        scales.append(scale)
        return discrete_gaussian(count, scale, random)

    monkeypatch.setattr(noise, "discrete_gaussian", seen)
    train(bench, bench.readers, contract=contract)
    (step, *_) = events.phases_of(contract.trust.event(contract))
    if isinstance(step.event, events.PooledSum):
        expected = step.event.scale
        assert expected == of_contract(contract).scale
    else:
        s = contract.plan.sensitivity
        expected = contract.plan.noise_multiplier * s / grid_step(s)
    assert len(scales) == contract.federation.local_steps
    assert scales == pytest.approx([expected] * len(scales), rel=1e-14)


def test_one_reader_more_is_that_reader_s_clipped_gradient(bench: Bench, shared: Contract) -> None:
    """Before noise, the sums with and without differ by at most S/γ, exactly."""
    plan, everybody, sums = of_contract(shared), list(range(8)), []
    for some in (everybody, everybody[:-1]):
        with watching() as seen:
            train(bench, subset(bench.readers, some), contract=shared)
        sums.append([Fraction(x) / Fraction(plan.grid) for x in seen.sums[0]])
    moved = [one - other for one, other in zip(*sums, strict=True)]
    assert all(number.denominator == 1 for number in moved)
    assert 0 < sum(x * x for x in moved) <= Fraction(plan.moved) ** 2


def test_the_adapter_that_a_round_starts_from_decides_nothing_but_the_gradient(
    bench: Bench, shared: Contract
) -> None:
    """No local step is taken: the rate of [optimizer] moves nothing at the outlet."""
    faster = shared.replace(optimizer={"learning_rate": 50.0})
    one, other = (train(bench, bench.readers, contract=c) for c in (shared, faster))
    assert flat(one).tobytes() == flat(other).tobytes()
