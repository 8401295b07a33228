"""Every known way to get DP training wrong (DESIGN §3), planted in the real code, and caught.

A mistake is a small patch of the real modules. Beside it stand the detectors
(`tests/fakes/instruments/detectors.py`) that must fail on it; the first test shows that each of
them passes on the code as it is. The same detectors are the ordinary tests of `client`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from flwr.app import Error, Message, MetricRecord, RecordDict
from tests.fakes.instruments import detectors
from tests.fakes.instruments.detectors import Bench, Detector, current
from torch import Tensor, nn

from presspool.client import client_app
from presspool.client.data.readers import Readers
from presspool.client.engine import optimizer, step_gradients, training
from presspool.client.engine.clipping import counted
from presspool.client.engine.optimizer import ReaderOptimizer
from presspool.client.engine.randomness import SecureRandom
from presspool.client.engine.reader_gradients import ReaderGradients
from presspool.client.engine.sampling import Sample
from presspool.client.engine.step_gradients import StepGradients
from presspool.client.engine.together import joint_tasks
from presspool.client.engine.together.seat import Drawn
from presspool.client.engine.training import RoundWork
from presspool.client.release import release
from presspool.common.base.errors import EngineError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.models.frozen_trunk import FrozenTrunk
from presspool.common.wire.update import AdapterUpdate, pack_update

Plant = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(scope="module")
def bench(contract_body: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench.of(parse_contract(contract_body), tmp_path_factory.mktemp("bench"))


# --- Clipping ------------------------------------------------------------------------------------


def no_clipping(patch: pytest.MonkeyPatch) -> None:
    def factors(gradients: list[Tensor], bound: float) -> Tensor:
        return torch.ones(len(gradients[0]), dtype=torch.float64)

    patch.setattr(optimizer, "clip_factors", factors)


def clipping_after_averaging(patch: pytest.MonkeyPatch) -> None:
    def clip_and_accumulate(self: ReaderOptimizer) -> None:
        count = max(1, len(self.params[0].grad_sample))
        means = [p.grad_sample.sum(0) / count for p in self.params]
        norm = torch.stack([mean.norm() for mean in means]).norm()
        factor = min(1.0, self.plan.sensitivity / max(float(norm), 1e-12))
        for p, mean in zip(self.params, means, strict=True):
            whole = (mean.double() * factor * count / self.grid).long()
            p.summed_grad = whole if p.summed_grad is None else p.summed_grad + whole

    patch.setattr(ReaderOptimizer, "clip_and_accumulate", clip_and_accumulate)


def each_tensor_clipped_by_itself_to_the_whole_bound(patch: pytest.MonkeyPatch) -> None:
    """Sensitivity √tensors · C, and noise for C."""

    def clip_and_accumulate(self: ReaderOptimizer) -> None:
        for p in self.params:
            norms = p.grad_sample.flatten(1).norm(dim=1)
            factors = (self.plan.sensitivity / (norms + 1e-6)).clamp(max=1)
            clipped = counted(p.grad_sample, factors.double(), self.grid)
            p.summed_grad = clipped if p.summed_grad is None else p.summed_grad + clipped

    patch.setattr(ReaderOptimizer, "clip_and_accumulate", clip_and_accumulate)


def records_clipped_in_place_of_readers(patch: pytest.MonkeyPatch) -> None:
    """Reader-level noise for record-level clipping: a reader of k records moves the sum by k·C."""
    add = StepGradients.add

    def by_record(self: StepGradients, drawn: Sequence[Drawn], **how: Any) -> None:
        for seat, sample in drawn:
            each = np.arange(len(sample.records))
            one = Sample(records=sample.records, reader_of=each, readers=len(each))
            add(self, [(seat, one)], **how)

    patch.setattr(StepGradients, "add", by_record)


def a_loss_averaged_over_the_batchs_tokens(patch: pytest.MonkeyPatch) -> None:
    """One reader's length scales every other reader's gradient before it is clipped."""

    real = step_gradients.record_losses

    def losses(trunk: FrozenTrunk, activations: Sequence[Tensor], records: pa.Table) -> Tensor:
        tokens = torch.tensor([len(row) for row in activations])
        weights = tokens * len(tokens) / tokens.sum()
        return real(trunk, activations, records)[: len(tokens)] * weights

    patch.setattr(step_gradients, "record_losses", losses)


def a_loss_averaged_over_the_batch(patch: pytest.MonkeyPatch) -> None:
    real = step_gradients.record_losses

    def losses(*args: Any) -> Tensor:
        own = real(*args)
        return own.mean().expand_as(own)

    patch.setattr(step_gradients, "record_losses", losses)


# --- Noise ---------------------------------------------------------------------------------------


def sigma_divided_by_the_batch(patch: pytest.MonkeyPatch) -> None:
    real = current(optimizer, "add_noise")

    def add_noise(sums: list[Tensor], *, noise_multiplier: float, **rest: Any) -> Any:
        return real(sums, noise_multiplier=noise_multiplier / 9, **rest)

    patch.setattr(optimizer, "add_noise", add_noise)


def noise_for_one_group_where_two_are_clipped(patch: pytest.MonkeyPatch) -> None:
    """max C_g in place of √ΣC_g²."""
    real = current(optimizer, "add_noise")

    def add_noise(sums: list[Tensor], *, sensitivity: float, **rest: Any) -> Any:
        return real(sums, sensitivity=min(sensitivity, max(0.4, sensitivity * 0.8)), **rest)

    patch.setattr(optimizer, "add_noise", add_noise)


def noise_on_some_parameters_only(patch: pytest.MonkeyPatch) -> None:
    real = current(optimizer, "add_noise")

    def add_noise(sums: list[Tensor], **rest: Any) -> list[Tensor]:
        return [*real(sums, **rest)[:-1], sums[-1].double() * rest["grid"]]

    patch.setattr(optimizer, "add_noise", add_noise)


def a_reused_noise_seed(patch: pytest.MonkeyPatch) -> None:
    real = current(optimizer, "add_noise")

    def add_noise(sums: list[Tensor], **rest: Any) -> Any:
        return real(sums, **rest | {"random": SecureRandom.deterministic(0)})

    patch.setattr(optimizer, "add_noise", add_noise)


def a_constant_key(patch: pytest.MonkeyPatch) -> None:
    def urandom(size: int) -> bytes:
        return bytes(size)

    patch.setattr("os.urandom", urandom)


def the_contracts_seed_drives_noise_and_sampling(patch: pytest.MonkeyPatch) -> None:
    real = training.train_round

    def train_round(*args: Any) -> Any:
        model, state, readers, contract, work, compute = args
        seeded = SecureRandom.deterministic(contract.seed, work.round)
        return real(
            model, state, readers, contract, dataclasses.replace(work, random=seeded), compute
        )

    patch.setattr(training, "train_round", train_round)


def the_contracts_seed_drives_sampling(patch: pytest.MonkeyPatch) -> None:
    real_round, real_draw = training.train_round, current(training, "draw")
    stream = [SecureRandom()]

    def train_round(*args: Any) -> Any:
        stream[0] = SecureRandom.deterministic(args[3].seed)
        return real_round(*args)

    def draw(offsets: Any, **rest: Any) -> Any:
        return real_draw(offsets, **rest | {"random": stream[0]})

    patch.setattr(training, "train_round", train_round)
    patch.setattr(training, "draw", draw)


# --- Steps and their price -----------------------------------------------------------------------


def a_new_accountant_each_round(patch: pytest.MonkeyPatch) -> None:
    real = training.private_optimizer

    def private_optimizer(*args: Any, steps_before: int) -> ReaderOptimizer:
        return real(*args, steps_before=0)

    patch.setattr(training, "private_optimizer", private_optimizer)


def batch_size_from_the_data(patch: pytest.MonkeyPatch) -> None:
    real = training.train_round

    def train_round(
        model: Any, state: Any, readers: Readers, contract: Contract, work: RoundWork, compute: Any
    ) -> Any:
        measured = dataclasses.replace(work, population=max(1, readers.readers))
        return real(model, state, readers, contract, measured, compute)

    patch.setattr(training, "train_round", train_round)


def a_sum_divided_by_its_own_sample(patch: pytest.MonkeyPatch) -> None:
    draw, scale = current(training, "draw"), ReaderOptimizer.scale_grad
    size = [1]

    def counted(*args: Any, **rest: Any) -> Any:
        sample = draw(*args, **rest)
        size[0] = max(1, sample.readers)
        return sample

    def scale_grad(self: ReaderOptimizer) -> None:
        self.expected_batch_size = size[0]
        scale(self)

    patch.setattr(training, "draw", counted)
    patch.setattr(ReaderOptimizer, "scale_grad", scale_grad)


def shuffling_in_place_of_poisson(patch: pytest.MonkeyPatch) -> None:
    """Epochs of a shuffled list, cut into equal batches."""
    left: list[int] = []

    def draw(offsets: Any, *, rate: float, random: SecureRandom, **rest: Any) -> Sample:
        readers = len(offsets) - 1
        size = round(rate * readers)
        if len(left) < size:
            left[:] = np.argsort(random.uniform(readers)).tolist()
        batch, left[:] = np.sort(left[:size]), left[size:]
        return Sample(records=offsets[:-1][batch], reader_of=np.arange(size), readers=size)

    patch.setattr(training, "draw", draw)


def fixed_size_batches_in_place_of_poisson(patch: pytest.MonkeyPatch) -> None:
    def draw(offsets: Any, *, rate: float, random: SecureRandom, **rest: Any) -> Sample:
        readers = len(offsets) - 1
        size = round(rate * readers)
        batch = np.sort(np.argsort(random.uniform(readers))[:size])
        return Sample(records=offsets[:-1][batch], reader_of=np.arange(size), readers=size)

    patch.setattr(training, "draw", draw)


def dropped_empty_batches(patch: pytest.MonkeyPatch) -> None:
    real = ReaderOptimizer.finish_step

    def finish_step(self: ReaderOptimizer) -> None:
        if any(p.summed_grad is not None for p in self.params):
            real(self)

    patch.setattr(ReaderOptimizer, "finish_step", finish_step)


# --- What leaves, and when -----------------------------------------------------------------------


def a_run_refused_because_of_its_data(patch: pytest.MonkeyPatch) -> None:
    real = current(client_app, "read_readers")

    def strict(*args: Any, **rest: Any) -> Any:
        return real(*args, **rest | {"strict": True})

    patch.setattr(client_app, "read_readers", strict)


def a_run_refused_for_too_few_readers(patch: pytest.MonkeyPatch) -> None:
    real = current(joint_tasks, "train_together")

    def train_together(*args: Any) -> Any:
        if any(readers.readers < work.population // 4 for readers, work in args[2]):
            raise ValueError("too few readers")
        return real(*args)

    patch.setattr(joint_tasks, "train_together", train_together)


def adapters_silently_untrained(patch: pytest.MonkeyPatch) -> None:
    """Hooks that never fire on LoRA layers (opacus issue 820) leave zeros."""
    real = ReaderGradients.backward

    def backward(self: ReaderGradients, *args: Any, **rest: Any) -> None:
        real(self, *args, **rest)
        for name, p in self._trained.items():
            if "lora_" in name:
                p.grad_sample.zero_()  # type: ignore[attr-defined]

    patch.setattr(ReaderGradients, "backward", backward)


def an_optimizer_without_the_head(patch: pytest.MonkeyPatch) -> None:
    real = current(training, "private_optimizer")

    def adapters_only(trained: Mapping[str, nn.Parameter], *args: Any, **rest: Any) -> Any:
        return real({n: p for n, p in trained.items() if "head" not in n}, *args, **rest)

    patch.setattr(training, "private_optimizer", adapters_only)


def metrics_released(patch: pytest.MonkeyPatch) -> None:
    def pack(update: AdapterUpdate) -> RecordDict:
        content = pack_update(update)
        content["metrics"] = MetricRecord({"loss": 0.7, "num-examples": 12})
        return content

    patch.setattr(release, "pack_update", pack)


def a_count_beside_the_listed_fields(patch: pytest.MonkeyPatch) -> None:
    def pack(update: AdapterUpdate) -> RecordDict:
        content = pack_update(update)
        content.config_records["update"]["readers"] = 12
        return content

    patch.setattr(release, "pack_update", pack)


def error_texts_released(patch: pytest.MonkeyPatch) -> None:
    def release_failure(error: Exception, *, reply_to: Message) -> Message:
        return Message(Error(code=5, reason=str(error)), reply_to=reply_to)

    patch.setattr(client_app, "release_failure", release_failure)


CAUGHT_BY: dict[Plant, tuple[Detector, ...]] = {
    no_clipping: (detectors.sum_moves_at_most_by_the_sensitivity,),
    clipping_after_averaging: (
        detectors.sum_moves_at_most_by_the_sensitivity,
        detectors.each_reader_adds_its_own_clipped_gradient,
    ),
    each_tensor_clipped_by_itself_to_the_whole_bound: (
        detectors.sum_moves_at_most_by_the_sensitivity,
    ),
    records_clipped_in_place_of_readers: (detectors.sum_moves_at_most_by_the_sensitivity,),
    a_loss_averaged_over_the_batchs_tokens: (
        detectors.sum_moves_at_most_by_the_sensitivity,
        detectors.each_reader_adds_its_own_clipped_gradient,
    ),
    a_loss_averaged_over_the_batch: (
        detectors.sum_moves_at_most_by_the_sensitivity,
        detectors.each_reader_adds_its_own_clipped_gradient,
    ),
    sigma_divided_by_the_batch: (detectors.noise_has_the_plans_scale,),
    noise_for_one_group_where_two_are_clipped: (detectors.noise_has_the_plans_scale,),
    noise_on_some_parameters_only: (
        detectors.noise_has_the_plans_scale,
        detectors.empty_samples_are_noised_and_counted,
    ),
    a_reused_noise_seed: (detectors.noise_is_fresh,),
    a_constant_key: (
        detectors.noise_is_fresh,
        detectors.one_contract_gives_new_coins_each_time,
    ),
    the_contracts_seed_drives_noise_and_sampling: (
        detectors.contract_seed_moves_neither_noise_nor_sampling,
        detectors.one_contract_gives_new_coins_each_time,
    ),
    the_contracts_seed_drives_sampling: (
        detectors.contract_seed_moves_neither_noise_nor_sampling,
        detectors.one_contract_gives_new_coins_each_time,
    ),
    a_new_accountant_each_round: (detectors.plan_is_spent_once_over_all_rounds,),
    batch_size_from_the_data: (detectors.steps_divide_by_the_declared_population,),
    a_sum_divided_by_its_own_sample: (detectors.steps_divide_by_the_declared_population,),
    shuffling_in_place_of_poisson: (detectors.samples_are_poisson,),
    fixed_size_batches_in_place_of_poisson: (detectors.samples_are_poisson,),
    dropped_empty_batches: (detectors.empty_samples_are_noised_and_counted,),
    a_run_refused_because_of_its_data: (detectors.bad_data_still_gives_an_update,),
    a_run_refused_for_too_few_readers: (detectors.bad_data_still_gives_an_update,),
    adapters_silently_untrained: (detectors.every_tensor_learns,),
    an_optimizer_without_the_head: (detectors.every_tensor_learns,),
    metrics_released: (detectors.reply_holds_only_the_listed_fields,),
    a_count_beside_the_listed_fields: (detectors.reply_holds_only_the_listed_fields,),
    error_texts_released: (detectors.failures_say_only_a_code,),
}
DETECTORS = sorted({d for found in CAUGHT_BY.values() for d in found}, key=lambda d: d.__name__)


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda detector: detector.__name__)
def test_the_real_code_keeps_the_promise(bench: Bench, detector: Detector) -> None:
    detector(bench)


@pytest.mark.parametrize(
    ("mistake", "detector"),
    [(mistake, detector) for mistake, found in CAUGHT_BY.items() for detector in found],
    ids=lambda part: part.__name__,
)
def test_the_mistake_is_caught(bench: Bench, mistake: Plant, detector: Detector) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mistake(patch)
        # The engine refuses some mistakes by itself, the first time that it sees a model.
        with pytest.raises((AssertionError, EngineError)):
            detector(bench)


def test_no_detector_is_idle() -> None:
    """Every detector there is catches some mistake."""
    found = {
        name
        for name, thing in vars(detectors).items()
        if getattr(thing, "__module__", "") == detectors.__name__
        and list(getattr(thing, "__annotations__", {}).items())
        == [("bench", "Bench"), ("return", "None")]
    }
    assert found == {detector.__name__ for detector in DETECTORS}


def test_bench_is_the_real_thing(bench: Bench, tmp_path: Path) -> None:
    assert isinstance(bench.model.get_base_model().head, nn.Module)
    assert bench.readers.readers == 12
    assert all((array != 0).all() for array in bench.state.values())
