"""Do robust rules stand outlets that lie? AG News over eight outlets, two of which do.

Each attack is a pool of its own, over the same rows: the first 2,000 of `train_a`, two to a made
reader, readers to 8 outlets; the first 2,000 of the official test set. In `label flip` the liars'
labels are turned round. What is trained is the default head at ε = 8, each outlet with its own
noise. Nothing was chosen by these figures.

Example: `run_experiment(ROBUST.trials(data, out, seeds=None), out, workers=1, on_done=tick)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from presspool.common.runs.recipe import head_recipe
from presspool.simulations.experiments.arms import Arm, Tables
from presspool.simulations.experiments.declared.agnews import LABELS, make_pool, read_rows
from presspool.simulations.experiments.experiment import Experiment, Question
from presspool.simulations.experiments.lies import ATTACKS
from presspool.simulations.experiments.pools import Pool, flipped

OUTLETS, LIARS = 8, ("outlet-07", "outlet-08")
TRAIN, TEST = 2000, 2000
EPSILON, SEEDS = 8.0, (1,)
RULES = ("trimmed-mean", "median", "krum", "rfa")
NOBODY, FLIPPED = "nobody lies", "label flip"


def pools(data: Path, folder: Path) -> list[Pool]:
    """One for each attack, and one without any.

    Raises:
        DataError: the data set is not there.
    """
    train, test = read_rows(data, "train_a")[:TRAIN], read_rows(data, "test")[:TEST]

    def made(name: str, attack: str = "") -> Pool:
        found = make_pool(train, test, folder / name.replace(" ", "-"), OUTLETS)
        liars = LIARS if attack else ()
        return replace(found, name=name, attack=attack, liars=liars)

    wrong = made(FLIPPED)
    flipped(wrong, LIARS, dict(zip(LABELS, LABELS[::-1], strict=True)))
    return [made(NOBODY), wrong, *(made(attack, attack) for attack in ATTACKS)]


def mean(populations: Mapping[str, int], classes: int, epsilon: float) -> Tables:
    """The default head."""
    return head_recipe(populations=populations, classes=classes, epsilon=epsilon)


def stands(rule: str, populations: Mapping[str, int], classes: int, epsilon: float) -> Tables:
    """The default head under a robust rule that reckons with the liars."""
    tables = mean(populations, classes, epsilon)
    federation = {**tables["federation"], "robust": rule, "attackers": len(LIARS)}
    return {**tables, "federation": federation}


ROBUST = Experiment(
    name="robust",
    pools=pools,
    arms=(
        Arm(name="mean", kind="federated", recipe=mean, epsilons=(EPSILON,), seeds=SEEDS),
        *(
            Arm(
                name=rule,
                kind="federated",
                recipe=partial(stands, rule),
                epsilons=(EPSILON,),
                seeds=SEEDS,
            )
            for rule in RULES
        ),
    ),
    questions=tuple(
        Question(text=f"{rule} above the mean", left=(rule, EPSILON), right=("mean", EPSILON))
        for rule in RULES
    ),
)
