"""Opacus's private optimiser, told to do exactly what the privacy plan says.

`ReaderOptimizer` is Opacus's `DPOptimizer`: it clips, sums, adds noise, divides by the expected
batch and steps. Three of its parts are ours, because the plan demands them:

* clipping by parameter group ("all", or "adapter" and "head"), a non-finite gradient counting as
  zero: one reader's broken record must neither stop a run nor escape the clip; what is clipped is
  counted on a grid, so that sums are exact (`presspool.client.engine.clipping`);
* noise from the outlet's own CSPRNG on that grid (`presspool.client.engine.noise`);
* b = q·n from the declared population, never from a data loader's length.

Every logical step is counted by Opacus's accountant; one step more than the plan allows is refused
before its noise is drawn.

Invariant: with gradients of shape (readers, …) in `p.grad_sample`, the step's sum, whole numbers in
`p.summed_grad`, moves by at most `plan.sensitivity / grid` (L2, exactly) when one reader is added
or removed.

Example: `optimizer.accumulate()` after each micro-batch, `optimizer.finish_step()` once a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from opacus.accountants import RDPAccountant
from opacus.optimizers import DPOptimizer

from presspool.client.engine.clipping import clip_factors, counted
from presspool.client.engine.noise import add_noise
from presspool.client.engine.randomness import SecureRandom
from presspool.common.base.errors import PlanError
from presspool.common.contract.privacy_plan import (
    GRID_BITS,
    LARGEST_RELEASE,
    PrivacyPlan,
    grid_step,
)


class ReaderOptimizer(DPOptimizer):  # type: ignore[misc]
    """Per-reader clipping, secure noise and step accounting around a torch optimiser.

    Args:
        optimizer: the optimiser that applies the privatised gradient.
        plan: the run's privacy plan.
        groups: parameters of each of the plan's clip groups.
        population: declared population of this outlet.
        random: the outlet's secret stream.
        noise_share: of the plan's noise that this outlet adds (its trust model's).
        grid_bits: how many binary places the grid is finer than S (its trust model's).
        steps_before: steps of the plan that earlier rounds have taken.

    Raises:
        PlanError: the groups are not the plan's, or do not cover the optimiser's parameters; or a
            run of so many numbers that the noise's law is not near enough (`LARGEST_RELEASE`).

    Attributes:
        grid: γ, the step that sums and noise are counted in.
        noisy: the last step's noised sums of all parameters, int64 in steps of γ.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        plan: PrivacyPlan,
        groups: Mapping[str, Sequence[Any]],
        population: int,
        random: SecureRandom,
        noise_share: float = 1.0,
        grid_bits: int = GRID_BITS,
        steps_before: int = 0,
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=plan.noise_multiplier,
            max_grad_norm=plan.sensitivity,
            expected_batch_size=plan.expected_batch(population),
            loss_reduction="mean",
        )
        self.plan, self.groups, self.random = plan, groups, random
        self.noise_share, self.grid = noise_share, grid_step(plan.sensitivity, grid_bits)
        self.noisy: list[Any] = []
        self._check_groups()
        self._check_size()
        self.steps_before = steps_before
        self.accountant = RDPAccountant()
        self.attach_step_hook(self.accountant.get_optimizer_hook_fn(plan.sampling_rate))

    @property
    def steps_taken(self) -> int:
        """Steps of the plan taken so far, earlier rounds included, as Opacus counted them."""
        counted: int = sum(count for _, _, count in self.accountant.history)
        return self.steps_before + counted

    def accumulate(self) -> None:
        """Clip and add the per-reader gradients of one micro-batch to the step's sum."""
        self.signal_skip_step(do_skip=True)
        self.step()
        self.zero_grad(set_to_none=True)

    def finish_step(self) -> None:
        """Add noise to the step's sum, count it, and update the parameters.

        Works without any `accumulate` before it: an empty sample is pure noise.

        Raises:
            PlanError: the plan's steps are used up.
        """
        if self.steps_taken >= self.plan.steps:
            raise PlanError("privacy steps", expected=f"at most {self.plan.steps}", got="one more")
        for p in self.params:
            p.grad_sample = p.new_zeros((0, *p.shape))
        self.signal_skip_step(do_skip=False)
        self.step()
        self.zero_grad(set_to_none=True)

    def clip_and_accumulate(self) -> None:
        """Clip each reader's gradient to C_g in every group and count it into `p.summed_grad`."""
        for group, bound in self.plan.clip.items():
            parameters = self.groups[group]
            factors = clip_factors([p.grad_sample for p in parameters], bound)
            for p in parameters:
                whole = counted(p.grad_sample, factors, self.grid)
                p.summed_grad = whole if p.summed_grad is None else p.summed_grad + whole

    def add_noise(self) -> None:
        """Put the noised sum of all parameters, drawn as one vector, into `p.grad`."""
        self.noisy = add_noise(
            [p.summed_grad for p in self.params],
            noise_multiplier=self.plan.noise_multiplier * self.noise_share,
            sensitivity=self.plan.sensitivity,
            grid=self.grid,
            random=self.random,
        )
        for p, total in zip(self.params, self.noisy, strict=True):
            p.grad = (total.double() * self.grid).view_as(p).to(p.dtype)

    def _check_size(self) -> None:
        released = sum(p.numel() for p in self.params) * self.plan.steps
        if released > LARGEST_RELEASE:
            raise PlanError(
                "numbers that one run releases, trained ones times steps",
                expected=f"at most {LARGEST_RELEASE}",
                got=released,
                advice="fewer steps, or a smaller adapter",
            )

    def _check_groups(self) -> None:
        grouped = {id(p) for parameters in self.groups.values() for p in parameters}
        count = sum(len(parameters) for parameters in self.groups.values())
        if (
            set(self.groups) != set(self.plan.clip)
            or grouped != {id(p) for p in self.params}
            or count != len(grouped)
        ):
            raise PlanError(
                "clip groups",
                expected=f"{sorted(self.plan.clip)}, each parameter in one",
                got=f"{sorted(self.groups)}",
            )
