"""Detectors: plain functions that check one promise of the private training path on real code.

Each takes a `Bench`, a tiny but real outlet (BERT, LoRA, the engine, Opacus, Flower's app), and
raises `AssertionError` where the promise is broken. The ordinary tests call them on the code as it
is; `integration/test_planted_mistakes.py` plants the mistakes of DESIGN §3 in that code and demands
that the detector named beside each mistake fails. So a detector is never trusted untested.

Detectors look names up where the code does (`training.draw`, `app.release`), so that whatever is
planted there is what they examine. Random numbers are reproducible wherever a statistic is tested.

Example: `sum_moves_at_most_by_the_sensitivity(Bench.of(contract, folder))`.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict
from numpy.typing import NDArray
from peft import PeftModel
from scipy import stats

from presspool.client import client_app
from presspool.client.data.readers import Readers
from presspool.client.engine import training
from presspool.client.engine.compute import Compute
from presspool.client.engine.optimizer import ReaderOptimizer
from presspool.client.engine.randomness import SecureRandom
from presspool.client.engine.training import RoundWork
from presspool.common.base.errors import PlanError
from presspool.common.contract.contract import Contract
from presspool.common.contract.privacy_plan import PrivacyPlan
from presspool.common.models.adapters import State, digest, read
from presspool.common.models.models import build
from presspool.common.tasks.classification import labelled, labels_of
from presspool.common.wire.flower import become_server, stamp
from presspool.common.wire.update import FAILURES, TrainTask, array_record, pack_task

OUTLET = "north-post"
WORDS = ("minister", "treaty", "vote", "goal", "coach", "shares", "bank", "the", "a", "of", "in")
CANARY = "canary4711"

Vector = NDArray[np.float64]
Delta = dict[str, NDArray[np.float32]]
Detector = Callable[["Bench"], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """One outlet to examine.

    Attributes:
        contract: two rounds of two steps on a tiny base.
        model: the contract's model.
        state: adapter values that are nowhere zero, so that every parameter has a gradient.
        readers: readers with one to four records of one to nine words.
        folder: where outlets' files are written.
    """

    contract: Contract
    model: PeftModel
    state: State
    readers: Readers
    folder: Path

    @classmethod
    def of(cls, contract: Contract, folder: Path) -> Self:
        """A bench on a contract; `folder` is for outlets' files."""
        model = build(contract)
        random = np.random.default_rng(0)
        state = {
            name: array + random.normal(0, 0.3, array.shape).astype(np.float32)
            for name, array in read(model).items()
        }
        readers = made_readers(12, labels=len(labels_of(contract)))
        return cls(contract=contract, model=model, state=state, readers=readers, folder=folder)

    def work(self, round: int = 1, random: SecureRandom | None = None) -> RoundWork:
        """A round's work with a stream that can be drawn again, if no other is given."""
        return RoundWork(
            round=round,
            turn=round,
            population=self.contract.outlets[OUTLET],
            random=random or SecureRandom.deterministic(1, OUTLET, round),
        )


def made_readers(count: int, *, labels: int = 3, seed: int = 0) -> Readers:
    """Readers of ragged size, records of ragged length."""
    random = np.random.default_rng(seed)
    records = random.integers(1, 5, count)
    texts = [" ".join(random.choice(WORDS, random.integers(1, 10))) for _ in range(records.sum())]
    return Readers(
        table=labelled(texts, random.integers(0, labels, len(texts))),
        offsets=np.concatenate([[0], np.cumsum(records)]),
    )


def subset(readers: Readers, chosen: Sequence[int]) -> Readers:
    """Some readers with all their records, in the order given."""
    spans = [np.arange(readers.offsets[i], readers.offsets[i + 1]) for i in chosen]
    index = np.concatenate([np.empty(0, np.int64), *spans])
    return Readers(
        table=readers.take(index),
        offsets=np.concatenate([[0], np.cumsum([len(span) for span in spans])]).astype(np.int64),
    )


def everyone(contract: Contract, **privacy: Any) -> Contract:
    """The contract with one step a run that samples every reader and adds no noise."""
    return contract.replace(
        federation={"rounds": 1, "local_steps": 1},
        privacy={"sampling_rate": 1.0, "noise_multiplier": 0.0, "records_per_reader": 4} | privacy,
    )


def noise_only(contract: Contract, *, steps: int = 1) -> Contract:
    """The contract with one round of plain SGD at rate 1: the answer is -Σ noise / b."""
    return contract.replace(
        federation={"rounds": 1, "local_steps": steps},
        optimizer={"name": "sgd", "learning_rate": 1.0, "momentum": 0.0},
    )


@dataclasses.dataclass(kw_only=True)
class Watched:
    """What one outlet did inside a round, as its optimiser saw it.

    Attributes:
        sums: the clipped sum of each step, before noise.
        noised: the same after noise, before dividing by b.
        samples: reader numbers of each step, by position in the outlet's data.
        optimizers: the optimiser of each round.
    """

    sums: list[Vector] = dataclasses.field(default_factory=list)
    noised: list[Vector] = dataclasses.field(default_factory=list)
    samples: list[list[int]] = dataclasses.field(default_factory=list)
    optimizers: list[ReaderOptimizer] = dataclasses.field(default_factory=list)


@contextmanager
def watching() -> Iterator[Watched]:
    """Looks over the shoulder of `train_round`, whatever is planted in it."""
    seen = Watched()
    add_noise, draw = ReaderOptimizer.add_noise, current(training, "draw")

    def watched_noise(self: ReaderOptimizer) -> None:
        if self not in seen.optimizers:
            seen.optimizers.append(self)
        seen.sums.append(_flat([p.summed_grad.double() * self.grid for p in self.params]))
        add_noise(self)
        seen.noised.append(_flat([p.grad for p in self.params]))

    def watched_draw(offsets: NDArray[np.int64], **rest: Any) -> Any:
        sample = draw(offsets, **rest)
        readers = np.searchsorted(offsets, sample.records, side="right") - 1
        seen.samples.append(sorted(set(readers.tolist())))
        return sample

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReaderOptimizer, "add_noise", watched_noise)
        patch.setattr(training, "draw", watched_draw)
        yield seen


def current(module: ModuleType, name: str) -> Any:
    """What a module means by a name just now."""
    return vars(module)[name]


def train(
    bench: Bench, readers: Readers, *, contract: Contract | None = None, **work: Any
) -> Delta:
    """One round of `training.train_round` on some readers."""
    return training.train_round(
        bench.model, bench.state, readers, contract or bench.contract, bench.work(**work), Compute()
    )


def clipped_sum(bench: Bench, readers: Readers, contract: Contract) -> Vector:
    """S: the clipped sum of a contract's first step, all parameters in one vector."""
    with watching() as seen:
        train(bench, readers, contract=contract)
    return seen.sums[0]


# --- Clipping ------------------------------------------------------------------------------------


def sum_moves_at_most_by_the_sensitivity(bench: Bench) -> None:
    """‖S(D) − S(D′)‖ ≤ S (1 + 1e-5) for neighbours: a reader added to or removed from a sample."""
    random = np.random.default_rng(5)
    pairs: list[tuple[Any, int]] = [(range(1, 12), 0), ([], 3)]
    pairs += [(drawn[1:], drawn[0]) for drawn in random.permuted([range(12)] * 4, axis=1)[:, :6]]
    for clip in (0.005, 0.5, {"adapter": 0.005, "head": 0.4}):
        contract = everyone(bench.contract, clip=clip)
        for others, added in pairs:
            small = clipped_sum(bench, subset(bench.readers, others), contract)
            large = clipped_sum(bench, subset(bench.readers, [added, *others]), contract)
            moved = float(np.linalg.norm(large - small))
            assert moved <= contract.plan.sensitivity * (1 + 1e-5), (clip, others, added)


def each_reader_adds_its_own_clipped_gradient(bench: Bench) -> None:
    """S(D) = Σ S({i}): what a reader adds does not depend on who else is in the sample."""
    for clip in (0.2, 50.0):  # almost all clipped, none clipped
        contract = everyone(bench.contract, clip=clip)
        together = clipped_sum(bench, bench.readers, contract)
        alone = [clipped_sum(bench, subset(bench.readers, [i]), contract) for i in range(12)]
        np.testing.assert_allclose(together, np.sum(alone, axis=0), atol=1e-5 * clip)


def every_tensor_learns(bench: Bench) -> None:
    """Every trainable tensor moves without any noise: no adapter silently stays as it was."""
    for method in ("ffa", "fedit"):
        contract = everyone(bench.contract).replace(adapter={"method": method})
        own = Bench.of(contract, bench.folder)
        moved = train(own, own.readers, contract=contract)
        assert any("lora_B" in name for name in moved)
        still = [name for name, array in moved.items() if not np.abs(array).max() > 1e-6]
        assert not still, still


# --- Noise ---------------------------------------------------------------------------------------


def noise_has_the_plans_scale(bench: Bench) -> None:
    """An outlet without readers answers N(0, (σS/b)²) on every tensor."""
    for clip in (0.7, {"adapter": 0.3, "head": 0.4}):
        contract = noise_only(bench.contract).replace(privacy={"clip": clip})
        std = contract.plan.noise_std / contract.plan.expected_batch(contract.outlets[OUTLET])
        draws: dict[str, list[Vector]] = {}
        for seed in range(12):
            random = SecureRandom.deterministic(seed)
            for name, array in train(bench, empty(), contract=contract, random=random).items():
                draws.setdefault(name, []).append(array.ravel().astype(np.float64))
        for name, parts in draws.items():
            check_normal(np.concatenate(parts), std, name)
        check_normal(np.concatenate([part for parts in draws.values() for part in parts]), std)


def check_normal(values: Vector, std: float, what: str = "") -> None:
    """Kolmogorov and Smirnov find no fault at the 0.1 % level with N(0, std²)."""
    test = stats.kstest(values, "norm", args=(0, std))
    assert test.pvalue > 1e-3, f"{what} is not N(0, {std:.4g}²): {test}"


def empty_samples_are_noised_and_counted(bench: Bench) -> None:
    """No reader, or none in the sample: the same steps, each with noise, each counted."""
    contract = bench.contract.replace(privacy={"sampling_rate": 1e-9})
    for readers in (empty(), bench.readers):
        with watching() as seen:
            delta = train(bench, readers, contract=contract)
        assert seen.samples == [[], []]
        plan = contract.plan
        assert seen.optimizers, "no step was taken"
        assert seen.optimizers[0].accountant.history == [(plan.noise_multiplier, 1e-9, 2)]
        assert all(np.isfinite(array).all() and (array != 0).all() for array in delta.values())


def noise_is_fresh(bench: Bench) -> None:
    """Steps, rounds, outlets and processes never share a draw of noise."""
    contract = noise_only(bench.contract, steps=3)
    noises: list[Vector] = []
    for random in (
        SecureRandom.deterministic(1, OUTLET, 1),
        SecureRandom.deterministic(1, OUTLET, 2),
        SecureRandom.deterministic(1, "south-echo", 1),
        SecureRandom(),
        SecureRandom(),
    ):
        with watching() as seen:
            train(bench, empty(), contract=contract, random=random)
        noises += seen.noised
    for i, left in enumerate(noises):
        for right in noises[:i]:
            # Shared noise would agree in all coordinates; by chance two floats agree in none or so.
            assert np.mean(left == right) < 0.01


def contract_seed_moves_neither_noise_nor_sampling(bench: Bench) -> None:
    """The public seed is for the model's initial values only."""
    other = bench.contract.replace(seed=bench.contract.seed + 1)
    assert build(other) is not bench.model
    records = []
    for contract in (bench.contract, other):
        with watching() as seen:
            train(Bench.of(contract, bench.folder), bench.readers, contract=contract)
        noise = [after - before for before, after in zip(seen.sums, seen.noised, strict=True)]
        records.append((seen.samples, noise))
    (samples, noise), (other_samples, other_noise) = records
    assert samples == other_samples, "the contract's seed moved the sample"
    np.testing.assert_allclose(noise, other_noise, atol=1e-6)


def one_contract_gives_new_coins_each_time(bench: Bench) -> None:
    """Whoever knows the contract, its seed included, knows neither the noise nor the sample."""
    contract = bench.contract.replace(federation={"local_steps": 8}, privacy={"sampling_rate": 0.5})
    runs: list[Watched] = []
    for _ in range(2):
        with watching() as seen:
            train(bench, bench.readers, contract=contract, random=SecureRandom())
        runs.append(seen)
    # 96 fair coins agree by chance with probability 2⁻⁹⁶.
    assert runs[0].samples != runs[1].samples, "the sample can be drawn again"
    noises = [np.concatenate(run.noised) - np.concatenate(run.sums) for run in runs]
    assert np.mean(np.isclose(noises[0], noises[1], atol=1e-9)) < 0.01, (
        "the noise can be drawn again"
    )


def in_a_fork(draw: Callable[[], bytes]) -> bytes:
    """What a forked child of this process draws."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, draw())
        finally:
            os._exit(0)  # never back into pytest
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        drawn = pipe.read()
    os.waitpid(child, 0)
    assert drawn, "the child drew nothing"
    return drawn


# --- Steps and their price -----------------------------------------------------------------------


def plan_is_spent_once_over_all_rounds(bench: Bench) -> None:
    """The rounds' steps add up to the plan, and one more is refused before its noise is drawn."""
    plan, taken = bench.contract.plan, 0
    for round in range(1, bench.contract.federation.rounds + 1):
        with watching() as seen:
            train(bench, bench.readers, round=round)
        (optimizer,) = seen.optimizers
        for sigma, rate, steps in optimizer.accountant.history:
            assert (sigma, rate) == (plan.noise_multiplier, plan.sampling_rate)
            taken += steps
        assert optimizer.steps_taken == taken
    assert taken == plan.steps
    with watching() as seen:
        refused = False
        try:
            train(bench, bench.readers, round=bench.contract.federation.rounds + 1)
        except PlanError:
            refused = True
    assert refused, "a step more than the plan holds was taken"
    assert not seen.noised


def steps_divide_by_the_declared_population(bench: Bench) -> None:
    """The change is −S/b with b = q·n of the contract, however many readers there are."""
    contract = everyone(bench.contract).replace(
        optimizer={"name": "sgd", "learning_rate": 1.0, "momentum": 0.0}
    )
    expected = PrivacyPlan.expected_batch(contract.plan, contract.outlets[OUTLET])
    assert expected == contract.outlets[OUTLET]
    for count in (1, 7, 12):
        with watching() as seen:
            delta = train(bench, subset(bench.readers, range(count)), contract=contract)
        params = [p.detach().numpy() for p in seen.optimizers[0].params]
        order = sorted(delta)
        assert [p.shape for p in params] == [delta[name].shape for name in order]
        assert sum(p.size for p in params) == len(seen.sums[0])
        moved = np.concatenate([delta[name].ravel() for name in order])
        np.testing.assert_allclose(moved, -seen.sums[0] / expected, atol=1e-6)


def samples_are_poisson(bench: Bench) -> None:
    """Sizes vary as a binomial's, readers are independent, and so are consecutive steps."""
    n, rate, steps = 40, 0.25, 2000
    draw, random = current(training, "draw"), SecureRandom.deterministic("poisson")
    offsets = np.arange(n + 1)
    inside = np.zeros((steps, n), bool)
    for row in inside:
        sample = draw(offsets, rate=rate, records_per_reader=1, random=random)
        row[sample.records] = True
    check_poisson(inside, rate)


def check_poisson(inside: NDArray[np.bool_], rate: float) -> None:
    """Whether (steps, readers) coins are independent with probability `rate`: four statistics."""
    steps, n = inside.shape
    sizes = inside.sum(1)
    # The number of all heads, Pearson's dispersion of the sizes, and its fair share of empties.
    assert abs(sizes.sum() - steps * n * rate) < 4 * math.sqrt(steps * n * rate * (1 - rate))
    dispersion = ((sizes - n * rate) ** 2).sum() / (n * rate * (1 - rate))
    assert stats.chi2.ppf(1e-4, steps) < dispersion < stats.chi2.ppf(1 - 1e-4, steps)
    centred = (inside - rate) / math.sqrt(rate * (1 - rate))
    within = centred.T @ centred / math.sqrt(steps)  # standard normal off the diagonal
    across = centred[:-1].T @ centred[1:] / math.sqrt(steps)
    assert np.abs(within[~np.eye(n, dtype=bool)]).max() < 5, "readers are not independent"
    assert np.abs(across).max() < 5, "steps are not independent"
    share = (np.diagonal(across) / math.sqrt(n)).sum()
    assert abs(share) < 5, "a reader's coin depends on its last one"


# --- What leaves ---------------------------------------------------------------------------------


def empty() -> Readers:
    """No readers at all."""
    return made_readers(0)


def write_outlet(bench: Bench, data: Path, name: str = OUTLET) -> Path:
    """The outlet's own settings file, with reproducible noise."""
    path = bench.folder / f"{name}-{data.name}.toml"
    path.write_text(f'name = "{name}"\ndata = "{data}"\ndeterministic = 1\n')
    return path


def write_data(bench: Bench, readers: Readers, name: str = "good.parquet") -> Path:
    """An outlet's Parquet file."""
    labels = labels_of(bench.contract)
    owners = np.repeat(np.arange(readers.readers), np.diff(readers.offsets))
    rows = {
        "reader": [f"r{i}" for i in owners],
        "text": readers.table["text"],
        "label": [labels[i] for i in readers.table["label"].to_pylist()],
    }
    path = bench.folder / name
    pq.write_table(pa.table(rows), path)
    return path


def task_of(bench: Bench, **changes: Any) -> TrainTask:
    """The coordinator's task for round 1, with some fields changed."""
    task = TrainTask(
        contract=bench.contract.canonical().decode(),
        digest=bench.contract.digest,
        round=1,
        state=bench.state,
    )
    return dataclasses.replace(task, **changes)


def ask(settings: Path, content: RecordDict, *, loopback: bool = False) -> Message:
    """What an outlet's Flower app replies to a message, of a coordinator here or anywhere."""
    client_app._simulated.cache_clear()  # as a node that has just started
    become_server(run_id=1)
    message = stamp(Message(content, 2, "train", group_id="1"), "1-1")
    context = Context(
        run_id=1,
        node_id=2,
        node_config={"outlet-config": str(settings), client_app.LOOPBACK: loopback},
        state=RecordDict(),
        run_config={},
    )
    return client_app.app(message, context)


def reply_holds_only_the_listed_fields(bench: Bench) -> None:
    """One array record and five public fields; no metric, no count, no name of anything else."""
    reply = ask(write_outlet(bench, write_data(bench, bench.readers)), pack_task(task_of(bench)))
    assert reply.has_content()
    content = reply.content
    assert not reply.has_error()
    assert set(content) == {"adapter", "update"}
    assert not content.metric_records
    assert dict(content.config_records["update"]) == {
        "outlet": OUTLET,
        "round": 1,
        "contract": bench.contract.digest,
        "base": digest(bench.state),
    }
    arrays = content.array_records["adapter"]
    assert {n: (a.dtype, tuple(a.shape)) for n, a in arrays.items()} == {
        name: ("float32", array.shape) for name, array in bench.state.items()
    }
    assert all(len(a.data) == 4 * math.prod(a.shape) for a in arrays.values())
    check_metadata(reply)


def check_metadata(reply: Message) -> None:
    """Flower's envelope says what the request said, and when; nothing of the outlet's."""
    fields = dict(reply.metadata.__dict__)
    times = {fields.pop(name) for name in ("_created_at", "_ttl")}
    assert all(isinstance(time, float) for time in times)
    assert {name.removeprefix("_"): value for name, value in fields.items()} == {
        "run_id": 1,
        "message_id": "",
        "src_node_id": 2,
        "dst_node_id": 1,
        "reply_to_message_id": "1-1",
        "group_id": "1",
        "message_type": "train",
        "delivered_at": "",
        "src_task_id": None,
        "dst_task_id": 1,
    }


def bad_data_still_gives_an_update(bench: Bench) -> None:
    """Missing, empty or unreadable data, and fewer readers than declared: a normal answer."""
    broken = {"none.parquet": None, "empty.csv": b"", "garbage.parquet": bytes(range(256)) * 9}
    files = [bench.folder / name for name in broken]
    for path, body in zip(files, broken.values(), strict=True):
        if body is not None:
            path.write_bytes(body)
    unlabelled = bench.folder / "unlabelled.csv"
    unlabelled.write_text(f"reader,text,label\na,b,no-such-label\n,{CANARY},world\n")
    few = write_data(bench, subset(bench.readers, [0]), "few.parquet")
    for path in [*files, unlabelled, few]:
        reply = ask(write_outlet(bench, path), pack_task(task_of(bench)))
        assert reply.has_content(), (path.name, reply)
        arrays = reply.content.array_records["adapter"].values()
        assert all(np.isfinite(np.frombuffer(a.data, "<f4")).all() for a in arrays)


def failures_say_only_a_code(bench: Bench) -> None:
    """A canary in data, labels, paths and tasks is in no byte of a failure's reply."""
    data = bench.folder / f"{CANARY}.csv"
    data.write_text(f"reader,text,label\n{CANARY},{CANARY},{CANARY}\n")
    here = write_outlet(bench, data)
    stranger = write_outlet(bench, data, name=f"outlet-{CANARY}")
    task = task_of(bench)
    wrong_type = pack_task(task)
    wrong_type["task"] = ConfigRecord({"contract": CANARY, "digest": CANARY, "round": "1"})
    shapes = {f"{name}-{CANARY}": array for name, array in bench.state.items()}
    for settings, content, word in (
        (stranger, pack_task(task), "round-not-agreed"),
        (here, pack_task(task_of(bench, digest=f"sha256:{CANARY}")), "contract-invalid"),
        (here, pack_task(task_of(bench, contract=CANARY)), "contract-invalid"),
        (here, pack_task(task_of(bench, round=3)), "round-not-agreed"),
        (
            here,
            RecordDict({"adapter": array_record(shapes), "task": pack_task(task)["task"]}),
            "adapter-names",
        ),
        (bench.folder / f"{CANARY}.toml", pack_task(task), "outlet-misconfigured"),
        (here, wrong_type, "internal-error"),
    ):
        check_failure(ask(settings, content), word)


def check_failure(reply: Message, word: str) -> None:
    """A failure is one code and its fixed word, in every byte that goes over the wire."""
    assert reply.has_error(), reply
    assert not reply.has_content()
    assert (FAILURES[reply.error.code], reply.error.reason) == (word, word)
    assert CANARY.encode() not in reply.deflate()
    assert CANARY not in repr(reply)
    check_metadata(reply)


def _flat(tensors: Sequence[Any]) -> Vector:
    flat: Vector = torch.cat([t.detach().flatten() for t in tensors]).double().numpy().copy()
    return flat
