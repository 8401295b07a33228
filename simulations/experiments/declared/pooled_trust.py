"""What noise that the pool shares brings: AG News, eight real outlets, headlines of small ones.

Each outlet's own noise (`local`) against shares of one noise (`pooled`), at the same ε of a reader;
a fifth of the outlets may collude, a tenth drop out. `central` is everybody's readers in one place
with that place's own noise: what a pool without colluders and dropouts would be.

`SEARCH` is for the model that writes: training days of the same small outlets, one seed.
The adapter's recipe was not searched for: both factors, rank 4, a quarter of the readers in each of
24 steps, which did best where all readers' gradients were taken for one outlet's. Tried once on
training rows (a quarter of them kept for that), it was below the head.

Example: `run_experiment(POOLED.trials(data, out, seeds=None), out, workers=2, on_done=tick)`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from presspool.common.runs.default_recipe import writing_recipe
from presspool.common.runs.recipe import head_recipe, recipe
from presspool.simulations.experiments.arms import Arm, Tables
from presspool.simulations.experiments.declared import agnews, headlines, outlets
from presspool.simulations.experiments.experiment import Experiment, Question, ShareQuestion
from presspool.simulations.experiments.pools import Pool

SMALL = 300  # readers of an outlet of headlines
LABELLED, WRITING = ("agnews-4", "agnews-20", "articles"), ("headlines-300",)
PRIVATE = (1.0, 3.0, 8.0)
SEEDS = (1, 2, 3)


def pools(data: Path, folder: Path) -> list[Pool]:
    """Both pools of AG News, eight real outlets, and eight small ones that write headlines.

    Raises:
        DataError: a data set is not there.
    """
    days = headlines.TEST_DAY, "99999999"
    small = headlines.headline_pool(data, folder / WRITING[0], days=days, readers=SMALL)
    return [*agnews.pools(data, folder), *outlets.pools(data, folder), small]


def shared(outlets: int) -> dict[str, int]:
    """[pooled]: a fifth of the outlets, rounded up, may collude, a tenth, rounded down, drop."""
    return {"colluders": math.ceil(outlets / 5), "dropouts": outlets // 10}


def local_head(populations: Mapping[str, int], classes: int, epsilon: float) -> Tables:
    """The default recipe, each outlet with noise of its own."""
    return head_recipe(populations=populations, classes=classes, epsilon=epsilon)


def pooled_head(populations: Mapping[str, int], classes: int, epsilon: float) -> Tables:
    """The default recipe with noise that the pool shares."""
    uncounted = sum(shared(len(populations)).values())
    return _pooled(
        head_recipe(populations=populations, classes=classes, epsilon=epsilon, uncounted=uncounted),
        len(populations),
    )


def pooled_adapter(populations: Mapping[str, int], _classes: int, _epsilon: float) -> Tables:
    """Head and adapter, both factors, with noise that the pool shares."""
    tables = recipe(trained="adapter")
    tables["adapter"] |= {"method": "fedit", "rank": 4, "alpha": 8}
    tables["federation"] |= {"rounds": 24}
    tables["privacy"] |= {"sampling_rate": 0.25}
    return _pooled(tables, len(populations))


def search_pools(data: Path, folder: Path) -> list[Pool]:
    """The small outlets' headlines, judged on the last training days; raises as `pools`."""
    days = headlines.VALIDATION_DAY, headlines.TEST_DAY
    pool = headlines.headline_pool(data, folder / "headlines-search", days=days, readers=SMALL)
    return [pool]


def pooled_writing(
    populations: Mapping[str, int], _classes: int, _epsilon: float, *, rate: float = 0.1
) -> Tables:
    """The default recipe of a model that writes, with noise that the pool shares.

    `rate` is the share of the readers in a step.
    """
    tables = writing_recipe()
    privacy = {**tables["privacy"], "sampling_rate": rate}
    return _pooled({**tables, "privacy": privacy}, len(populations))


def _pooled(tables: Tables, outlets: int) -> Tables:
    federation = {**tables["federation"], "trust": "pooled"}
    return {**tables, "federation": federation, "pooled": shared(outlets)}


PLAIN, OPEN = ("plain base", math.inf), ("writing without privacy", math.inf)

POOLED = Experiment(
    name="pooled",
    pools=pools,
    arms=(
        Arm(
            name="local head",
            kind="federated",
            recipe=local_head,
            epsilons=PRIVATE,
            seeds=SEEDS,
            pools=LABELLED,
        ),
        Arm(
            name="pooled head",
            kind="federated",
            recipe=pooled_head,
            epsilons=PRIVATE,
            seeds=SEEDS,
            pools=LABELLED,
        ),
        Arm(
            name="central head",
            kind="central",
            recipe=local_head,
            epsilons=PRIVATE,
            seeds=(1,),
            pools=LABELLED,
        ),
        Arm(
            name="head without privacy",
            kind="federated",
            recipe=local_head,
            seeds=(1,),
            pools=LABELLED,
        ),
        Arm(
            name="alone without privacy",
            kind="local",
            recipe=local_head,
            seeds=SEEDS,
            pools=("articles",),
        ),
        Arm(
            name="pooled adapter",
            kind="federated",
            recipe=pooled_adapter,
            epsilons=(3.0, 8.0),
            seeds=(1,),
            pools=("agnews-20",),
        ),
        Arm(name=PLAIN[0], kind="untrained", recipe=writing_recipe(), seeds=(1,), pools=WRITING),
        Arm(
            name="local writing",
            kind="federated",
            recipe=writing_recipe(),
            epsilons=(8.0,),
            seeds=SEEDS,
            pools=WRITING,
        ),
        Arm(
            name="pooled writing",
            kind="federated",
            recipe=pooled_writing,
            epsilons=(8.0,),
            seeds=SEEDS,
            pools=WRITING,
        ),
        Arm(name=OPEN[0], kind="federated", recipe=writing_recipe(), seeds=SEEDS, pools=WRITING),
    ),
    questions=(
        *(
            Question(
                text=f"pooled above local at ε = {epsilon:g}",
                left=("pooled head", epsilon),
                right=("local head", epsilon),
                figure="own",
            )
            for epsilon in PRIVATE
        ),
        Question(
            text="pooled at ε = 1 above local at ε = 3",
            left=("pooled head", 1.0),
            right=("local head", 3.0),
        ),
        Question(
            text="pooled at ε = 3 above alone without privacy",
            left=("pooled head", 3.0),
            right=("alone without privacy", math.inf),
            figure="own",
        ),
        *(
            Question(
                text=f"adapter above head, both pooled, at ε = {epsilon:g}",
                left=("pooled adapter", epsilon),
                right=("pooled head", epsilon),
            )
            for epsilon in (3.0, 8.0)
        ),
        Question(
            text="pooled adapter above local head at ε = 3",
            left=("pooled adapter", 3.0),
            right=("local head", 3.0),
        ),
        *(
            ShareQuestion(
                text=f"share of the gain without privacy that is left, {trust}, at ε = 8",
                kept=(f"{trust} writing", 8.0),
                start=PLAIN,
                best=OPEN,
                at_least=0.80,
            )
            for trust in ("pooled", "local")
        ),
    ),
)

# One change of the default at a time.
SEARCH = Experiment(
    name="pooled-search",
    pools=search_pools,
    arms=(
        Arm(name=PLAIN[0], kind="untrained", recipe=writing_recipe(), seeds=(1,)),
        Arm(name=OPEN[0], kind="federated", recipe=writing_recipe(), seeds=(1,)),
        *(
            Arm(
                name=name,
                kind="federated",
                recipe=partial(pooled_writing, rate=rate),
                epsilons=(8.0,),
                seeds=(1,),
            )
            for name, rate in (("default", 0.1), ("a quarter of the readers", 0.25))
        ),
    ),
    questions=tuple(
        ShareQuestion(
            text=f"share of the gain without privacy that is left, {name}, at ε = 8",
            kept=(name, 8.0),
            start=PLAIN,
            best=OPEN,
            at_least=0.80,
        )
        for name in ("default", "a quarter of the readers")
    ),
)
