"""One round of private training, with the real engine, on a tiny model.

What must hold whatever is planted stands in `tests/fakes/instruments/detectors.py`; these are the
ordinary calls of those detectors, and everything else that a round promises.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tests.fakes.instruments import detectors
from tests.fakes.instruments.detectors import (
    Bench,
    clipped_sum,
    current,
    empty,
    everyone,
    subset,
    train,
    watching,
)
from torch import Tensor, nn

from presspool.client.data.readers import Readers
from presspool.client.engine import step_gradients, training
from presspool.client.engine.compute import Compute
from presspool.client.engine.randomness import SecureRandom
from presspool.client.engine.step_gradients import record_losses
from presspool.client.engine.training import private_optimizer
from presspool.common.base.errors import PlanError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.contract.contract_schema import Optimizer
from presspool.common.contract.doors import task_of
from presspool.common.contract.schedule import rate_factor
from presspool.common.models.adapters import load, trainable
from presspool.common.models.frozen_trunk import FrozenTrunk
from presspool.common.tasks.classification import labelled


@pytest.fixture(scope="module")
def bench(contract_body: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench.of(parse_contract(contract_body), tmp_path_factory.mktemp("bench"))


@pytest.mark.parametrize(
    "detector",
    [
        detectors.sum_moves_at_most_by_the_sensitivity,
        detectors.each_reader_adds_its_own_clipped_gradient,
        detectors.every_tensor_learns,
        detectors.noise_has_the_plans_scale,
        detectors.noise_is_fresh,
        detectors.empty_samples_are_noised_and_counted,
        detectors.contract_seed_moves_neither_noise_nor_sampling,
        detectors.one_contract_gives_new_coins_each_time,
        detectors.plan_is_spent_once_over_all_rounds,
        detectors.steps_divide_by_the_declared_population,
        detectors.samples_are_poisson,
    ],
    ids=lambda detector: detector.__name__,
)
def test_promise(bench: Bench, detector: detectors.Detector) -> None:
    detector(bench)


# --- What a round computes -----------------------------------------------------------------------


def by_hand(bench: Bench, contract: Contract, texts: Sequence[str], labels: Tensor) -> Tensor:
    """The gradient of the mean loss of some records, by torch's own autograd: one vector."""
    load(bench.model, bench.state)
    bench.model.eval().zero_grad()
    logits = [
        bench.model(**task_of(contract).encode([text])) for text in texts
    ]  # one record at a time, without padding
    nn.functional.cross_entropy(torch.cat(logits), labels).backward()  # type: ignore[no-untyped-call]
    parameters = trainable(bench.model).values()
    flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    bench.model.zero_grad()
    return flat


def test_a_step_is_the_mechanism_of_the_plan(bench: Bench) -> None:
    """Mean of a reader's records, clip to C, sum, divide by b: against torch's own autograd."""
    contract = everyone(bench.contract, clip=0.5).replace(
        optimizer={"name": "sgd", "learning_rate": 0.7}
    )
    total = torch.zeros(sum(array.size for array in bench.state.values()))
    for reader in range(bench.readers.readers):
        own = np.arange(bench.readers.offsets[reader], bench.readers.offsets[reader + 1])
        labels = torch.tensor(bench.readers.take(own)["label"].to_pylist())
        gradient = by_hand(bench, contract, bench.readers.take(own)["text"].to_pylist(), labels)
        total += gradient * min(1.0, 0.5 / float(gradient.norm()))
    delta = train(bench, bench.readers, contract=contract)
    got = np.concatenate([delta[name].ravel() for name in sorted(delta)])
    np.testing.assert_allclose(got, -0.7 * total.numpy() / 30, atol=1e-6)


def test_at_most_k_records_make_up_a_readers_gradient(bench: Bench) -> None:
    """A reader's step with k = 1 is that of one of its records."""
    contract = everyone(bench.contract, clip=100.0, records_per_reader=1)
    reader = int(np.diff(bench.readers.offsets).argmax())
    first, last = bench.readers.offsets[reader : reader + 2].tolist()
    got = clipped_sum(bench, subset(bench.readers, [reader]), contract)
    alone = []
    for record in range(first, last):
        labels = torch.tensor(bench.readers.take(np.array([record]))["label"].to_pylist())
        texts = bench.readers.take(np.array([record]))["text"].to_pylist()
        alone.append(by_hand(bench, contract, texts, labels).numpy())
    order = sorted(bench.state)
    with watching() as seen:
        train(bench, empty(), contract=contract)
    shapes = [bench.state[name].shape for name in order]
    assert [tuple(p.shape) for p in seen.optimizers[0].params] == shapes
    assert min(np.abs(got - one).max() for one in alone) < 1e-6


def test_two_groups_have_their_own_clip_and_rate(bench: Bench) -> None:
    contract = everyone(bench.contract, clip={"adapter": 0.01, "head": 0.4}).replace(
        optimizer={"name": "sgd", "learning_rate": {"adapter": 1.0, "head": 10.0}}
    )
    reader = subset(bench.readers, [0])
    delta = {name: array * 30 for name, array in train(bench, reader, contract=contract).items()}
    head = math.sqrt(sum(float(np.sum(a**2)) for n, a in delta.items() if "head" in n))
    adapter = math.sqrt(sum(float(np.sum(a**2)) for n, a in delta.items() if "lora" in n))
    assert head == pytest.approx(10 * 0.4, rel=1e-4)
    assert adapter == pytest.approx(0.01, rel=1e-3)


def test_records_are_the_units_where_the_contract_says_so(bench: Bench) -> None:
    contract = everyone(bench.contract, clip=0.2, unit="record", records_per_reader=1)
    assert contract.plan.unit == "record"
    together = clipped_sum(bench, bench.readers, contract)
    records = bench.readers.records
    alone = []
    for record in range(records):
        one = Readers(
            table=bench.readers.table.slice(record, 1),
            offsets=np.array([0, 1]),
        )
        alone.append(clipped_sum(bench, one, everyone(bench.contract, clip=0.2)))
    assert max(np.linalg.norm(one) for one in alone) <= 0.2 * (1 + 1e-5)
    np.testing.assert_allclose(together, np.sum(alone, axis=0), atol=2e-6)


def test_records_are_sampled_one_by_one(bench: Bench) -> None:
    contract = bench.contract.replace(
        privacy={"unit": "record", "sampling_rate": 0.5}, federation={"local_steps": 20}
    )
    sizes: list[int] = []
    draw = current(training, "draw")

    def counted(offsets: Any, **rest: Any) -> Any:
        assert offsets.tolist() == list(range(bench.readers.records + 1))
        sample = draw(offsets, **rest)
        sizes.append(len(sample.records))
        assert sample.readers == len(sample.records)
        return sample

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "draw", counted)
        train(bench, bench.readers, contract=contract)
    assert len(sizes) == 20
    assert len(set(sizes)) > 3


# --- Speed knobs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [1, 2, 5, 11])
def test_the_physical_batch_does_not_change_the_result(bench: Bench, tokens: int) -> None:
    contract = bench.contract.replace(privacy={"sampling_rate": 0.7})
    deltas = [
        training.train_round(
            bench.model,
            bench.state,
            bench.readers,
            contract,
            bench.work(),
            Compute(device="cpu", tokens=size),
        )
        for size in (64, tokens)
    ]
    for name in deltas[0]:
        np.testing.assert_allclose(deltas[0][name], deltas[1][name], atol=2e-6)


# --- Data never stops a round --------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError("bad"), torch.cuda.OutOfMemoryError()])
def test_a_reader_who_cannot_be_computed_is_left_out(bench: Bench, error: Exception) -> None:
    """And nobody else changes: the same as a data set without that reader."""
    contract = everyone(bench.contract)
    marked = bench.readers.take(np.arange(bench.readers.offsets[4], bench.readers.offsets[5]))[
        "text"
    ].to_pylist()
    run = FrozenTrunk.run_tokens

    def failing(trunk: FrozenTrunk, ids: list[Tensor]) -> list[Tensor]:
        bad = [trunk.tokens(text).tolist() for text in marked]
        if any(one.tolist() in bad for one in ids):
            raise error
        return run(trunk, ids)

    others = [i for i in range(12) if i != 4]
    expected = clipped_sum(bench, subset(bench.readers, others), contract)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FrozenTrunk, "run_tokens", failing)
        got = clipped_sum(bench, bench.readers, contract)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_an_outlet_whose_every_reader_fails_answers_with_noise(bench: Bench) -> None:
    def failing(*_: Any) -> Tensor:
        raise ValueError("a reader's text")

    with pytest.MonkeyPatch.context() as patch, watching() as seen:
        patch.setattr(step_gradients, "record_losses", failing)
        delta = train(bench, bench.readers)
    assert not any(total.any() for total in seen.sums)
    assert all(np.isfinite(array).all() and (array != 0).all() for array in delta.values())


def test_weights_that_explode_still_give_a_finite_noisy_answer(bench: Bench) -> None:
    """A coordinator that sends huge values gets noise, from everybody alike."""
    state = {name: np.full_like(array, 1e30) for name, array in bench.state.items()}
    for readers in (bench.readers, empty()):
        with watching() as seen:
            training.train_round(
                bench.model, state, readers, bench.contract, bench.work(), Compute()
            )
        assert len(seen.noised) == 2
        bound = bench.contract.plan.sensitivity
        for total in seen.sums:
            assert np.linalg.norm(total) <= bound * bench.readers.readers
        assert all(np.isfinite(noise).all() for noise in seen.noised)


# --- Reproducibility -----------------------------------------------------------------------------


def test_a_deterministic_round_is_byte_identical(bench: Bench) -> None:
    deltas = [train(bench, bench.readers) for _ in range(2)]
    assert {n: a.tobytes() for n, a in deltas[0].items()} == {
        n: a.tobytes() for n, a in deltas[1].items()
    }


def test_without_the_switch_no_two_rounds_are_alike(bench: Bench) -> None:
    deltas = [train(bench, bench.readers, random=SecureRandom()) for _ in range(2)]
    assert all((deltas[0][name] != deltas[1][name]).any() for name in deltas[0])


def test_torchs_generator_plays_no_part(bench: Bench) -> None:
    deltas = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)
        deltas.append(train(bench, bench.readers))
    assert all(np.array_equal(deltas[0][name], deltas[1][name]) for name in deltas[0])


def test_nothing_stays_in_the_model_between_tasks(bench: Bench) -> None:
    """One worker serves many outlets with one model: the next answer must not know the last."""
    alone = train(bench, subset(bench.readers, [0, 1]))
    train(bench, bench.readers, round=2)
    again = train(bench, subset(bench.readers, [0, 1]))
    assert all(np.array_equal(alone[name], again[name]) for name in alone)


def test_a_failed_round_leaves_the_model_fit_for_the_next(bench: Bench) -> None:
    expected = train(bench, bench.readers)
    with pytest.raises(PlanError):
        train(bench, bench.readers, round=99)
    got = train(bench, bench.readers)
    assert all(np.array_equal(expected[name], got[name]) for name in got)


def test_a_state_that_does_not_fit_is_refused(bench: Bench) -> None:
    state = dict(list(bench.state.items())[1:])
    with pytest.raises(ValueError, match="does not fit"):
        training.train_round(
            bench.model, state, bench.readers, bench.contract, bench.work(), Compute()
        )


# --- Losses and rates ----------------------------------------------------------------------------


def losses_of(bench: Bench, texts: list[str], labels: Tensor) -> Tensor:
    trunk = FrozenTrunk(bench.model, bench.contract)
    activations, records = trunk.run(texts), labelled(texts, labels.tolist())
    found = torch.empty(len(texts))
    for places in trunk.batches(activations):
        batch = [activations[place] for place in places]
        found[places] = record_losses(trunk, batch, records.take(places))[: len(places)]
    return found.detach()


def test_a_records_loss_does_not_depend_on_its_batch(bench: Bench) -> None:
    texts = bench.readers.take(np.arange(bench.readers.records))["text"].to_pylist()
    labels = torch.tensor(bench.readers.table["label"].to_pylist())
    together = losses_of(bench, texts, labels)
    for i in range(len(texts)):
        assert torch.equal(
            together[i : i + 1], losses_of(bench, texts[i : i + 1], labels[i : i + 1])
        )


def test_a_text_beyond_the_length_limit_is_cut(bench: Bench) -> None:
    limit = bench.contract.task.max_length
    label = torch.tensor([0])
    long = losses_of(bench, ["goal " * 500], label)
    cut = losses_of(bench, ["goal " * (limit - 2)], label)
    torch.testing.assert_close(long, cut)


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, [1, 1, 1, 1, 1, 1]),
        ("constant", 2, [1 / 3, 2 / 3, 1, 1, 1, 1]),
        ("cosine", 0, [1, 0.933013, 0.75, 0.5, 0.25, 0.066987]),
        ("cosine", 2, [1 / 3, 2 / 3, 1, 0.853553, 0.5, 0.146447]),
        ("cosine", 9, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
        ("cosine", 6, [1 / 7, 2 / 7, 3 / 7, 4 / 7, 5 / 7, 6 / 7]),
    ],
)
def test_rate_schedule(schedule: Any, warmup: int, expected: list[float]) -> None:
    spec = Optimizer(learning_rate={"all": 1.0}, schedule=schedule, warmup_steps=warmup)
    assert [rate_factor(spec, step, 6) for step in range(6)] == pytest.approx(expected, abs=1e-6)


def test_the_schedule_runs_over_the_rounds_of_the_whole_run(bench: Bench) -> None:
    contract = bench.contract.replace(
        privacy={"sampling_rate": 1e-9},
        optimizer={"schedule": "cosine", "learning_rate": {"adapter": 2.0, "head": 3.0}},
    )
    rates: list[tuple[float, ...]] = []
    finish = current(training, "ReaderOptimizer").finish_step

    def watched(self: Any) -> None:
        rates.append(tuple(group["lr"] for group in self.param_groups))
        finish(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(current(training, "ReaderOptimizer"), "finish_step", watched)
        for round in (1, 2):
            train(bench, empty(), contract=contract, round=round)
    factors = [0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(4)]
    np.testing.assert_allclose(rates, [(2 * f, 3 * f) for f in factors])


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_the_contracts_optimiser_is_made_private(bench: Bench, name: str, kind: type) -> None:
    contract = bench.contract.replace(
        optimizer={"name": name, "momentum": 0.5, "weight_decay": 0.1}
    )
    optimizer = private_optimizer(trainable(bench.model), contract, bench.work(), steps_before=1)
    assert type(optimizer.original_optimizer) is kind
    (group,) = optimizer.param_groups
    assert group.get("momentum", 0.5) == 0.5
    assert group["weight_decay"] == (0.1 if name == "adamw" else 0)
    assert {id(p) for p in optimizer.params} == {
        id(p) for p in bench.model.parameters() if p.requires_grad
    }
    assert (optimizer.plan, optimizer.steps_taken) == (contract.plan, 1)
    assert optimizer.expected_batch_size == pytest.approx(0.3 * 30)


def test_training_switches_dropout_off(bench: Bench) -> None:
    bench.model.train()
    train(bench, subset(bench.readers, [0]))
    assert not any(module.training for module in bench.model.modules())
