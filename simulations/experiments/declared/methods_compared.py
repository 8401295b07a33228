"""Which method trains best at an ε? SST-2 over four outlets, every method, at ε of ∞, 8 and 3.

Data as `newsroom_tasks.sentiment` has them: four outlets of 865 made readers; a head alone stays
far below what a trained encoder reaches there, so there is something for a method to win. What
trains beside the head is in the last two layers, as in the
recipe `adapter`, whose clip norms, steps and rates all methods share. Three things differ, because
they must:

* Fed-SB has rank 32, so that its square matrices have about as many numbers as FFA's B at rank 2.
* RoLoRA's coordinator cannot be Adam. It averages, at the rate that moves a number of the adapter
  about as far as Adam does: 0.02 over the standard deviation of its mean gradient, of which the
  plan's noise is one part and a gradient of norm 0.7 C over d numbers the other.
* At the rate that the others share, what trains both factors (FedIT, rsLoRA, DoRA) ended at
  chance or near it without privacy, RoLoRA with it too, and BitFit far below the head alone.
  `SEARCH` tries slower rates of their adapters on a quarter of the training readers; `SLOWER` is
  what it found, for rsLoRA and DoRA what it found for FedIT. Nobody searched for the others'.

Example: `run_experiment(METHODS.trials(data, out, seeds=None), out, workers=1, on_done=tick)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from presspool.common.contract.privacy_plan import solve_noise
from presspool.common.runs.recipe import recipe
from presspool.simulations.experiments.arms import Arm, Tables
from presspool.simulations.experiments.declared.newsroom_tasks import sentiment
from presspool.simulations.experiments.experiment import Experiment, Question
from presspool.simulations.experiments.pools import Pool

Recipe = Tables | Callable[[Mapping[str, int], int, float], Tables]

EPSILONS, SEEDS = (3.0, 8.0, math.inf), (1, 2, 3)
TURNS, SQUARE, PLAIN = "rolora", "fed-sb", "ffa"
OTHERS = ("fedit", "rslora", "dora", "bottleneck", "ia3", "bitfit", "layernorm")
_NUMBERS = {"adapter": 13_824, "head": 768}  # d: of one factor of MiniLM's last two layers
_LENGTH = 0.7  # of a reader's gradient, by C
SEARCHED, TRIED = ("fedit", TURNS, "bitfit"), (0.3, 0.1)
SLOWER = {"fedit": 0.3, "rslora": 0.3, "dora": 0.3, TURNS: 0.1, "bitfit": 0.3}
"""By which the adapter's rate is multiplied; 1 of the others."""


def pools(data: Path, folder: Path) -> list[Pool]:
    """Four outlets.

    Raises:
        DataError: the data set is not there.
    """
    return [sentiment(data, folder)]


def search_pools(data: Path, folder: Path) -> list[Pool]:
    """Training readers alone; raises as `pools`."""
    return [sentiment(data, folder, searched=True)]


def adapted(method: str, rank: int = 2, *, slower: float = 1.0) -> Tables:
    """The recipe `adapter` with another method."""
    tables = recipe(trained="adapter")
    adapter = {**tables["adapter"], "method": method, "rank": rank, "alpha": 2 * rank}
    rates = tables["server"]["learning_rate"]
    slow = {**rates, "adapter": float(f"{rates['adapter'] * slower:.4g}")}
    return {**tables, "adapter": adapter, "server": {**tables["server"], "learning_rate": slow}}


def in_turns(
    populations: Mapping[str, int], _classes: int, epsilon: float, *, slower: float = 1.0
) -> Tables:
    """The same for RoLoRA, at a coordinator that averages."""
    tables = adapted(TURNS, slower=slower)
    privacy, rounds = tables["privacy"], tables["federation"]["rounds"]
    rate, clip = privacy["sampling_rate"], privacy["clip"]
    sigma = solve_noise(epsilon=epsilon, delta=privacy["delta"], sampling_rate=rate, steps=rounds)
    batch = rate * sum(populations.values())
    noise = sigma * math.hypot(*clip.values()) * math.sqrt(len(populations)) / batch
    moved = {
        group: wanted / math.hypot(noise, _LENGTH * clip[group] / math.sqrt(_NUMBERS[group]))
        for group, wanted in tables["server"]["learning_rate"].items()
    }
    rates = {group: float(f"{value:.4g}") for group, value in moved.items()}
    return {**tables, "server": {**tables["server"], "name": "average", "learning_rate": rates}}


def _method(name: str, slower: float) -> Recipe:
    if name == TURNS:
        return partial(in_turns, slower=slower)
    return adapted(name, rank=32 if name == SQUARE else 2, slower=slower)


def _arm(name: str, tables: Recipe) -> Arm:
    return Arm(name=name, kind="federated", recipe=tables, epsilons=EPSILONS, seeds=SEEDS)


METHODS = Experiment(
    name="methods",
    pools=pools,
    arms=(
        _arm("head", recipe(trained="head")),
        *(
            _arm(name, _method(name, SLOWER.get(name, 1.0)))
            for name in (PLAIN, *OTHERS, SQUARE, TURNS)
        ),
    ),
    questions=tuple(
        Question(text=f"{name} above ffa at ε = {e:g}", left=(name, e), right=(PLAIN, e))
        for e in EPSILONS
        for name in (*OTHERS, SQUARE, TURNS, "head")
    ),
)

SEARCH = Experiment(
    name="methods-search",
    pools=search_pools,
    arms=tuple(
        Arm(
            name=f"{name} at {slower:g} of the rate",
            kind="federated",
            recipe=_method(name, slower),
            epsilons=(8.0, math.inf),
            seeds=(1,),
        )
        for name in SEARCHED
        for slower in TRIED
    ),
    questions=(),
)
