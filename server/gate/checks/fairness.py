"""Names and places that must not decide, and groups that must not be served worse.

Two ways of looking: a name is put in another's place and the answer may not change (counterfactual
swaps); and the task's first metric of each group of public rows is set beside the others'.

Invariants:
    * Each pair of names is judged by itself: a mean over pairs hides the one that decides.
    * Names that stand in no text, and tasks whose answers are no labels, have shown nothing: what
      was asked for and not judged does not pass.
    * A group of too few rows is named and not judged; where less than two are left, nothing was
      shown, and nothing passes.

Example: `[found.figures["flips"] for found in findings(case) if "flips" in found.figures]`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from presspool.common.base.console import progress
from presspool.common.base.extras import from_extra
from presspool.common.released.adapter_model import AdapterModel
from presspool.common.tasks.metric import Metric
from presspool.server.gate.checks.name_swaps import OUR_SWAPS, Swap, own_swaps, written_in_han
from presspool.server.gate.checks.public_rows import without_rows
from presspool.server.gate.finding import Figure, Finding, finding
from presspool.server.gate.gate_case import GateCase
from presspool.server.gate.release_policy import Fairness
from presspool.server.rounds.evaluation import spread

TEXTS: Final = 100
"""In which a pair of names is swapped, at most."""
_finding = partial(finding, "fairness")
_MORE_NAMES = "train on texts in which names of both kinds stand under all labels"
_MORE_ROWS = "train on more texts of the group that is served worst, or allow a larger gap"


def findings(case: GateCase) -> Iterator[Finding]:
    """One a kind of names and one a column of groups, where the policy asks for it."""
    asked = case.policy.fairness
    if asked is None:
        return
    if case.public is None:
        yield without_rows("fairness")
        return
    model, rows = case.candidate.model, case.public
    if asked.swaps is False:
        yield _finding("names", "no names were swapped: the policy says so", judged=False)
    else:
        swaps = OUR_SWAPS if asked.swaps is None else own_swaps(case.beside / asked.swaps)
        yield from _swapped(model, rows, swaps, asked.largest_flips)
    columns = case.policy.public.groups if case.policy.public else ()
    if not columns:
        yield _finding("groups", "the policy names no column of groups", judged=False)
        return
    judged = model.judged(rows)

    def metric(places: NDArray[np.int64], _: object) -> float:
        some = {name: values[places] for name, values in judged.items()}
        value = model.task.score(some, rows.take(places))[model.task.primary.name]
        return math.nan if value is None else value

    for column in columns:
        groups = np.array([str(name) for name in rows[column].to_pylist()])
        yield _gap(column, groups, metric, asked, model.task.primary)


# --- Names ----------------------------------------------------------------------------------------


def _swapped(
    model: AdapterModel, rows: pa.Table, swaps: Sequence[Swap], largest: float
) -> Iterator[Finding]:
    """One a kind of names."""
    kinds = list(dict.fromkeys(swap.kind for swap in swaps))
    if not model.task.options:
        said = f"not judged: answers of the task {model.contract.task.kind!r} are no labels"
        advice = "say swaps = false in this task's [fairness], and compare answers by hand"
        yield from (_finding(kind, said, advice) for kind in kinds)
        return
    texts: list[str] = rows[model.task.inputs[0]].to_pylist()
    with progress("swapping names", total=len(swaps)) as advance:
        for kind in kinds:
            pairs = [swap for swap in swaps if swap.kind == kind]
            yield _flips(kind, [_flipped(model, texts, pair, advance) for pair in pairs], largest)


def _flipped(
    model: AdapterModel, texts: Sequence[str], swap: Swap, advance: Callable[[], None]
) -> dict[str, Figure]:
    """How often an answer changes with a pair, as a row of the page."""
    fit = [text for text in texts if written_in_han(text) == swap.han]
    sides = (swap.sides(fit[place]) for place in spread(len(fit), TEXTS).tolist())
    some = [pair for pair in sides if pair[0] != pair[1]]  # else nothing would be asked
    one, other = (model.predict([pair[side] for pair in some]) for side in (0, 1))
    answers = zip(one, other, strict=True)
    changed = sum(here.answer != there.answer for here, there in answers)
    advance()
    share = changed / len(some) if some else None
    return {"one": swap.one, "other": swap.other, "texts": len(some), "flips": share}


def _flips(kind: str, lines: Sequence[dict[str, Figure]], largest: float) -> Finding:
    tried = [line for line in lines if line["texts"]]
    if not tried:
        advice = "give public texts in the names' own script, or names in that of the texts"
        return _finding(kind, "no public text is written as these names are", advice)
    worst = max(tried, key=lambda line: float(line["flips"] or 0))
    share = float(worst["flips"] or 0)
    said = (
        f"{share:.1%} of the answers change between {worst['one']} and {worst['other']}, the worst "
        f"of {len(tried)} pairs; at most {largest:.1%}"
    )
    advice = "" if share <= largest else _MORE_NAMES
    return _finding(kind, said, advice, {"flips": share, "pairs": len(tried)}, rows=tuple(tried))


# --- Groups ---------------------------------------------------------------------------------------


def _gap(
    column: str,
    groups: NDArray[np.str_],
    metric: Callable[[NDArray[np.int64], object], float],
    asked: Fairness,
    about: Metric,
) -> Finding:
    """Between the best and the worst served of a column's groups.

    Args:
        column: its name.
        groups: of each row, (rows,).
        metric: of some rows, by their places.
        asked: how large a gap may be, and how small a group.
        about: the metric.
    """
    what, names = f"groups of {column}"[:200], np.unique(groups)
    sizes = {str(name): int((groups == name).sum()) for name in names}
    judged = {name for name, size in sizes.items() if size >= asked.smallest_group}
    large = np.flatnonzero(np.isin(groups, [*judged]))
    frame = (
        _frame()(metrics=metric, y_true=large, y_pred=large, sensitive_features=groups[large])
        if len(judged) > 1
        else None
    )
    found = {} if frame is None else {str(k): float(v) for k, v in frame.by_group.items()}
    lines = tuple(_line(name, size, about, found.get(name)) for name, size in sizes.items())
    if frame is None or not all(map(math.isfinite, found.values())):
        said = (
            f"{len(judged)} of {len(sizes)} groups have {asked.smallest_group} rows or more, "
            f"and two are needed in which {about.title} can be computed"
        )
        advice = "give public rows of two groups or more, or set smallest_group lower"
        return _finding(what, said, advice, rows=lines)
    gap = float(frame.difference() if about.higher_is_better else 1 - frame.ratio())
    said = (
        f"{about.title} differs by {gap:.3f}{'' if about.higher_is_better else ' of the most'} "
        f"between {len(found)} groups, at most {asked.largest_gap:.3f}; "
        f"{len(sizes) - len(found)} smaller ones are not judged"
    )
    advice = "" if gap <= asked.largest_gap else _MORE_ROWS
    return _finding(what, said, advice, {"gap": gap, "groups": len(found)}, rows=lines)


def _line(name: str, size: int, about: Metric, value: float | None) -> dict[str, Figure]:
    """A group as a row of the page."""
    known = value if value is not None and math.isfinite(value) else None
    return {"group": name, "rows": size, about.name: known}


def _frame() -> Any:
    with from_extra("gate", "groups cannot be compared without Fairlearn"):
        from fairlearn.metrics import MetricFrame
    return MetricFrame
