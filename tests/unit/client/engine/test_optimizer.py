"""The private optimiser: clip, sum, noise once, divide by a public b, count every step."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from opacus.accountants import RDPAccountant
from opacus.optimizers import DPOptimizer
from tests.fakes.instruments.detectors import check_normal
from torch import Tensor

from presspool.client.engine.noise import add_noise
from presspool.client.engine.optimizer import ReaderOptimizer
from presspool.client.engine.randomness import SecureRandom
from presspool.common.base.errors import PlanError
from presspool.common.contract.privacy_plan import PrivacyPlan

SHAPES = {"adapter": ((3, 2), (4,)), "head": ((2, 5),)}
TWO = {"adapter": 0.3, "head": 0.4}


def plan(**changes: Any) -> PrivacyPlan:
    values: dict[str, Any] = {
        "unit": "reader",
        "noise_multiplier": 0.0,
        "clip": {"all": 1.0},
        "sampling_rate": 0.25,
        "records_per_reader": 1,
        "steps": 3,
        "delta": 1e-5,
    }
    return PrivacyPlan(**values | changes)


def private(plan: PrivacyPlan, **rest: Any) -> ReaderOptimizer:
    """SGD at rate 1 on three zero tensors, made private for a population of 40."""
    groups: dict[str, list[torch.nn.Parameter]] = {
        group: [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
        for group, shapes in SHAPES.items()
    }
    everything = [p for parameters in groups.values() for p in parameters]
    options: dict[str, Any] = {
        "groups": groups if set(plan.clip) == set(groups) else {"all": everything},
        "population": 40,
        "random": SecureRandom.deterministic("optimizer"),
    }
    return ReaderOptimizer(torch.optim.SGD(everything, lr=1.0), plan=plan, **options | rest)


def gradients(readers: int, scale: float = 1.0, seed: int = 0) -> list[Tensor]:
    """(readers, *shape) for each tensor."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [shape for group in SHAPES.values() for shape in group]
    return [torch.randn((readers, *shape), generator=generator) * scale for shape in shapes]


def give(optimizer: ReaderOptimizer, rows: list[Tensor]) -> None:
    for p, row in zip(optimizer.params, rows, strict=True):
        p.grad_sample = row.clone()


def summed(optimizer: ReaderOptimizer, *parts: list[Tensor]) -> Tensor:
    """The clipped sum of some micro-batches, as one vector in units of the gradient."""
    return (whole(optimizer, *parts).double() * optimizer.grid).float()


def whole(optimizer: ReaderOptimizer, *parts: list[Tensor]) -> Tensor:
    """The same in steps of the grid."""
    for part in parts:
        give(optimizer, part)
        optimizer.accumulate()
    return torch.cat([p.summed_grad.flatten() for p in optimizer.params])


def flat(rows: list[Tensor]) -> Tensor:
    """(readers, coordinates)."""
    return torch.cat([row.flatten(1) for row in rows], 1)


# --- Clipping ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-3, 0.3, 100.0])
def test_each_reader_is_clipped_to_the_bound(scale: float) -> None:
    rows = gradients(9, scale)
    norms = flat(rows).norm(dim=1, keepdim=True)
    expected = (flat(rows) * (1.0 / norms).clamp(max=1)).sum(0)
    torch.testing.assert_close(summed(private(plan()), rows), expected, atol=1e-5, rtol=1e-5)
    for reader in range(9):
        alone = summed(private(plan()), [row[reader : reader + 1] for row in rows])
        assert alone.norm() <= 1 + 1e-6


def test_clipping_agrees_with_opacus() -> None:
    rows, ours = gradients(9), private(plan())
    theirs = DPOptimizer(
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(row.shape[1:])) for row in rows], lr=1.0),
        noise_multiplier=0.0,
        max_grad_norm=1.0,
        expected_batch_size=10,
    )
    for p, row in zip(theirs.params, rows, strict=True):
        p.grad_sample = row.clone()
    theirs.clip_and_accumulate()
    expected = torch.cat([p.summed_grad.flatten() for p in theirs.params])
    torch.testing.assert_close(summed(ours, rows), expected)


def test_groups_are_clipped_apart_with_joint_sensitivity() -> None:
    both = plan(clip=TWO, noise_multiplier=1.0)
    assert both.sensitivity == pytest.approx(0.5)
    rows = gradients(1, 100.0)
    total = summed(private(both), rows)
    assert total[:10].norm() == pytest.approx(0.3, rel=1e-5)
    assert total[10:].norm() == pytest.approx(0.4, rel=1e-5)
    assert total.norm() == pytest.approx(0.5, rel=1e-5)
    # A small gradient in one group stays as it is beside a large one in the other.
    rows[2] = rows[2] * 1e-6
    total = summed(private(both), rows)
    torch.testing.assert_close(total[10:], rows[2].flatten())


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("clip", [{"all": 1.0}, TWO])
def test_a_reader_that_is_not_finite_adds_nothing_and_moves_nobody(
    clip: dict[str, float], broken: float
) -> None:
    rows = gradients(5)
    expected = summed(private(plan(clip=clip)), [row[[0, 1, 3, 4]] for row in rows])
    for row in rows:
        row[2].flatten()[0] = broken
    got = summed(private(plan(clip=clip)), rows)
    assert torch.equal(got, expected)
    everybody = [torch.full_like(row, broken) for row in rows]
    assert not summed(private(plan(clip=clip)), everybody).any()


def test_a_broken_group_leaves_a_readers_other_group_alone() -> None:
    rows = gradients(2)
    rows[2][0] = math.nan
    total = summed(private(plan(clip=TWO)), rows)
    assert total.isfinite().all()
    without = [rows[0], rows[1], rows[2] * torch.tensor([0.0, 1.0])[:, None, None]]
    without[2][0] = 0
    torch.testing.assert_close(total, summed(private(plan(clip=TWO)), without))


def test_a_gradient_whose_square_is_no_float32_is_clipped_like_any_other() -> None:
    rows = gradients(1)
    rows[0][0].flatten()[0] = 3e38
    total = summed(private(plan()), rows)
    assert total[0] == pytest.approx(1.0, rel=1e-5)
    assert not total[1:].any()


def test_a_zero_gradient_stays_zero() -> None:
    assert not summed(private(plan()), gradients(3, 0.0)).any()


# --- Steps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [(7,), (1, 6), (3, 2, 2), (1,) * 7, (0, 4, 0, 3)])
def test_micro_batches_give_the_sum_of_one_batch(cuts: tuple[int, ...]) -> None:
    rows = gradients(7)
    expected = whole(private(plan()), rows)
    parts = zip(*(torch.split(row, list(cuts)) for row in rows), strict=True)
    assert torch.equal(whole(private(plan()), *[list(part) for part in parts]), expected)


def test_only_finish_step_adds_noise_moves_and_counts() -> None:
    optimizer = private(plan(noise_multiplier=1.0))
    summed(optimizer, gradients(2), gradients(3))
    assert optimizer.steps_taken == 0
    assert not any(p.any() for p in optimizer.params)
    optimizer.finish_step()
    assert optimizer.steps_taken == 1
    assert all((p != 0).all() for p in optimizer.params)
    assert all(p.summed_grad is None for p in optimizer.params)


def test_nothing_of_a_step_is_left_for_the_next() -> None:
    optimizer = private(plan())
    summed(optimizer, gradients(2))
    optimizer.finish_step()
    before = [p.detach().clone() for p in optimizer.params]
    optimizer.finish_step()  # empty, without noise
    assert all(torch.equal(p, b) for p, b in zip(optimizer.params, before, strict=True))


def test_the_update_is_the_noised_sum_over_the_public_batch() -> None:
    sizes = {}
    for readers in (0, 1, 30):
        optimizer = private(plan())
        total = summed(optimizer, gradients(readers))
        optimizer.finish_step()
        moved = torch.cat([p.detach().flatten() for p in optimizer.params])
        torch.testing.assert_close(moved, -total / 10)  # q·n = 0.25 · 40
        sizes[readers] = optimizer.expected_batch_size
    assert set(sizes.values()) == {10.0}


def test_an_empty_sample_is_pure_noise_of_the_plans_scale() -> None:
    for clip, std in (({"all": 0.7}, 0.7), (TWO, 0.5)):
        optimizer = private(plan(noise_multiplier=1.3, clip=clip, steps=150))
        steps: list[Tensor] = []
        for _ in range(150):
            before = torch.cat([p.detach().flatten() for p in optimizer.params])
            optimizer.finish_step()
            after = torch.cat([p.detach().flatten() for p in optimizer.params])
            steps.append((after - before).double())
        noise = torch.cat(steps).numpy()
        check_normal(noise, 1.3 * std / 10)
        with pytest.raises(AssertionError):
            check_normal(noise, 1.3 * std / 8)
        assert optimizer.steps_taken == 150


def test_the_noise_on_the_sum_does_not_depend_on_the_batch() -> None:
    """std = σ·√ΣC² on the sum, for whatever b; dividing comes afterwards."""
    noises = []
    for rate, population in ((0.25, 40), (0.001, 40), (1.0, 10**6)):
        spec = plan(noise_multiplier=2.0, sampling_rate=rate, clip=TWO)
        optimizer = private(spec, population=population)
        for p in optimizer.params:
            p.summed_grad = torch.zeros_like(p, dtype=torch.int64)
        optimizer.add_noise()
        noises.append(torch.cat([p.grad.flatten() for p in optimizer.params]))
    assert torch.equal(noises[0], noises[1])
    assert torch.equal(noises[0], noises[2])


def test_momentum_and_adam_see_the_privatised_gradient_only() -> None:
    for inner in (
        lambda ps: torch.optim.SGD(ps, lr=1.0, momentum=0.9),
        lambda ps: torch.optim.AdamW(ps, lr=1.0),
    ):
        parameter = torch.nn.Parameter(torch.zeros(5))
        optimizer = ReaderOptimizer(
            inner([parameter]),
            plan=plan(noise_multiplier=1.0),
            groups={"all": [parameter]},
            population=40,
            random=SecureRandom.deterministic(1),
        )
        parameter.grad_sample = torch.full((3, 5), 1e3)  # type: ignore[attr-defined]
        optimizer.accumulate()
        seen: list[Tensor] = []
        optimizer.original_optimizer.register_step_pre_hook(
            lambda *_: seen.extend(p.grad for p in optimizer.params)  # noqa: B023
        )
        optimizer.finish_step()
        (expected,) = add_noise(
            [torch.full((5,), int(3 / math.sqrt(5) * 2**40))],
            noise_multiplier=1.0,
            sensitivity=1.0,
            grid=2.0**-40,
            random=SecureRandom.deterministic(1),
        )
        torch.testing.assert_close(
            seen[0], (expected * 2.0**-40 / 10).float(), atol=1e-5, rtol=1e-5
        )


# --- The price -----------------------------------------------------------------------------------


def test_opacus_counts_exactly_the_plan() -> None:
    spec = plan(noise_multiplier=1.1, steps=3)
    optimizer = private(spec)
    for rows in ([gradients(2), gradients(1)], [], [gradients(4)]):
        summed(optimizer, *rows) if rows else None
        optimizer.finish_step()
    assert optimizer.accountant.history == [(1.1, 0.25, 3)]
    oracle = RDPAccountant()
    oracle.history = [(spec.noise_multiplier, spec.sampling_rate, spec.steps)]
    assert optimizer.accountant.get_epsilon(1e-5) == oracle.get_epsilon(1e-5)


def test_a_step_more_than_the_plan_is_refused_before_its_noise() -> None:
    optimizer = private(plan(noise_multiplier=1.0, steps=2))
    optimizer.finish_step()
    optimizer.finish_step()
    before = [p.detach().clone() for p in optimizer.params]
    unused = SecureRandom.deterministic(9)
    optimizer.random = unused
    with pytest.raises(PlanError, match="at most 2"):
        optimizer.finish_step()
    assert optimizer.steps_taken == 2
    assert all(torch.equal(p, b) for p, b in zip(optimizer.params, before, strict=True))
    assert unused.words(1) == SecureRandom.deterministic(9).words(1)


def test_steps_of_earlier_rounds_count() -> None:
    optimizer = private(plan(steps=3), steps_before=2)
    assert optimizer.steps_taken == 2
    optimizer.finish_step()
    with pytest.raises(PlanError):
        optimizer.finish_step()
    with pytest.raises(PlanError):
        private(plan(steps=3), steps_before=3).finish_step()


def test_groups_must_be_the_plans_and_cover_everything_once() -> None:
    first, second = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    for groups in (
        {"all": [first]},  # the second would have neither clipping nor noise
        {"all": [first, second, second]},
        {"adapter": [first], "head": [second]},
        {"all": [first, second], "head": []},
        {"all": [first, second, torch.nn.Parameter(torch.zeros(2))]},
        {},
    ):
        with pytest.raises(PlanError, match="clip groups"):
            ReaderOptimizer(
                torch.optim.SGD([first, second], lr=1.0),
                plan=plan(),
                groups=groups,
                population=40,
                random=SecureRandom.deterministic(1),
            )
    with pytest.raises(PlanError, match="clip groups"):
        ReaderOptimizer(
            torch.optim.SGD([first, second], lr=1.0),
            plan=plan(clip=TWO),
            groups={"adapter": [first, second], "head": [second]},
            population=40,
            random=SecureRandom.deterministic(1),
        )


def test_a_run_that_releases_more_numbers_than_the_noise_has_a_proof_for_is_refused() -> None:
    most = (1 << 40) // 20  # steps for the twenty numbers here
    assert private(plan(steps=most)).plan.steps == most
    with pytest.raises(PlanError, match="numbers that one run releases"):
        private(plan(steps=most + 1))
