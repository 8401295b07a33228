"""Accuracy against ε against number of readers, for the page that helps an editor to choose.

AG News as in `agnews`, with fewer and fewer readers in four outlets, from no privacy to ε = 1: all
outlets together, and each alone, which is what an editor has to choose between. The head alone is
trained, because that is the recipe at these sizes.

Example: `run_experiment(SWEEP.trials(data, out, seeds=None), out, workers=2, on_done=tick)`.
"""

from __future__ import annotations

import math
from pathlib import Path

from presspool.common.runs.recipe import recipe
from presspool.simulations.experiments.arms import Arm
from presspool.simulations.experiments.declared import agnews
from presspool.simulations.experiments.experiment import Experiment
from presspool.simulations.experiments.pools import Pool

READERS = (75, 300, 1499)  # an outlet; four outlets
EPSILONS = (1.0, 3.0, 8.0, math.inf)


def pools(data: Path, folder: Path) -> list[Pool]:
    """Four outlets with more and more readers; the larger pools hold the smaller ones.

    Raises:
        DataError: the data set is not there.
    """
    train, test = (
        agnews.read_rows(data, "train_a"),
        agnews.read_rows(data, "test"),
    )
    records = [4 * agnews.RECORDS_PER_READER * readers for readers in READERS]
    return [
        agnews.make_pool(train[:count], test, folder / f"sweep-{readers}", 4)
        for readers, count in zip(READERS, records, strict=True)
    ]


SWEEP = Experiment(
    name="sweep",
    pools=pools,
    axis="readers",
    arms=(
        Arm(
            name="all together",
            kind="federated",
            recipe=recipe(trained="head"),
            epsilons=EPSILONS,
            seeds=(1, 2, 3),
        ),
        Arm(
            name="each alone",
            kind="local",
            recipe=recipe(trained="head"),
            epsilons=EPSILONS,
            seeds=(1,),
        ),
    ),
)
