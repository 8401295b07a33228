"""`recipe = "default"` in a run file: everything but outlets, labels and ε filled in.

The values are made from public numbers alone (declared populations, number of labels, ε), before
the contract is frozen: what is frozen holds the values and never the word, so its digest covers
what will happen. A value that the file gives stands as it is.

* A task with a head of its own gets `recipe.head_recipe`; where the file names a method that trains
  an adapter, the recipe of the adapter.
* Tagging gets `tagging_recipe`: what `head_recipe` reckons with is one vector a record, and labels
  whose names the head can start from.
* Recommendation gets `ranking_recipe`: its head is of numbers for titles, not of labels.
* Where records have several labels, or labels an order, the head starts at zero and has a bias.
* A task that writes gets `writing_recipe`, chosen on training days of headlines (docs/results.md).
* A task that says hidden tokens gets `hidden_recipe`.

Example:
    >>> body = {"recipe": "default", "outlets": {"a": 900, "b": 700}, "privacy": {"epsilon": 3}}
    >>> filled({**body, "task": {"labels": ["x", "y"]}}, where="run.toml", name="run")["federation"]
    {'rounds': 32, 'local_steps': 1, 'quorum': 2}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any

from pydantic import Field, ValidationError

from presspool.common.base.errors import ContractError
from presspool.common.contract.contract_schema import AnyTask, Epsilon, Name, Table
from presspool.common.contract.doors import METHODS, TASKS
from presspool.common.runs.recipe import Trained, head_recipe, recipe, run_noise

Tables = dict[str, dict[str, Any]]

EVERY_LAYER = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# The median norm of 32 training readers' gradients at the start, of the "o and down" variant.
CLIP, RATE = 0.65, 0.02
_DELTA = 1e-5
_CHANCE_CLIP, _CHANCE_MOVES = 0.5, 0.25
_RANKED, _MOVED, _RANKED_STEPS, _RANKED_CLIP = 200.0, 0.13, 32, 5.0


class _Budget(Table, extra="ignore"):
    """The part of [privacy] that a recipe asks for."""

    epsilon: Epsilon = None
    delta: Annotated[float, Field(gt=0, lt=1)] | None = None


class _Pool(Table, extra="ignore"):
    """The part of [pooled] that a recipe asks for."""

    colluders: Annotated[int, Field(ge=0)]
    dropouts: Annotated[int, Field(ge=0)]


class _Cohort(Table, extra="ignore"):
    """The number of outlets in a round, where not all are in it."""

    cohort: Annotated[int, Field(ge=1)] | None = None


class _Asked(Table, extra="ignore"):
    """The part of a run file that a recipe asks for."""

    outlets: Annotated[dict[Name, Annotated[int, Field(ge=1)]], Field(min_length=1)]
    task: AnyTask
    privacy: _Budget
    federation: _Cohort = _Cohort()
    pooled: _Pool | None = None


# Where the file itself is at fault, which validation says better than a recipe could.
_STAND_IN_EPSILON = 3.0
_STAND_IN = {"outlets": {"outlet": 1000}, "task": {"labels": ["a", "b"]}, "privacy": {}}


def filled(body: Mapping[str, Any], *, where: str, name: str) -> dict[str, Any]:
    """A run file's body with what its recipe fills in, and without the word `recipe`.

    Args:
        body: the contract's part of a run file; without `recipe` it comes back as it is.
        where: the file, for errors.
        name: of a run that says none.

    Raises:
        ContractError: another recipe than "default", or no ε to make one for.
    """
    rest = {key: value for key, value in body.items() if key != "recipe"}
    if "recipe" not in body:
        return rest
    if body["recipe"] != "default":
        raise ContractError(
            "unknown recipe", where=f"{where} recipe", expected='"default"', got=body["recipe"]
        )
    whole: dict[str, Any] = {"name": name, **rest}
    for key, table in _tables(rest, where).items():
        own = rest.get(key, {})
        whole[key] = {**table, **own} if isinstance(own, Mapping) else own
    return whole


def _tables(body: Mapping[str, Any], where: str) -> Tables:
    asked, said = _Asked.model_validate(_STAND_IN), dict[str, Any]()
    with suppress(ValidationError):
        asked, said = _Asked.model_validate(body), body["privacy"]
    if asked.privacy.epsilon is None and "noise_multiplier" in said:
        raise ContractError(
            "missing key",
            where=f"{where} [privacy] epsilon",
            advice="add it (the recipe is made for an ε), or leave out recipe and give all keys",
        )
    epsilon = asked.privacy.epsilon or _STAND_IN_EPSILON
    tables = _of_task(asked, epsilon, body.get("adapter"))
    if getattr(asked.task, "mode", "single") != "single":
        del tables["task"]  # names start a head of which one label is to win, and nothing else
    elif not said:
        tables["task"] = {}  # what stands in is of another kind, whose keys would be blamed
    crowd = asked.federation.cohort or len(asked.outlets)
    tables["federation"] = {**tables["federation"], "quorum": crowd // 2 + 1}
    return tables


def _of_task(asked: _Asked, epsilon: float, adapter: object) -> Tables:
    populations = asked.outlets
    delta = asked.privacy.delta or min(_DELTA, 0.1 / max(populations.values()))
    task, pool = TASKS[asked.task.kind], asked.pooled
    uncounted = pool.colluders + pool.dropouts if pool else None
    if "head" not in task.groups:
        tables = hidden_recipe() if task.auto == "AutoModel" else writing_recipe()
    elif asked.task.kind == "tagging":
        tables = tagging_recipe(trained="adapter" if _trains_adapter(adapter) else "head")
    elif asked.task.kind == "recommendation" and _trains_adapter(adapter):
        tables = ranking_adapter_recipe()
    elif asked.task.kind == "recommendation":
        return ranking_recipe(
            populations=populations,
            epsilon=epsilon,
            delta=delta,
            uncounted=uncounted,
            cohort=asked.federation.cohort,
        )
    elif _trains_adapter(adapter):
        tables = recipe(trained="adapter")
        if asked.task.kind == "ad-response":
            tables["task"] = {}
    else:
        classes = len(getattr(asked.task, "labels", ())) or 1  # whether it happens
        tables = head_recipe(
            populations=populations,
            classes=classes,
            epsilon=epsilon,
            delta=delta,
            uncounted=uncounted,
            cohort=asked.federation.cohort,
        )
        return click_recipe(tables) if asked.task.kind == "ad-response" else tables
    return {**tables, "privacy": {**tables["privacy"], "delta": delta}}


def tagging_recipe(*, trained: Trained = "head") -> Tables:
    """The tables of a tagging run's contract, but for ε, outlets and labels.

    Those of `recipe`, whose Adam takes steps of one size whatever the gradients' is; the head
    starts at zero, as no label's name is a token's state. It takes more steps than other heads, of
    a smaller clip norm: most words are of no entity, and a head that has learnt so has gradients of
    norm 0.06 left. Chosen on training readers of WNUT 17 and Broad Twitter (docs/results.md).
    """
    tables = {**recipe(trained=trained), "task": {"max_length": 64}}
    if trained == "adapter":
        return tables
    rounds = {**tables["federation"], "rounds": 64}
    return {**tables, "federation": rounds, "privacy": {**tables["privacy"], "clip": 0.1}}


def ranking_recipe(
    *,
    populations: Mapping[str, int],
    epsilon: float,
    delta: float = _DELTA,
    uncounted: int | None = None,
    cohort: int | None = None,
) -> Tables:
    """The tables of a contract that trains the head of titles, but for ε and outlets.

    Plain gradient steps with all readers, and the mean of the last half of the iterates: Adam would
    step as far where a gradient is all noise. How far the steps go together, the rate times their
    number, is 200 of a reader's clipped gradient, or less where few readers would let the noise
    move a weight by more than 0.13. Both were found on made clicks (`simulations.newsroom.reads`)
    of two seeds, of 2,000 readers at ε = 8, where more of either no longer helped.

    Args:
        populations: declared readers of each outlet.
        epsilon: the run's; `math.inf` without privacy.
        delta: the run's δ.
        uncounted: as of `recipe.head_recipe`.
        cohort: likewise.

    Raises:
        ContractError: an ε that no noise reaches.
    """
    steps = _RANKED_STEPS
    noise = run_noise(populations, epsilon, delta, steps=steps, uncounted=uncounted, cohort=cohort)
    length = min(_RANKED, _MOVED / noise) if noise else _RANKED
    rate = length / steps / _RANKED_CLIP
    return {
        **recipe(trained="head"),
        "task": {},
        "federation": {"rounds": steps, "local_steps": 1},
        "privacy": {
            "delta": delta,
            "clip": _RANKED_CLIP,
            "records_per_reader": 16,
            "sampling_rate": 1.0,
        },
        "server": {"name": "average", "learning_rate": float(f"{rate:.4g}"), "tail": 0.5},
    }


def ranking_adapter_recipe() -> Tables:
    """As `recipe` for an adapter, without a length, and with short steps; not searched for."""
    tables = recipe(trained="adapter")
    rates = {"adapter": 0.02, "head": 0.02}
    return {**tables, "task": {}, "server": {**tables["server"], "learning_rate": rates}}


def click_recipe(head: Tables) -> Tables:
    """The tables of a run that says chances, of `head_recipe`'s.

    Clipped far below their norm, gradients keep their directions alone, and clicks count as much as
    the many showings without one: answers would be sorted well, and chances be wrong. So the norm
    is about that of a reader's gradient, which is 0.7 at the start, and the head moves by a quarter
    as much. Both were tried on made adverts (simulations/newsroom/ads.py; see the guide).
    """
    length = head["server"]["learning_rate"] * head["privacy"]["clip"]
    rate = float(f"{_CHANCE_MOVES * length / _CHANCE_CLIP:.4g}")
    return {
        **head,
        "task": {},
        "privacy": {**head["privacy"], "clip": _CHANCE_CLIP},
        "server": {**head["server"], "learning_rate": rate},
    }


def _trains_adapter(adapter: object) -> bool:
    """Whether a file's [adapter] names a method that trains one."""
    named = adapter.get("method") if isinstance(adapter, Mapping) else None
    return named in METHODS.names and "adapter" in METHODS[str(named)].groups


def writing_recipe(
    *, rank: int = 1, targets: Sequence[str] = EVERY_LAYER, clip: float = CLIP, rate: float = RATE
) -> Tables:
    """The tables of a generating run's contract, but for ε and outlets.

    Args:
        rank: of the adapter.
        targets: layers that get one.
        clip: clip norm.
        rate: of the coordinator's Adam.
    """
    return {
        "model": {"id": "smollm2-135m-instruct"},
        "adapter": {"rank": rank, "alpha": 16, "layers": 6, "targets": list(targets)},
        "federation": {"rounds": 15, "local_steps": 1},
        "privacy": {
            "delta": _DELTA,
            "clip": clip,
            "records_per_reader": 2,
            "sampling_rate": 0.1,
        },
        "optimizer": {"learning_rate": 1.0},
        "server": {"name": "adam", "learning_rate": rate, "betas": [0.9, 0.99]},
    }


def hidden_recipe() -> Tables:
    """The tables of a run that says hidden tokens, but for ε and outlets.

    The default encoder, and the linear layers of its last layer: what is frozen below is computed
    once a record. The clip norm is the median norm of 64 training readers' gradients at the start,
    of comments (`stackexchange_comments`).
    """
    return {
        "adapter": {"rank": 4, "alpha": 16, "layers": 1, "targets": ["dense"]},
        "federation": {"rounds": 16, "local_steps": 1},
        "privacy": {
            "delta": _DELTA,
            "clip": 1.0,
            "records_per_reader": 2,
            "sampling_rate": 0.125,
        },
        "optimizer": {"learning_rate": 1.0},
        "server": {"name": "adam", "learning_rate": 0.03, "betas": [0.9, 0.99]},
    }
