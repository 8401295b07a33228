"""Which words move which label, over the public rows: shown, and judged only as an explanation.

Each row's likeliest label is explained (`explained_answers`); a label's words are those that add
the most to it, all rows taken together.

Invariants:
    * Words are of public rows alone.
    * What is shown adds up: where the shares miss the probability that they should add up to, the
      finding has failed, whatever the words look like.

Example: `[row["word"] for found in findings(case) for row in found.rows]`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

import pyarrow as pa

from presspool.common.base.console import progress
from presspool.common.released.adapter_model import AdapterModel
from presspool.common.released.explained_answers import ExplainedLabel, explain, explains
from presspool.server.gate.checks.public_rows import without_rows
from presspool.server.gate.finding import Figure, Finding, finding
from presspool.server.gate.gate_case import GateCase
from presspool.server.rounds.evaluation import spread

LARGEST_GAP: Final = 0.05
"""Of a probability, that a row's words may leave unexplained."""


def findings(case: GateCase) -> Iterator[Finding]:
    """One, where the policy asks for it."""
    asked = case.policy.explanations
    if asked is None:
        return
    model = case.candidate.model
    if case.public is None:
        yield without_rows("explanations")
    elif not explains(model):
        said = f"answers of the task {model.contract.task.kind!r} are no labels of one text"
        advice = "leave [explanations] out of this task's policy"
        yield finding("explanations", "labels", said, advice)
    else:
        few = case.public.take(spread(len(case.public), asked.rows))
        yield judged(_explained(model, few), words=asked.words)


def _explained(model: AdapterModel, rows: pa.Table) -> list[ExplainedLabel]:
    """The likeliest label of each row."""
    found, answers = list[ExplainedLabel](), model.answers(rows)
    with progress("explaining", total=len(rows)) as advance:
        for text, said in zip(rows["text"].to_pylist(), answers, strict=True):
            likeliest = max(said.probabilities, key=lambda name: said.probabilities[name])
            found += explain(model, text, [likeliest])
            advance()
    return found


def judged(found: Sequence[ExplainedLabel], *, words: int) -> Finding:
    """What is shown of some explained labels, and whether it adds up.

    Args:
        found: one of each row.
        words: of each label, at most.
    """
    gaps = sorted(each.gap for each in found)
    off = sum(not gap <= LARGEST_GAP for gap in gaps)  # what is not a number is off as well
    return finding(
        "explanations",
        "labels",
        f"the words of {len(found) - off} of {len(found)} rows add up to their label's "
        f"probability within {LARGEST_GAP:g}; the median gap is {gaps[len(gaps) // 2]:.4f}",
        "do not believe these explanations: the adapter answers too abruptly for them"
        if off
        else "",
        {"rows": len(found), "off": off},
        rows=tuple(_most_moving(found, words)),
    )


def _most_moving(found: Sequence[ExplainedLabel], words: int) -> Iterator[dict[str, Figure]]:
    """Of each label the words that add the most to it, in all rows together."""
    added: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for each in found:
        for word, share in each.words:
            added[each.label][word.lower()].append(share)
    for label, shares in sorted(added.items()):
        moving = [word for word in shares if not sum(shares[word]) <= 0]  # the others move it away
        order = sorted(moving, key=lambda word: (-sum(shares[word]), word))
        for word in order[:words]:
            each_time = shares[word]
            mean = sum(each_time) / len(each_time)
            yield {"label": label, "word": word, "adds": mean, "times": len(each_time)}
