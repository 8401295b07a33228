"""The default recipe: what trains, with which clip norms, steps and rates, at a reader-level ε.

Two recipes, both chosen on training rows of AG News (`presspool experiment agnews --search`; what
was tried stands in docs/results.md):

* `head`, the default: the base is frozen, so its features are computed once a record and every step
  may take all readers (q = 1), which buys the most accuracy for an ε. The head starts from the
  labels' names.
* `adapter`: also LoRA on all linear layers of the last two layers, whose frozen part below is
  computed once a record. Outlets send one noisy gradient a round and the coordinator takes an Adam
  step with their average: Adam's moments then see the noise of the whole pool, not of one outlet.

The adapter can pay only where the noise on its gradient is small beside what clipping lets through:
`noise_share` says how small; `ADAPTER_PAYS` is below every share at which it was seen not to.

Example:
    >>> recipe(trained="head")["privacy"]["sampling_rate"]
    1.0
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from presspool.common.contract.privacy_plan import PrivacyPlan, solve_noise

Trained = Literal["adapter", "head"]

# AG News, adapter less head alone, by share (docs/results.md). Each outlet with its own noise:
# +0.002 at 0, -0.002 at 0.055 and at 0.092, -0.018 at 0.12, -0.026 at 0.21. Noise that the pool
# shares, against the better head of `head_recipe`: -0.006 at 0.086. No share but 0 was seen to pay;
# this is below all that were tried.
ADAPTER_PAYS = 0.03

# Of `head_recipe`; see there.
_CLIP, _RECORDS, _SPREAD, _LENGTH = 0.1, 16, 1.0, 0.7
_STEPS, _LONGEST = (32, 64, 128), 30.0
_FEATURES = 384  # of the default base model

_LINEAR = ("query", "key", "value", "dense")
_DELTA = 1e-5


def recipe(*, trained: Trained = "head") -> dict[str, dict[str, Any]]:
    """The tables of a contract, but for ε, outlets and labels."""
    if trained == "head":
        return {
            "task": {"head": "names"},
            "adapter": {"layers": 1, "method": "head"},
            "federation": {"rounds": 16, "local_steps": 1},
            "privacy": {
                "delta": _DELTA,
                "clip": 0.2,
                "records_per_reader": 2,
                "sampling_rate": 1.0,
            },
            "optimizer": {"learning_rate": 1.0},
            "server": {"name": "adam", "learning_rate": 0.3, "schedule": "cosine"},
        }
    return {
        "task": {"head": "names"},
        "adapter": {"rank": 2, "alpha": 4, "layers": 2, "targets": list(_LINEAR)},
        "federation": {"rounds": 16, "local_steps": 1},
        "privacy": {
            "delta": _DELTA,
            "clip": {"adapter": 0.2, "head": 0.2},
            "records_per_reader": 2,
            "sampling_rate": 0.125,
        },
        "optimizer": {"learning_rate": 1.0},
        "server": {
            "name": "adam",
            "learning_rate": {"adapter": 0.02, "head": 0.5},
            "schedule": "cosine",
        },
    }


def head_recipe(
    *,
    populations: Mapping[str, int],
    classes: int,
    epsilon: float,
    delta: float = _DELTA,
    uncounted: int | None = None,
    cohort: int | None = None,
) -> dict[str, dict[str, Any]]:
    """The tables of a contract that trains the head well, but for ε, from public numbers alone.

    Plain gradient steps with all readers, and the mean of the last half of the iterates. How far
    the steps go together, the rate times their number, is what has to be right: too far, and the
    head learns the noise. It is 1 over the standard deviation that a coordinate of the pool's mean
    gradient would have if all steps were one: that of the plan's noise, σC√K/(N√T), and of readers
    being a sample, 0.7 C/√(N·d·classes), as a reader's gradient is some 0.7 C long. So a weight
    moves about as far as good weights are, and no further than what is seen of it supports. There
    are as few steps, of 32, 64 and 128, as keep one from moving the weights by more than 30 for
    readers' gradients that are all of norm C and agree.

    Source: the number of steps as a filter, Yao, Rosasco & Caponnetto 2007, section 2; the mean of
    iterates, Polyak & Juditsky 1992. The five constants were found as docs/results.md says.

    Args:
        populations: declared readers of each of the K outlets, N together.
        classes: number of labels.
        epsilon: the run's; `math.inf` without privacy.
        delta: the run's δ.
        uncounted: where the pool shares its noise, c + d: the sum then carries the plan's variance
            K/(K − c − d) times and not K times. σ is taken from the local plan all the same.
        cohort: outlets in a round; None for all.

    Raises:
        ContractError: an ε that no noise reaches.

    Example:
        >>> tables = head_recipe(populations={"a": 2000}, classes=4, epsilon=math.inf)
        >>> tables["federation"], tables["server"]["learning_rate"]
        ({'rounds': 128, 'local_steps': 1}, 195.6)
    """
    readers, asked = sum(populations.values()), (cohort or len(populations)) / len(populations)
    for steps in _STEPS:
        noise = run_noise(
            populations, epsilon, delta, steps=steps, uncounted=uncounted, cohort=cohort
        )
        seen = min(1.0, steps * asked) * readers
        sample = _LENGTH / math.sqrt(seen * _FEATURES * classes)
        length = _SPREAD / (math.hypot(noise, sample) * steps)
        if length <= _LONGEST:
            break
    rate = min(length, _LONGEST) / _CLIP
    return {
        "task": {"head": "names", "bias": False},
        "adapter": {"layers": 1, "method": "head"},
        "federation": {"rounds": steps, "local_steps": 1},
        "privacy": {
            "delta": delta,
            "clip": _CLIP,
            "records_per_reader": _RECORDS,
            "sampling_rate": 1.0,
        },
        "optimizer": {"learning_rate": 1.0},
        "server": {"name": "average", "learning_rate": float(f"{rate:.4g}"), "tail": 0.5},
    }


def run_noise(
    populations: Mapping[str, int],
    epsilon: float,
    delta: float,
    *,
    steps: int,
    uncounted: int | None,
    cohort: int | None,
) -> float:
    """Noise on the pool's mean gradient, where readers' are of norm 1, if all steps were one.

    Its standard deviation, of each number, with all readers of who is asked in each of the steps.

    Args:
        populations: as of `head_recipe`, like what follows.
        epsilon: of the run.
        delta: of the run.
        steps: of the run, one a round.
        uncounted: where the pool shares its noise, c + d.
        cohort: outlets in a round; None for all.

    Raises:
        ContractError: an ε that no noise reaches.
    """
    readers, outlets = sum(populations.values()), len(populations)
    asked = cohort or outlets
    times = asked if uncounted is None else outlets / max(1, outlets - uncounted)
    turns = -(-steps * asked // outlets)
    sigma = solve_noise(epsilon=epsilon, delta=delta, sampling_rate=1.0, steps=turns)
    return sigma * math.sqrt(times / steps) / (readers * asked / outlets)


def noise_share(plan: PrivacyPlan, populations: Mapping[str, int], parameters: int) -> float:
    """Noise by signal on the pool's mean gradient of a parameter group, over the whole run.

    The noise on the mean of all outlets has the norm σS√(dK)/(qN) a step and shrinks as 1/√T over
    the run; the signal is at most the group's clip norm, which is taken as S.

    Args:
        plan: the run's plan.
        populations: declared readers of each of the K outlets.
        parameters: d, numbers in the group.
    """
    outlets, readers = len(populations), sum(populations.values())
    noise = plan.noise_multiplier * math.sqrt(parameters * outlets)
    return noise / (plan.sampling_rate * readers * math.sqrt(plan.steps))
