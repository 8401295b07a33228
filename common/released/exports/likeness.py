"""How far what was read back is from what it was made of, on public texts, batch by batch.

Both sides get the very same batches of tokens. Answers are what a task reads off outputs; where
outputs are a token's, of tags and of a model that writes, each real token's likeliest is one.

Invariant: memory is bounded by a batch; nothing is trained or drawn.

Example: `compare(original, read, texts).refuse(EXACT, where="--format onnx")`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from presspool.common.base.errors import PressPoolError
from presspool.common.base.numbers import percent
from presspool.common.released.exports.export_format import Says, Tolerance
from presspool.common.released.exports.placed import Placed
from presspool.common.released.exports.public_texts import PublicTexts
from presspool.common.tasks.task import Task

AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What a comparison found.

    Attributes:
        texts: how many there were.
        outputs: largest absolute difference of a number that says an answer: a logit, mostly.
        largest: the largest such number of the original, absolute.
        typical: root mean square of the differences, as a share of that of the original's numbers.
            It is what is held: a language model has single tokens at which another order of
            additions moves outputs a hundred times as far as elsewhere.
        chances: largest difference of an answer's probability; None where a task gives none.
        same: share of answers that are the same.
        measure: the task's first, where answers are known.
        before, after: its values of the original and of the export; both None where they are not.
        better: whether more of it is better.
    """

    texts: int
    outputs: float
    largest: float
    typical: float
    chances: float | None
    same: float
    measure: str | None = None
    before: float | None = None
    after: float | None = None
    better: bool = True

    def refuse(self, tolerance: Tolerance, *, where: str) -> None:
        """Return if all is within a tolerance.

        Raises:
            PressPoolError: it is not; exit code 1.
        """
        worse = self.worse
        for what, got, most in (
            ("outputs", self.typical, tolerance.outputs),
            ("share of other answers", 1 - self.same, 1 - tolerance.same),
            (f"loss of {self.measure}", worse, tolerance.score),
        ):
            if got is None or most is None or got <= most + 1e-9:
                continue
            raise PressPoolError(
                f"not what it was made of: {what}",
                where=where,
                expected=f"at most {most:.4g} on {self.texts} texts",
                got=f"{got:.4g}",
                advice="nothing was written; take another form, or report this one",
            )

    @property
    def worse(self) -> float | None:
        """By how much the first measure got worse; None where answers are not known."""
        if self.before is None or self.after is None:
            return None
        return (self.before - self.after) * (1 if self.better else -1)

    @property
    def words(self) -> str:
        """For people, in one line."""
        said = [f"{self.texts} texts: {percent(self.same)} of answers are the same"]
        if self.chances is not None:
            said.append(f"probabilities differ by {self.chances:.2g} at most")
        said.append(
            f"outputs by {self.outputs:.2g} at most (of {self.largest:.3g}), and by "
            f"{self.typical:.1e} of them in the root mean square"
        )
        if self.before is not None and self.after is not None:
            said.append(f"{self.measure} {self.before:.4f} → {self.after:.4f}")
        return ", ".join(said)


def compare(
    original: Placed,
    other: Says,
    texts: PublicTexts,
    advance: Callable[[], None] = lambda: None,
) -> Difference:
    """Ask both about the same texts.

    Args:
        original: what the other was made of.
        other: what was read back.
        texts: public ones.
        advance: told of each text.
    """
    task, records = original.task, texts.records
    outputs = largest = chances = off = size = 0.0
    same = count = 0
    sides = tuple(JudgedSide(task, records) for _ in range(2)) if texts.answered else ()
    for places, some, batch in batches(task, records):
        first, second = original.outputs(batch), other.outputs(batch)
        mask = batch["attention_mask"]
        mine, theirs = original.spelt(first), other.spelt(second)
        if per_token := mine.dim() > 2 and mine.shape[:2] == mask.shape and not task.listed:
            mine, theirs = mine[mask > 0], theirs[mask > 0]
        outputs = max(outputs, float((mine - theirs).abs().max()))
        largest = max(largest, float(mine.abs().max()))
        off += float((mine - theirs).double().square().sum())
        size += float(mine.double().square().sum())
        chances = max(chances, _chances(task, first, second))
        alike = _alike(task, (first, second), (mine, theirs), some, per_token=per_token)
        same, count = same + sum(alike), count + len(alike)
        for side, said in zip(sides, (first, second), strict=False):
            side.add(places, said, some)
        for _ in places:
            advance()
    measure = task.primary
    before, after = [side.score() for side in sides] or (None, None)
    return Difference(
        texts=len(records),
        outputs=outputs,
        largest=largest,
        typical=math.sqrt(off / size) if size else math.sqrt(off),
        chances=chances if task.options else None,
        same=same / max(1, count),
        measure=measure.name if sides else None,
        before=before,
        after=after,
        better=measure.higher_is_better or not sides,
    )


def batches(task: Task[Any], records: pa.Table) -> Iterator[tuple[list[int], pa.Table, Any]]:
    """Places of records of similar length, these records, and their tokens."""
    texts: list[str] = task.texts(records).to_pylist()
    order = np.argsort([len(text) for text in texts], kind="stable")
    for start in range(0, len(order), AT_ONCE):
        some = order[start : start + AT_ONCE]
        yield some.tolist(), records.take(some), task.encode([texts[i] for i in some.tolist()])


class JudgedSide:
    """What a task needs of every record to score them all.

    Args:
        task: judges.
        records: all, with their answers.
    """

    def __init__(self, task: Task[Any], records: pa.Table) -> None:
        self._task, self._records = task, records
        self._parts = list[dict[str, NDArray[Any]]]()
        self._order = list[int]()

    def add(self, places: list[int], outputs: Tensor, some: pa.Table) -> None:
        """Judge a batch."""
        judged = self._task.judge(outputs, some)
        self._parts.append({name: value.detach().numpy() for name, value in judged.items()})
        self._order += places

    def score(self) -> float | None:
        """The task's first measure."""
        back = np.argsort(self._order)
        whole = {
            name: np.concatenate([part[name] for part in self._parts])[back]
            for name in self._parts[0]
        }
        return self._task.score(whole, self._records)[self._task.primary.name]


def _chances(task: Task[Any], first: Tensor, second: Tensor) -> float:
    if not task.options:
        return 0.0
    pairs = zip(task.probabilities(first), task.probabilities(second), strict=True)
    return max(abs(one[key] - other[key]) for one, other in pairs for key in one)


def _alike(
    task: Task[Any],
    outputs: tuple[Tensor, Tensor],
    spelt: tuple[Tensor, Tensor],
    some: pa.Table,
    *,
    per_token: bool,
) -> list[bool]:
    """Of each answer whether both sides give it."""
    if per_token:
        first, second = (side.argmax(-1) for side in spelt)
        same: list[bool] = (first == second).tolist()
        return same
    answers = [task.predict(said, some) for said in outputs]
    return [one == other for one, other in zip(*answers, strict=True)]
