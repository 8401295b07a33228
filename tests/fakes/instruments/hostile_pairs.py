"""Hostile neighbours: a contract and an adapter that a policy admits, and readers less or more one.

Everything that a coordinator or a reader can choose is drawn from a seed: method, rank, scale,
targets, clip norms, k, the adapter that "came in" (each branch at the policy's cap, denormal or
enormous numbers, a head as large as is taken), and the readers' texts. What the step adds up for
the two neighbours is compared in whole numbers: Σ (q - q')² ≤ (C/γ)² in every clip group, without
any tolerance.

Example: `excess(HostilePair.drawn(made_bases(folder), seed=7)) <= 1`: no more than is stated.
"""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tests.conftest import REPOSITORY
from tests.fakes.bases.language_bases import write_tiny_llama
from tests.fakes.bases.masked_bases import write_masked_base
from tests.fakes.tiny_models import plain
from torch import nn

from presspool.client.consent import decision, received_adapter
from presspool.client.consent.policy import Policy, parse_policy
from presspool.client.data.readers import Readers
from presspool.client.engine import training
from presspool.client.engine.compute import Compute
from presspool.client.engine.optimizer import ReaderOptimizer
from presspool.client.engine.randomness import SecureRandom
from presspool.client.engine.reader_gradients import ReaderGradients
from presspool.client.engine.sampling import Sample
from presspool.client.engine.step_gradients import StepGradients
from presspool.client.engine.together.seat import Seat
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.contract.doors import METHODS, TASKS, task_of
from presspool.common.methods.dora import MAGNITUDE
from presspool.common.methods.lora import Lora
from presspool.common.models import adapters
from presspool.common.models.base_model import resolve
from presspool.common.models.models import build
from presspool.common.models.spectral import ratios
from presspool.common.tasks.ad_response import AdTable
from presspool.common.tasks.fill_mask import FillMaskTable
from presspool.common.tasks.generation import GenerationTable
from presspool.common.tasks.recommendation import RecommendationTable
from presspool.common.tasks.tagging import TaggingTable

Bases = tuple[tuple[str, str], ...]
State = dict[str, NDArray[np.float32]]
ALIKE = 16  # neighbouring seeds share a contract's model, which costs more than a step does
STARTS: WeakKeyDictionary[nn.Module, State] = WeakKeyDictionary()
"""Where what trains began."""
LABELS, WORDS = ("world", "sport", "money"), ("goal", "vote", "the", "bank", "final", "xyzzy")
SCALES = (1.0, 1.0, 1e-3, 1e-30)  # of the policy's cap
GIVEN = REPOSITORY / "tests" / "golden" / "files" / "given" / "base"
TARGETS = {
    "bert": ["query", "key", "value", "dense"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
    "t5": ["q", "v", "wo"],
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"],
}
# Where a task has labels: as light and as heavy as priors can make a record's loss.
LABELLED: tuple[dict[str, Any], ...] = (
    {},
    {"mode": "multi", "priors": [0.0001, 0.9999, 0.5]},
    {"mode": "ordinal", "priors": [0.9998, 0.0001, 0.0001]},
    {"priors": [0.0001, 0.9998, 0.0001]},
    {"mode": "multi"},
    {"mode": "ordinal"},
)
WRITES = "writes"
"""The family of base models that are trained to write; they are Llamas too."""
PAIRS = "pairs"
"""The family of those with an encoder beside their decoder, T5s; `made_bases` makes none."""
HIDES = "hides"
"""The family of those that say hidden tokens: a BERT with a mask."""
# What an operator would have to write to let everything in; the sum must hold even then.
OPENED = {"max_adapter_scale": 1e4, "max_adapter_norm": 1e30, "max_branch_ratio": 1e8}


@dataclass(frozen=True, kw_only=True)
class HostilePair:
    """One contract with its adapter, and the texts of its readers.

    Attributes:
        contract: admitted by `policy`, as the adapter is.
        policy: the default one, or one whose operator opened every cap.
        model: the contract's, not yet at `state`.
        state: the adapter that came in.
        texts: of each reader's sampled records, those of one reader together.
        labels: of the same; of a writing model's the prompts' numbers.
        gone: the reader whom one of the neighbours does not have.
    """

    contract: Contract
    policy: Policy
    model: nn.Module
    state: State
    texts: Sequence[Sequence[str]]
    labels: Sequence[Sequence[int]]
    gone: int

    @classmethod
    def drawn(
        cls, bases: Bases, *, seed: int, loudness: float = 0.999999, method: str | None = None
    ) -> HostilePair:
        """The pair of a seed.

        Args:
            bases: folders of base models (`made_bases`).
            seed: decides everything.
            loudness: of each branch, in units of the policy's cap.
            method: that of the contract; drawn as all else if not given.

        Raises:
            GuardError: the policy does not admit contract or adapter.
        """
        policy, contract, model = run_of(bases, seed // ALIKE, method)
        dice = random.Random(seed)
        contract = contract.replace(privacy={"clip": _clip(contract, dice)})
        state = _adapter(model, contract, policy, dice, loudness)
        shapes = {name: tuple(p.shape) for name, p in adapters.trainable(model).items()}
        received_adapter.check_adapter(state, shapes=shapes, largest=policy.max_adapter_norm)
        received_adapter.check_branches(state, model, contract, largest=policy.max_branch_ratio)
        k = contract.privacy.records_per_reader
        counts = [dice.randint(1, k) for _ in range(max(2, dice.choice((1, 4, 12, 32)) // k))]
        texts = [[_text(dice) for _ in range(count)] for count in counts]
        readers = range(len(counts))
        return cls(
            contract=contract,
            policy=policy,
            model=model,
            state=state,
            texts=texts,
            labels=[[dice.randrange(len(LABELS)) for _ in range(count)] for count in counts],
            # Half the time who wrote most: the longest text is the one that could widen a batch.
            gone=dice.choice(
                (max(readers, key=lambda r: len(str(texts[r]))), dice.choice(readers))
            ),
        )


def movement(pair: HostilePair) -> dict[str, Fraction]:
    """How far the sum moves, squared, in units of each group's C: at most 1, exactly.

    The whole sum's is under "sum", in units of the stated sensitivity.
    """
    everybody = list(range(len(pair.texts)))
    (whole, grid), (less, _) = (
        summed(pair, kept) for kept in (everybody, [r for r in everybody if r != pair.gone])
    )
    bounds, squares = pair.contract.plan.clip, dict[str, Fraction]()
    for group in bounds:
        moved = [a - b for a, b in zip(whole[group], less[group], strict=True)]
        squares[group] = sum(step * step for step in moved) * grid**2
    found = {group: squares[group] / Fraction(bound) ** 2 for group, bound in bounds.items()}
    return found | {"sum": sum(squares.values()) / Fraction(pair.contract.plan.sensitivity) ** 2}


def excess(pair: HostilePair) -> Fraction:
    """The largest of `movement`."""
    return max(movement(pair).values())


def summed(
    pair: HostilePair, kept: Sequence[int]
) -> tuple[dict[str, list[int | Fraction]], Fraction]:
    """What a step adds up over the kept readers, by clip group, and the size of one unit of it.

    The one place that knows how the engine is called.
    """
    sample, readers = _sampled(pair, kept)
    model, contract = pair.model, pair.contract
    compute = Compute(device="cpu")
    adapters.load(model, pair.state)
    compute.prepare(model)
    work = training.RoundWork(round=1, turn=1, population=100, random=SecureRandom())
    parameters = adapters.trainable(model)
    optimizer = training.private_optimizer(parameters, contract, work, steps_before=0)
    seat = Seat(parameters=parameters, optimizer=optimizer, readers=readers)
    with ReaderGradients(model) as engine:
        trunk = compute.trunk(model, contract)
        StepGradients(engine, trunk, contract, compute, population=100).add([(seat, sample)])
    return _numbers(optimizer), Fraction(optimizer.grid)


def _numbers(optimizer: ReaderOptimizer) -> dict[str, list[int | Fraction]]:
    return {
        group: [number for p in parameters for number in _exactly(p)]
        for group, parameters in optimizer.groups.items()
    }


def _exactly(parameter: Any) -> list[int | Fraction]:
    """Python's numbers, of which nothing is lost in squares and sums; also a float's."""
    total = parameter.summed_grad
    if total is None:  # nobody was sampled
        return [0] * int(parameter.numel())
    numbers = total.flatten().tolist()
    return [Fraction(number) for number in numbers] if total.is_floating_point() else numbers


def _sampled(pair: HostilePair, kept: Sequence[int]) -> tuple[Sample, Readers]:
    texts = [text for reader in kept for text in pair.texts[reader]]
    labels = [label for reader in kept for label in pair.labels[reader]]
    counts = np.array([len(pair.texts[reader]) for reader in kept], np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    sample = Sample(
        records=np.arange(len(texts), dtype=np.int64),
        reader_of=np.repeat(np.arange(len(kept), dtype=np.int64), counts),
        readers=len(kept),
    )
    return sample, Readers(table=_table(pair.contract, texts, labels), offsets=offsets)


def _table(contract: Contract, texts: list[str], labels: list[int]) -> pa.Table:
    if isinstance(contract.task, GenerationTable):
        columns = {"prompt": [LABELS[label] for label in labels], "answer": texts, "text": texts}
        return pa.table(
            {name: pa.array(columns[name], pa.large_string()) for name in task_of(contract).columns}
        )
    if isinstance(contract.task, TaggingTable):
        return _tagged(contract, texts, labels)
    if isinstance(contract.task, RecommendationTable):
        return _shown(contract, texts, labels)
    if isinstance(contract.task, AdTable):
        return _advertised(contract, texts, labels)
    if isinstance(contract.task, FillMaskTable):
        return pa.table({"text": pa.array(texts, pa.large_string())})
    names = pa.array([LABELS[label] for label in labels], pa.large_string())
    rows = {"text": pa.array(texts, pa.large_string()), "label": names}
    return pa.table(dict(task_of(contract).parse(rows)))


def _tagged(contract: Contract, texts: list[str], labels: list[int]) -> pa.Table:
    """Every second word is an entity; a text without words has no token."""
    tokens = [text.split() for text in texts]
    tags = [
        [f"B-{LABELS[label]}" if place % 2 == 0 else "O" for place in range(len(own))]
        for own, label in zip(tokens, labels, strict=True)
    ]
    columns = {"tokens": tokens, "tags": tags}
    rows = {n: pa.array(map(json.dumps, v), pa.large_string()) for n, v in columns.items()}
    return pa.table(dict(task_of(contract).parse(rows)))


def _shown(contract: Contract, texts: list[str], labels: list[int]) -> pa.Table:
    """The text clicked before, and among three titles the middle one is the text as well."""
    columns: dict[str, list[Any]] = {
        "history": [[text] * label for text, label in zip(texts, labels, strict=True)],
        "candidates": [["goal", text, "vote the bank"] for text in texts],
        "clicks": [[1, int(label == 1), 0] for label in labels],
    }
    rows = {n: pa.array(map(json.dumps, v), pa.large_string()) for n, v in columns.items()}
    return pa.table(rows)


def _advertised(contract: Contract, texts: list[str], labels: list[int]) -> pa.Table:
    """The label is where the text is shown, and the first one's showings are clicked."""
    columns = {
        "text": texts,
        "device": [LABELS[label] for label in labels],
        "clicked": [str(int(label == 0)) for label in labels],
    }
    rows = {name: pa.array(values, pa.large_string()) for name, values in columns.items()}
    return pa.table(dict(task_of(contract).parse(rows)))


def made_bases(folder: Path) -> Bases:
    """Tiny base models of all families: a folder's path for each."""
    made = {"bert": str(GIVEN), WRITES: str(write_tiny_llama(folder / WRITES))}
    made[HIDES] = str(write_masked_base(folder / HIDES, "bert", WORDS))
    for family in ("gpt2", "llama"):
        made[family] = str(folder / family)
        plain(family).save_pretrained(made[family])  # type: ignore[operator]
        for file in GIVEN.glob("tokenizer*"):
            (folder / family / file.name).write_bytes(file.read_bytes())
    return tuple(sorted(made.items()))


@functools.lru_cache(maxsize=2)
def run_of(
    bases: Bases, number: int, method: str | None = None
) -> tuple[Policy, Contract, nn.Module]:
    """The policy, contract and model that some neighbouring seeds share."""
    dice = random.Random(-1 - number)
    family, base = dice.choice(bases)
    found = resolve(base, weights=None, tokenizer=None)
    pin = {"name": "tiny", **found.pins}
    body: dict[str, Any] = {
        "base_models": [pin],
        "lora_targets": TARGETS[{WRITES: "llama", PAIRS: "t5", HIDES: "bert"}.get(family, family)],
    }
    opened = OPENED if dice.random() < 0.5 else {}
    body |= {"max_epsilon_per_run": 100.0, "tasks": list(TASKS.names)}
    policy = parse_policy(body | opened)
    rank = dice.randint(1, 8)
    methods = [method] if method else [n for n in policy.methods if offered(n, family)]
    contract = parse_contract(
        {
            "name": "hostile",
            "seed": dice.randrange(2**32),
            "model": {"id": base, **found.pins},
            "task": _task(family, dice, number),
            "adapter": {
                "method": dice.choice(methods),
                "rank": rank,
                "alpha": rank * policy.max_adapter_scale * dice.choice(SCALES),
                "targets": dice.sample(policy.lora_targets, dice.randint(1, 3)),
                "layers": dice.choice((None, 1)) if family != PAIRS else None,
            },
            "federation": {"rounds": 1, "local_steps": 1},
            "outlets": {"north-post": 100, "south-echo": 100},
            "privacy": {
                "noise_multiplier": 1.0,
                "clip": 1.0,
                "records_per_reader": dice.randint(1, 8),
                "sampling_rate": 0.5,
            },
            "optimizer": {"learning_rate": 1.0},
        }
    )
    # A method's own scale, as far as the policy goes: α/√r is larger than α/r.
    alpha = contract.adapter.alpha
    if (scale := contract.method.scale(contract)) > alpha / rank:
        softer = 0.999999 * alpha * alpha / (rank * scale)
        contract = contract.replace(adapter={"alpha": softer})
    decision.check_policy(contract, policy)
    model = build(contract)
    STARTS[model] = {
        name: np.zeros_like(array) if MAGNITUDE in name else array
        for name, array in adapters.read(model).items()
    }
    return policy, contract, model


def offered(method: str, family: str) -> bool:
    """Whether a method has something to train in a family of bases, and in its task."""
    if family == PAIRS:
        return issubclass(METHODS[method], Lora)
    biases = family in ("bert", "gpt2", HIDES)
    return {"head": family not in (WRITES, HIDES), "bitfit": biases}.get(method, True)


def _task(family: str, dice: random.Random, number: int) -> dict[str, Any]:
    length = {"max_length": dice.choice((4, 12, 32))}
    if family == HIDES:
        return {"kind": "fill-mask", "share": dice.choice((0.15, 0.5, 0.99)), **length}
    if family == PAIRS:
        return {"kind": "generation", "format": "prompt", **length}
    if family == "bert" and number % 4 == 2:
        caps = {"history": dice.choice((1, 3)), "candidates": 3}
        return {"kind": "recommendation", "title_length": length["max_length"], **caps}
    if family != WRITES and number % 6 == 3:
        return {"kind": "ad-response", "context": {"device": list(LABELS)}, **length}
    if family != WRITES and number % 3 == 1:
        windows = {"window": 16} if family == "bert" and length["max_length"] > 16 else {}
        return {"labels": list(LABELS), "kind": "tagging", **length, **windows}
    if family != WRITES:
        said = LABELLED[(number + number // 6) % len(LABELLED)]  # each of them, in turn
        return {"labels": list(LABELS), **said, **length}
    forms: tuple[dict[str, Any], ...] = ({"format": "prompt"}, {}, {"prompt": "N"})
    return {"kind": "generation", **length} | dice.choice(forms)


def _clip(contract: Contract, dice: random.Random) -> Any:
    """From far below to far above any gradient, in both groups where both train."""
    norms = [10 ** dice.uniform(-6, 6), 10 ** dice.uniform(-2, 1), 0.1, 0.1, 1e-12, 3.3e5]
    if len(contract.groups) == 1 or dice.random() < 0.4:
        return dice.choice(norms)
    return {"adapter": dice.choice(norms), "head": dice.choice(norms)}


def _adapter(
    model: nn.Module, contract: Contract, policy: Policy, dice: random.Random, loudness: float
) -> State:
    """An adapter as loud as the policy takes it, or as odd."""
    rng = np.random.default_rng(dice.randrange(2**32))
    shape = dice.choice(_SHAPES)
    shapes = {name: tuple(p.shape) for name, p in adapters.trainable(model).items()}
    state = {name: shape(rng, size).astype(np.float32) for name, size in shapes.items()}
    room = min(policy.max_adapter_norm, dice.choice((1e3, 1e30))) / 2
    for name in state:
        if adapters.group_of(name) == "head":
            state[name] = sized(state[name], room * 10.0 ** -dice.choice((0, 1, 2, 2, 3, 3, 4, 40)))
        elif dice.random() < 0.3:  # one factor enormous, the other as small as that demands
            state[name] = sized(state[name], room / len(state))
    return _tamed(state, model, contract, policy, loudness)


def _tamed(
    state: State, model: nn.Module, contract: Contract, policy: Policy, loudness: float
) -> State:
    """The same with every branch brought down, or up, to the policy's cap; norms kept in bounds."""
    wanted, start = loudness * policy.max_branch_ratio, STARTS[model]
    for again in range(60):
        for layer, ratio in list(ratios(model, contract.method, state)):
            for name in _loud(layer, state):
                if ratio > (wanted * (1 + 1e-7) if again else 0):
                    share = (wanted / ratio) * (0.99 if again else 1.0)
                    louder = start[name] + (state[name].astype(np.float64) - start[name]) * share
                    state[name] = louder.clip(-1e30, 1e30).astype(np.float32)
    size = adapters.norm(state)
    if not size <= policy.max_adapter_norm:  # a bound on the whole: branches get softer with it
        share = 0.999 * policy.max_adapter_norm / size
        state = {name: (array * np.float32(share)) for name, array in state.items()}
    return state


def _loud(layer: str, state: State) -> list[str]:
    """What makes a branch louder: of two factors the one that starts at zero; a row's length."""
    own = [name for name in state if name.startswith(layer)]
    lengths = [name for name in own if MAGNITUDE in name]
    return lengths or [name for name in own if "lora_A" not in name and ".down." not in name]


def sized(array: NDArray[Any], size: float) -> NDArray[np.float32]:
    """The array at another L2 norm; zeros stay."""
    length = float(np.sqrt(np.sum(np.square(array, dtype=np.float64))))
    scaled = array.astype(np.float64) * (size / length if length else 0.0)
    return scaled.astype(np.float32)


def _spike(rng: np.random.Generator, size: tuple[int, ...]) -> NDArray[np.float64]:
    array = np.zeros(size)
    array.flat[rng.integers(array.size)] = 1.0
    return array


def _spread(rng: np.random.Generator, size: tuple[int, ...]) -> NDArray[np.float64]:
    """Magnitudes from denormal to one beside each other."""
    return rng.choice([-1.0, 1.0], size) * 10.0 ** rng.uniform(-44, 0, size)


_SHAPES: tuple[Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]], ...] = (
    lambda rng, size: rng.standard_normal(size),
    lambda rng, size: rng.standard_normal(size),
    lambda rng, size: np.ones(size),  # noqa: ARG005
    lambda rng, size: np.zeros(size),  # noqa: ARG005
    lambda rng, size: np.full(size, 1e-42),  # noqa: ARG005
    _spike,
    _spread,
)


def _text(dice: random.Random) -> str:
    """Short, long, empty, repeated, or of signs that no vocabulary has."""
    words = [dice.choice(WORDS) for _ in range(dice.choice((1, 2, 3, 8, 40)))]
    odd = ("", " ", "\u200b", "\U0001f5de" * 9, "e\u0301" * 30, "\x00", "名字 " * 12, "goal " * 50)
    return dice.choice([" ".join(words), " ".join(words), "goal vote", dice.choice(odd)])
