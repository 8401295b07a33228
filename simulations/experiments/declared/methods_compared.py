"""Which method trains best at an ε? SST-2 over four outlets, every method, at ε of ∞, 8 and 3.

Data as `newsroom_tasks.sentiment` has them: four outlets of 865 made readers; a head alone stays
far below what a trained encoder reaches there, so there is something for a method to win. What
trains beside the head is in the last two layers, as in the
recipe `adapter`, whose clip norms, steps and rates all methods share: nothing was tuned for any of
them, and nothing was chosen by these figures. Two things differ, because they must:

* Fed-SB has rank 32, so that its square matrices have about as many numbers as FFA's B at rank 2.
* RoLoRA's coordinator cannot be Adam. It averages, at the rate that moves a number of the adapter
  about as far as Adam does: 0.02 over the standard deviation of its mean gradient, of which the
  plan's noise is one part and a gradient of norm 0.7 C over d numbers the other.

Example: `run_experiment(METHODS.trials(data, out, seeds=None), out, workers=1, on_done=tick)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from presspool.common.contract.privacy_plan import solve_noise
from presspool.common.runs.recipe import recipe
from presspool.simulations.experiments.arms import Arm, Tables
from presspool.simulations.experiments.declared.newsroom_tasks import sentiment
from presspool.simulations.experiments.experiment import Experiment, Question
from presspool.simulations.experiments.pools import Pool

EPSILONS, SEEDS = (3.0, 8.0, math.inf), (1, 2, 3)
TURNS, SQUARE, PLAIN = "rolora", "fed-sb", "ffa"
OTHERS = ("fedit", "rslora", "dora", "bottleneck", "ia3", "bitfit", "layernorm")
_NUMBERS = {"adapter": 13_824, "head": 768}  # d: of one factor of MiniLM's last two layers
_LENGTH = 0.7  # of a reader's gradient, by C


def pools(data: Path, folder: Path) -> list[Pool]:
    """Four outlets.

    Raises:
        DataError: the data set is not there.
    """
    return [sentiment(data, folder)]


def adapted(method: str, rank: int = 2) -> Tables:
    """The recipe `adapter` with another method."""
    tables = recipe(trained="adapter")
    adapter = {**tables["adapter"], "method": method, "rank": rank, "alpha": 2 * rank}
    return {**tables, "adapter": adapter}


def in_turns(populations: Mapping[str, int], classes: int, epsilon: float) -> Tables:  # noqa: ARG001
    """The same for RoLoRA, at a coordinator that averages."""
    tables = adapted(TURNS)
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


def _arm(name: str, tables: Tables | Callable[[Mapping[str, int], int, float], Tables]) -> Arm:
    return Arm(name=name, kind="federated", recipe=tables, epsilons=EPSILONS, seeds=SEEDS)


METHODS = Experiment(
    name="methods",
    pools=pools,
    arms=(
        _arm("head", recipe(trained="head")),
        _arm(PLAIN, adapted(PLAIN)),
        *(_arm(name, adapted(name)) for name in OTHERS),
        _arm(SQUARE, adapted(SQUARE, rank=32)),
        _arm(TURNS, in_turns),
    ),
    questions=tuple(
        Question(text=f"{name} above ffa at ε = {e:g}", left=(name, e), right=(PLAIN, e))
        for e in EPSILONS
        for name in (*OTHERS, SQUARE, TURNS, "head")
    ),
)
