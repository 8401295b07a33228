"""Several outlets in one pass: each has, byte by byte, what it has alone; and what breaks it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.fakes.instruments.detectors import WORDS, Bench, current, made_readers, subset

from presspool.client.data.readers import Readers
from presspool.client.engine import fused_lora, training
from presspool.client.engine.alike import try_rows
from presspool.client.engine.compute import Compute
from presspool.client.engine.randomness import SecureRandom
from presspool.client.engine.step_gradients import StepGradients
from presspool.client.engine.together import row_weights
from presspool.client.engine.together.row_weights import RowWeights
from presspool.client.engine.together.seat import Lot, Seat
from presspool.client.engine.training import Change, RoundWork, train_together
from presspool.common.base.errors import PlanError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.models.frozen_trunk import FrozenTrunk
from presspool.common.runs.run_file import freeze
from presspool.common.tasks.classification import labelled

Bytes = dict[str, bytes]
METHODS: tuple[str, ...] = (
    "ffa",
    "fedit",
    "rolora",
    "dora",
    "head",
    "bitfit",
    "layernorm",
    "fed-sb",
    "ia3",
)
BY_ROWS = ("ffa", "fedit", "rolora", "head", "fed-sb", "ia3", "bottleneck")
METHODS += ("bottleneck",)


@dataclass(frozen=True)
class Pool:
    """Outlets of one contract that start from one adapter."""

    bench: Bench
    contract: Contract
    data: Sequence[Readers]

    def works(self, number: int = 1) -> list[RoundWork]:
        """Streams that can be drawn again, and declared populations of every size."""
        return [
            RoundWork(
                round=number,
                turn=number,
                population=7 + 11 * place,
                random=SecureRandom.deterministic("joint", place, number),
            )
            for place in range(len(self.data))
        ]

    def together(
        self, works: Sequence[RoundWork] = (), *, compute: Compute | None = None
    ) -> list[Any]:
        outlets = list(zip(self.data, works or self.works(), strict=True))
        bench, compute = self.bench, compute or Compute(device="cpu")
        found = train_together(bench.model, bench.state, outlets, self.contract, compute)
        return [_bytes(one) if isinstance(one, dict) else one for one in found]

    def tried(self) -> Compute:
        """With the outcome of the proof that rows may have an adapter each."""
        compute = Compute(device="cpu")
        try_rows(self.bench.model, self.bench.state, self.contract, compute)
        return compute

    def unproved(self) -> Compute:
        """As if they might, whatever the proof says."""
        return Compute(device="cpu", by_rows=(self.contract.digest, True))

    def alone(self) -> list[Bytes]:
        return [
            _bytes(
                training.train_round(
                    self.bench.model, self.bench.state, readers, self.contract, work, Compute()
                )
            )
            for readers, work in zip(self.data, self.works(), strict=True)
        ]


def _bytes(change: Change) -> Bytes:
    return {name: array.tobytes() for name, array in change.items()}


def ragged(seed: int, labels: int) -> Readers:
    """Records of all widths of a contract of 40 tokens, some of its greatest length."""
    random = np.random.default_rng(seed)
    lengths = random.choice([1, 3, 9, 14, 20, 29, 38, 60], 17)
    texts = [" ".join(random.choice(WORDS, length)) for length in lengths]
    table = labelled(texts, random.integers(0, labels, len(texts)))
    return Readers(table=table, offsets=np.array([0, 1, 2, 5, 9, 10, 14, 17]))


def outlets_of(labels: int) -> list[Readers]:
    """Usual, ragged, nobody, a single reader, and the same texts at two outlets."""
    usual = made_readers(12, labels=labels)
    return [
        usual,
        ragged(1, labels),
        subset(usual, []),
        subset(usual, [3]),
        ragged(2, labels),
        ragged(1, labels),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("joint")


@pytest.fixture(scope="module")
def made(contract_body: dict[str, Any], folder: Path) -> Callable[..., Pool]:
    def make(**changes: Any) -> Pool:
        steps = {"federation": {"rounds": 2, "local_steps": 3}, "task": {"max_length": 40}}
        base = parse_contract(contract_body).replace(**steps)
        contract = base.replace(privacy={"sampling_rate": 0.6})
        contract = freeze(contract.replace(**changes), fetch=False)
        return Pool(Bench.of(contract, folder), contract, outlets_of(3))

    return make


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_the_bytes_of_outlets_alone(
    made: Callable[..., Pool], method: str
) -> None:
    pool = made(adapter={"method": method})
    expected, compute = pool.alone(), pool.tried()
    assert compute.by_rows == (pool.contract.digest, method in BY_ROWS)
    assert pool.together() == expected
    assert pool.together(compute=compute) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"privacy": {"unit": "record", "records_per_reader": 1}},
        {"privacy": {"records_per_reader": 1}},
        {"privacy": {"records_per_reader": 4, "sampling_rate": 1.0}},
        {"privacy": {"sampling_rate": 1e-9}},
        {"privacy": {"clip": {"adapter": 0.01, "head": 0.3}}},
        {"optimizer": {"name": "adamw", "learning_rate": {"adapter": 0.01, "head": 0.1}}},
        {"optimizer": {"name": "sgd", "momentum": 0.9, "schedule": "cosine"}},
    ],
    ids=str,
)
def test_every_contract_has_the_bytes_of_outlets_alone(
    made: Callable[..., Pool], changes: dict[str, Any]
) -> None:
    pool = made(**changes)
    expected = pool.alone()
    assert pool.together() == expected
    assert pool.together(compute=pool.tried()) == expected


def test_adapters_that_explode_stay_their_own(made: Callable[..., Pool]) -> None:
    """Not even infinity, or no number, gets from one outlet's weights into another's rows."""
    rate = float(np.finfo(np.float32).max)
    pool = made(optimizer={"learning_rate": rate}, privacy={"sampling_rate": 0.5})
    expected = pool.alone()
    assert any(not np.isfinite(np.frombuffer(d, np.float32)).all() for d in expected[0].values())
    assert pool.together(compute=pool.tried()) == expected


def test_where_rows_would_differ_outlets_step_one_after_another(
    made: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, right = made(), current(fused_lora, "add_product")

    def add_product(y: torch.Tensor, u: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        return right(y, u * (1 + 1e-6 * (matrix.dim() == 3)), matrix)  # type: ignore[no-any-return]

    expected = pool.alone()
    monkeypatch.setattr(fused_lora, "add_product", add_product)
    assert pool.together(compute=pool.unproved()) != expected
    compute = pool.tried()
    assert compute.by_rows == (pool.contract.digest, False)
    assert pool.together(compute=compute) == expected


def test_whole_numbers_of_a_pooled_step_are_those_of_outlets_alone(
    made: Callable[..., Pool],
) -> None:
    pool = made(
        federation={"trust": "pooled", "local_steps": 1},
        outlets={"east-star": 25, "north-post": 30, "south-echo": 20, "west-sun": 25},
        pooled={"colluders": 1, "dropouts": 0},
        privacy={"epsilon": 6.0, "noise_multiplier": None, "sampling_rate": 0.6},
        server={"name": "adam", "learning_rate": 0.05},
    )
    found = pool.together()
    assert found == pool.alone()
    assert all(isinstance(one, dict) for one in found)


def test_neither_group_nor_order_moves_a_byte(made: Callable[..., Pool]) -> None:
    pool = made()
    found, works = pool.together(), pool.works()
    order = [4, 0, 5, 2]
    some = replace(pool, data=[pool.data[place] for place in order])
    again = some.together([works[place] for place in order])
    assert again == [found[place] for place in order]


def test_a_pass_has_no_more_seats_and_rows_than_memory_is_given(
    made: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, largest = made(), [0]
    expected = pool.together()
    zeros = StepGradients._zeros

    def watched(self: StepGradients) -> list[torch.Tensor]:
        rows = zeros(self)
        largest[0] = max(largest[0], len(rows[0]))
        return rows

    trained = sum(array.size for array in pool.bench.state.values())
    monkeypatch.setattr(StepGradients, "_zeros", watched)
    monkeypatch.setattr(Compute, "gradient_bytes", 0)
    tight = Compute(device="cpu", gradient_bytes=4 * trained * 16)
    assert tight.seats_at_once([torch.zeros(trained)]) == 2
    outlets = list(zip(pool.data, pool.works(), strict=True))
    found = train_together(pool.bench.model, pool.bench.state, outlets, pool.contract, tight)
    assert [_bytes(one) for one in found if isinstance(one, dict)] == expected
    assert 0 < largest[0] <= 16


def test_a_record_that_cannot_be_computed_touches_nobody_else(
    made: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = made(privacy={"sampling_rate": 1.0})
    bad = pool.data[4].table["text"].to_pylist()[3]
    right = FrozenTrunk.tokens

    def tokens(self: FrozenTrunk, text: str) -> torch.Tensor:
        if text == bad:
            raise ValueError("no tokens")
        return right(self, text)

    expected = pool.alone()
    monkeypatch.setattr(FrozenTrunk, "tokens", tokens)
    found = pool.together()
    assert found == pool.alone()
    hit = [place for place, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b]
    assert hit == [4]


def test_an_outlet_without_budget_for_a_step_ends_alone(made: Callable[..., Pool]) -> None:
    pool = made()
    expected, works, told = pool.alone(), pool.works(), list[int]()

    def paid(count: int) -> None:
        told.append(count)
        if count == 2:
            raise PlanError("private steps")

    works[1] = replace(works[1], before_step=paid)
    found = pool.together(works)
    assert isinstance(found[1], PlanError)
    assert told == [1, 2]
    assert [*found[:1], *found[2:]] == [*expected[:1], *expected[2:]]


# --- What would break it -------------------------------------------------------------------------


def delivered(patch: pytest.MonkeyPatch, wrong: Callable[[Lot], Lot]) -> None:
    """Whole rows go where another lot says."""
    right = StepGradients._accumulate

    def accumulate(lot: Lot, readers: Any, rows: Any) -> None:
        right(wrong(lot), readers, rows)

    patch.setattr(StepGradients, "_accumulate", staticmethod(accumulate))


def rows_at_the_neighbours(patch: pytest.MonkeyPatch) -> None:
    delivered(patch, lambda lot: replace(lot, seats=[*lot.seats[1:], lot.seats[0]]))


def one_row_at_the_neighbours(patch: pytest.MonkeyPatch) -> None:
    def wrong(lot: Lot) -> Lot:
        seat_of = lot.seat_of.copy()
        last = np.flatnonzero(seat_of == 0)[-1:]
        seat_of[last] = len(lot.seats) - 1
        return replace(lot, seat_of=seat_of)

    delivered(patch, wrong)


def one_stream_for_all(patch: pytest.MonkeyPatch) -> None:
    begin, streams = training._Course.begin, list[SecureRandom]()

    def shared(self: training._Course, *args: Any) -> None:
        streams.append(self.work.random)
        self.work = replace(self.work, random=streams[0])
        begin(self, *args)

    patch.setattr(training._Course, "begin", shared)


def noise_of_the_first_for_all(patch: pytest.MonkeyPatch) -> None:
    make, streams = current(training, "private_optimizer"), list[SecureRandom]()

    def private_optimizer(p: Any, contract: Contract, work: RoundWork, **rest: Any) -> Any:
        streams.append(SecureRandom.deterministic("one"))
        return make(p, contract, replace(work, random=streams[0]), **rest)

    patch.setattr(training, "private_optimizer", private_optimizer)


def everybodys_population(patch: pytest.MonkeyPatch) -> None:
    make, sizes = current(training, "private_optimizer"), list[int]()

    def private_optimizer(p: Any, contract: Contract, work: RoundWork, **rest: Any) -> Any:
        sizes.append(work.population)
        return make(p, contract, replace(work, population=sizes[0]), **rest)

    patch.setattr(training, "private_optimizer", private_optimizer)


def the_last_adapter_for_all(patch: pytest.MonkeyPatch) -> None:
    def put(_self: Seat, _trained: Any) -> None:
        """Whatever the model holds."""

    patch.setattr(Seat, "put", put)


def weights_of_the_neighbour(patch: pytest.MonkeyPatch) -> None:
    make = RowWeights.__init__

    def shifted(self: RowWeights, stacks: Any, seat_of: torch.Tensor) -> None:
        make(self, stacks, seat_of.roll(1))

    patch.setattr(RowWeights, "__init__", shifted)


def weights_of_the_first_in_the_head(patch: pytest.MonkeyPatch) -> None:
    def each(self: RowWeights, layer: Any, call: Callable[[], torch.Tensor]) -> torch.Tensor:
        with row_weights._holding(layer, {p: s[0] for p, s in self._stacks.items()}):
            return call()

    patch.setattr(RowWeights, "each", each)


# Where outlets step one after another, rows have no weights; side by side, the model holds none.
IN_ONE_WAY = (
    weights_of_the_neighbour,
    weights_of_the_first_in_the_head,
    the_last_adapter_for_all,
)


@pytest.mark.parametrize(
    "plant",
    [
        weights_of_the_neighbour,
        weights_of_the_first_in_the_head,
        rows_at_the_neighbours,
        one_row_at_the_neighbours,
        one_stream_for_all,
        noise_of_the_first_for_all,
        everybodys_population,
        the_last_adapter_for_all,
    ],
)
def test_a_planted_mistake_moves_bytes(
    made: Callable[..., Pool], plant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    pool = made(privacy={"sampling_rate": 1.0})
    expected = pool.alone()
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        found = [pool.together(compute=compute) for compute in (None, pool.unproved())]
    assert expected not in found or plant in IN_ONE_WAY
    assert found != [expected, expected]
