"""Can tokens be read off one released update? The span check of DAGER.

A trained LoRA factor A of the first layer has a gradient whose rows are combinations of that
layer's inputs, one for each token of the batch. Where the batch is short and nothing was added, a
token of the vocabulary was in it at a position iff its embedding there lies in the rows' span.
(Petrov et al. 2024, arXiv 2405.15586, section 4.1, for LoRA: the rows of all A of the layer.)

The attacker chooses what makes it easiest: the coordinator sends non-zero B and head. A plan that
freezes A (FFA-LoRA, head alone) gives this attack nothing at all, so it is run on the plan with A
trained.

Example: `positive_control(contract, folder, random)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import nn

from presspool.client.engine.discrete_gaussian import discrete_gaussian
from presspool.client.engine.randomness import SecureRandom
from presspool.common.contract.contract import Contract
from presspool.common.models import adapters
from presspool.common.models.adapters import State
from presspool.common.models.models import build, tokenizer
from presspool.common.tasks.classification import labels_of
from presspool.simulations.attack.attacked_outlet import write_outlet
from presspool.simulations.attack.canaries import Canaries
from presspool.simulations.attack.transcript import listen

NEAREST = 0.01  # a token counts as suspected among so many of the vocabulary's nearest
CHUNK = 256
CONTROL_RANK = 8
Distances = NDArray[np.float32]
Targets = Sequence[tuple[int, int]]  # position, token


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """Shares of tokens that an update gives away.

    Attributes:
        exact: of the tokens that were in, those nearest to the span at their position.
        suspected: of them, those among the nearest `NEAREST` of the vocabulary.
        chance: `suspected` of tokens that were not in.
        tokens: how many were in.
    """

    exact: float
    suspected: float
    chance: float
    tokens: int


def positive_control(
    contract: Contract, canaries: Canaries, outlet: str, folder: Path, random: SecureRandom
) -> Recovered:
    """One canary alone, one step, no noise: what the check can do where nothing protects."""
    bare = _one_round(contract, rank=max(CONTROL_RANK, contract.adapter.rank)).replace(
        privacy={"epsilon": "inf", "noise_multiplier": 0.0, "sampling_rate": 1.0},
        federation={"local_steps": 1},
    )
    alone = np.arange(len(canaries)) == 0
    one = Canaries(texts=canaries.texts, labels=canaries.labels, included=alone)
    folder.mkdir(parents=True, exist_ok=True)
    settings = write_outlet(folder, outlet, one.table(labels_of(contract)))
    return _check(bare, one, settings, random)


def under_plan(
    contract: Contract,
    canaries: Canaries,
    outlet: str,
    records: pa.Table,
    folder: Path,
    random: SecureRandom,
    *,
    deterministic: int | None = None,
) -> Recovered:
    """One round as the contract plans it, A trained as well."""
    planned = _one_round(contract, rank=contract.adapter.rank)
    folder.mkdir(parents=True, exist_ok=True)
    settings = write_outlet(folder, outlet, records, deterministic=deterministic)
    return _check(planned, canaries, settings, random)


def _one_round(contract: Contract, *, rank: int) -> Contract:
    sigma = contract.plan.noise_multiplier
    return contract.replace(
        adapter={"method": "fedit", "layers": None, "rank": rank},
        privacy={"epsilon": None, "noise_multiplier": sigma},
        federation={"rounds": 1},
    )


def _check(
    contract: Contract, canaries: Canaries, settings: Path, random: SecureRandom
) -> Recovered:
    model = build(contract)
    sent = _sent(model, random)
    update = listen(contract, settings, settings.with_name("rounds.npz"), sent=sent).updates[0]
    inside, outside = (
        _targets(
            contract, [t for t, i in zip(canaries.texts, canaries.included, strict=True) if i == w]
        )
        for w in (True, False)
    )
    adapters.load(model, sent)
    length = 1 + max(position for position, _ in (*inside, *outside))
    distances = _distances(model, contract, _span(model, update), length)
    return Recovered(
        exact=_share(distances, inside, 1 / len(distances)),
        tokens=len(inside),
        suspected=_share(distances, inside, NEAREST),
        chance=_share(distances, outside, NEAREST),
    )


def _sent(model: PeftModel, random: SecureRandom) -> State:
    """Public A, and random B and head, so that A has a gradient."""
    return {
        name: array
        if "lora_A" in name
        else (0.05 * _made(array.size, random)).astype(np.float32).reshape(array.shape)
        for name, array in adapters.read(model).items()
    }


def _made(count: int, random: SecureRandom) -> NDArray[np.float64]:
    """Normal numbers, as fine as float32 tells apart: (count,)."""
    return discrete_gaussian(count, 2.0**30, random).astype(np.float64) * 2.0**-30


def _first(model: PeftModel) -> tuple[str, nn.Module]:
    """Name and module of the first LoRA factor A that the model runs."""
    return next((n, m) for n, m in model.named_modules() if n.endswith("lora_A.default"))


def _span(model: PeftModel, update: State) -> NDArray[np.float32]:
    """Orthonormal rows that span the first layer's updates of A: (rank, hidden)."""
    name, _ = _first(model)
    layer = name.rsplit(".", 3)[0]  # without the projection's own name: all A that read this input
    rows = np.concatenate([a for n, a in update.items() if n.startswith(layer) and "lora_A" in n])
    _, sizes, directions = np.linalg.svd(rows.astype(np.float64), full_matrices=False)
    span: NDArray[np.float32] = directions[sizes > 1e-4 * sizes[0]].astype(np.float32)
    return span


class _Seen(Exception):  # noqa: N818 - not an error: the rest of the model need not run
    pass


def _distances(
    model: PeftModel, contract: Contract, span: NDArray[np.float32], length: int
) -> Distances:
    """How far each token's input at each position lies from the span: (vocabulary, length)."""
    return np.concatenate(
        [
            1 - np.square(rows @ span.T).sum(-1) / np.square(rows).sum(-1)
            for rows in _inputs(model, len(tokenizer(contract.model)), length)
        ]
    )


def _inputs(model: PeftModel, vocabulary: int, length: int) -> Iterator[NDArray[np.float32]]:
    """The first trained layer's input for each token at each position, in parts."""
    caught: list[torch.Tensor] = []

    def catch(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        caught.append(inputs[0])
        raise _Seen

    encoder = model.get_base_model().encoder
    hook = _first(model)[1].register_forward_pre_hook(catch)
    try:
        for start in range(0, vocabulary, CHUNK):
            ids = torch.arange(start, min(start + CHUNK, vocabulary))[:, None].repeat(1, length)
            try:
                with torch.no_grad():
                    encoder(input_ids=ids, attention_mask=torch.ones_like(ids))
            except _Seen:
                yield caught.pop().numpy()
    finally:
        hook.remove()


def _targets(contract: Contract, texts: Sequence[str]) -> Targets:
    """Position and id of every token that is not a special one."""
    coder = tokenizer(contract.model)
    special, found = set(coder.all_special_ids), []
    for text in texts:
        ids = coder(text, truncation=True, max_length=contract.task.max_length)["input_ids"]
        found += [(place, token) for place, token in enumerate(ids) if token not in special]
    return found


def _share(distances: Distances, targets: Targets, nearest: float) -> float:
    """Share of the targets among the `nearest` part of the vocabulary at their position."""
    allowed = max(1, int(nearest * len(distances)))
    ranks = distances.argsort(axis=0).argsort(axis=0)
    return float(np.mean([ranks[token, place] < allowed for place, token in targets]))
