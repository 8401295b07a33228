"""Answers on damaged texts: how much of the task's first metric is left.

Invariants:
    * What should be said of a record stays what it was; a cut takes away the tags of lost words.
    * A damage that changes no text, or that this task cannot be judged by, has shown nothing, and
      is never passed.
    * The worst way of a kind counts, not the mean.

Example: `[found.figures["drop"] for found in findings(case)]`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import pyarrow as pa

from presspool.common.base.console import progress
from presspool.common.released.adapter_model import AdapterModel
from presspool.common.tasks.records.tagged_words import kept, listed, parts_of, read
from presspool.server.gate.checks.damages import WAYS
from presspool.server.gate.checks.paraphrases import paraphrased
from presspool.server.gate.checks.public_rows import first_metric, without_rows
from presspool.server.gate.finding import Figure, Finding, finding
from presspool.server.gate.gate_case import GateCase

_TEXTS: Final = ("text", "tokens")
"""What the model reads first, of tasks whose texts can be damaged."""
_finding = partial(finding, "robustness")
_ADVICE = "train on texts as they come in, damaged ones among them, or allow a larger drop"


def findings(case: GateCase) -> Iterator[Finding]:
    """One a kind of damage, where the policy asks for it; and what paraphrases show."""
    asked = case.policy.robustness
    if asked is None:
        return
    if case.public is None:
        yield without_rows("robustness")
        return
    model, rows = case.candidate.model, case.public
    ways = sum(len(WAYS[kind]) for kind in asked.kinds)
    whole = first_metric(model, rows) if _can_be_damaged(model) else math.nan
    with progress("damaging texts", total=ways) as advance:
        for kind in asked.kinds:
            if _can_be_damaged(model):
                yield _damaged(model, rows, kind, (whole, asked.largest_drop), advance)
            else:
                said = f"the first metric of the task {model.contract.task.kind!r} is of no text "
                advice = "leave [robustness] out of this task's policy, and look at answers by hand"
                yield _finding(kind, f"{said}that could be damaged", advice)
    yield paraphrased(case, rows)


def _can_be_damaged(model: AdapterModel) -> bool:
    """Of a perplexity the damaged text itself would be judged."""
    return model.task.inputs[0] in _TEXTS and model.task.primary.higher_is_better


def _damaged(
    model: AdapterModel,
    rows: pa.Table,
    kind: str,
    against: tuple[float, float],
    advance: Callable[[], None],
) -> Finding:
    """One kind.

    Args:
        model: the adapter.
        rows: public ones, as they are.
        kind: of `WAYS`.
        against: the metric on them, and the largest drop.
        advance: called after each way.
    """
    (whole, largest), metric, name = against, model.task.primary, model.task.inputs[0]
    figures: dict[str, Figure] = {metric.name: whole}
    drops, changed = list[float](), list[float]()
    for way, change in WAYS[kind].items():
        other = damaged(rows, name, change)
        changed.append(_unlike(rows, other, name))
        left = first_metric(model, other) if changed[-1] else whole
        drops.append(whole - left)
        figures[way] = left
        advance()
    if not any(changed):
        advice = "leave it out of [robustness] kinds, or give public rows that it changes"
        return _finding(kind, "it changes none of these texts", advice, figures)
    worst = max(drops, key=lambda drop: math.inf if math.isnan(drop) else drop)
    if not math.isfinite(worst):
        advice = f"give more public rows: {metric.title} cannot be computed on these"
        return _finding(kind, "no drop can be told", advice, figures)
    said = f"{metric.title} falls by {worst:.3f} from {whole:.3f}, at most {largest:.3f}"
    figures |= {"drop": worst, "changed": max(changed), "rows": len(rows)}
    return _finding(kind, said, "" if worst <= largest else _ADVICE, figures)


def damaged(rows: pa.Table, name: str, change: Callable[[str], str]) -> pa.Table:
    """Rows with another text each; words keep their tags.

    Args:
        rows: with the column, and "tags" or "spans" where words have tags.
        name: "text", or "tokens" as a list.
        change: from a text to another with its first words in their places.
    """
    tags = next((column for column in ("tags", "spans") if column in rows.column_names), None)
    texts, answers = list[str](), list[str]()
    for row in rows.to_pylist():
        text = _changed(row[name], name, change)
        if tags is not None:
            known, count = parts_of(row[tags]) or [], len(read(text, name)[1])
            if count > len(known):  # a letter became two words
                text, count = row[name], len(known)
            answers.append(kept(known[:count]))
        texts.append(text)
    found = _replaced(rows, name, texts)
    return found if tags is None else _replaced(found, tags, answers)


def _changed(said: str, name: str, change: Callable[[str], str]) -> str:
    if name != "tokens" or listed(said) is None:
        return change(said)
    return kept(change(" ".join(parts_of(said) or ())).split())


def _replaced(rows: pa.Table, name: str, values: list[str]) -> pa.Table:
    column = pa.array(values, pa.large_string())
    return rows.set_column(rows.column_names.index(name), name, column)


def _unlike(rows: pa.Table, other: pa.Table, name: str) -> float:
    """Share of rows with another text."""
    pairs = zip(rows[name].to_pylist(), other[name].to_pylist(), strict=True)
    return sum(1 for one, two in pairs if one != two) / max(1, len(rows))
