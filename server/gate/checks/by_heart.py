"""What a model that writes knows by heart: greedy continuation, and the rank of what was planted.

A text is cut after its first tokens, and what the model itself writes there is set beside the rest
(extraction: Carlini et al. 2021, section 4; "by heart" as in Carlini et al. 2023, definition 3.1).
A canary with digits is ranked by its loss among texts that are equal to it but for their digits,
drawn anew (Carlini et al. 2019, section 4.2). A model that did not learn a canary, whose digits
were drawn by lot, ranks it anywhere: rank / |R| is then a p-value.

Invariants:
    * The cut is made in tokens, so that what is given is what was trained on.
    * Alternatives differ from their canary in digits alone, and from each other.

Example: `extracted(task, cut(task, as_records(task, canaries), prefix=16))`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from presspool.common.released.adapter_model import AdapterModel
from presspool.common.tasks.generation import Generation
from presspool.common.tasks.records import turns
from presspool.common.tasks.records.writing import AT_ONCE
from presspool.common.tasks.scores.exposure import exposure

ALTERNATIVES: Final = 1023
"""|R| is one more: 10 bits of exposure at most."""
FEWEST_DIGITS: Final = 4
MOST_TOKENS: Final = 64
"""Of a rest, that are compared."""


@dataclass(frozen=True, kw_only=True)
class CutText:
    """A text in two.

    Attributes:
        given: tokens that the model is given.
        rest: tokens that the text has behind them, without an end.
    """

    given: list[int]
    rest: list[int]


def as_records(task: Generation, texts: Sequence[str]) -> pa.Table:
    """Texts as records of the task: of a format with two sides the second half is said."""
    halves = [turns.halves(text) for text in texts]
    first, second = ([pair[side] for pair in halves] for side in (0, 1))
    columns = {
        "text": list(texts),
        "prompt": first,
        "answer": second,
        "article": first,
        "summary": second,
        "messages": [turns.chat(turns.exchange(*pair)) for pair in halves],
    }
    return pa.table({name: pa.array(columns[name], pa.large_string()) for name in task.columns})


def cut(task: Generation, records: pa.Table, *, prefix: int) -> list[CutText]:
    """Each record after so many of its tokens, at most half; of two sides between them.

    Args:
        task: with its model.
        records: as the task parses them.
        prefix: tokens of a text that are given, beside the contract's public words.
    """
    found = list[CutText]()
    for known in task.wording.tokens(task.texts(records).to_pylist()):
        ids = known.ids
        while len(ids) > known.last and ids[-1] in task.wording.ends:
            ids = ids[:-1]
        said = min(prefix, (len(ids) - known.last) // 2) if task.table.format == "text" else 0
        at = known.last + said
        found.append(CutText(given=ids[:at], rest=ids[at : at + MOST_TOKENS]))
    return found


def extracted(
    task: Generation, texts: Sequence[CutText], advance: Callable[[], None] = lambda: None
) -> list[bool]:
    """Whether the model goes on with each text's very rest; one without a rest is not extracted."""
    found, order = dict[int, bool](), sorted(range(len(texts)), key=lambda i: len(texts[i].given))
    for start in range(0, len(order), AT_ONCE):
        some = order[start : start + AT_ONCE]
        most = max(1, *(len(texts[i].rest) for i in some))
        rules = task.writer.rules(
            max_new_tokens=most, min_new_tokens=0, num_beams=1, length_penalty=1.0
        )
        written = task.writer.continued([texts[i].given for i in some], rules).tolist()
        for i, ids in zip(some, written, strict=True):
            found[i] = _same(task, ids, texts[i].rest)
            advance()
    return [found[i] for i in range(len(texts))]


def _same(task: Generation, written: Sequence[int], rest: Sequence[int]) -> bool:
    """By their letters: there may be more than one way to cut them into tokens."""
    wanted, said = (
        task.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in (rest, written)
    )
    return bool(wanted) and said.startswith(wanted)


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A canary among its alternatives.

    Attributes:
        rank: from 1, the best known.
        among: |R|, the canary itself too.
        exposure: log2 |R| - log2 rank, bits.
    """

    rank: int
    among: int
    exposure: float


def ranked(model: AdapterModel, task: Generation, canary: str) -> Ranked | None:
    """How well a canary is known; None of one with too few digits to be drawn anew."""
    others = alternatives(canary)
    if not others:
        return None
    judged = model.judged(as_records(task, [canary, *others]))
    known = -judged["nats"].astype(np.float64)
    found = exposure(known[:1], known[1:])
    among = len(known)
    return Ranked(rank=round(among / 2**found.largest), among=among, exposure=found.largest)


def alternatives(canary: str) -> list[str]:
    """Texts of the same shape with other digits, different ones; the same for the same canary."""
    if len(re.findall("[0-9]", canary)) < FEWEST_DIGITS:
        return []
    draws = np.random.default_rng(int.from_bytes(hashlib.sha256(canary.encode()).digest()[:8]))
    found = dict[str, None]()
    while len(found) < ALTERNATIVES:
        other = re.sub("[0-9]", lambda _: str(draws.integers(10)), canary)
        if other != canary:
            found[other] = None
    return list(found)
