"""The task `generation` under attack: sentences of random words, inserted as one record each.

There is no head that could be baited. A malicious coordinator sends the public start in every
round, under which it knows each canary's gradient, and nobody stands beside the canaries. Where a
round has several steps, the adapter moves a little within it, and the canaries' gradients with it.

Example: `attacked(contract).planted(canaries)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from presspool.common.contract.doors import task_of
from presspool.common.data.judging import faults
from presspool.common.models import adapters
from presspool.common.models.adapters import State
from presspool.common.models.models import build, tokenizer
from presspool.common.tasks.records.turns import chat
from presspool.common.tasks.scores.exposure import Scores
from presspool.simulations.attack.canaries import Canaries, is_plain, vocabulary
from presspool.simulations.attack.gradients import Probe
from presspool.simulations.attack.tasks.attacked_task import AttackedTask
from presspool.simulations.newsroom.grammar import write_headline
from presspool.simulations.newsroom.newsroom import make_newsroom

ASKED = "News headline about {}:"
ANYTHING = "the news"  # what a canary is asked for


class AttackedWriter(AttackedTask):
    """A text, an answer, or an assistant's turn."""

    exposes = True
    spans_left_out = (
        "Tokens were not looked for in the updates: with a model that writes, what a layer reads "
        "at one place hangs on all words before it, and the span check here only tries single "
        "tokens. Nothing is known about them from this audit."
    )

    def words(self) -> list[str]:
        """Words that are one token after a space."""
        coder = tokenizer(self.contract.model)
        found = {coder.convert_tokens_to_string([token]) for token in coder.get_vocab()}
        inside = {text[1:] for text in found if text[:1] == " "}
        return sorted(filter(is_plain, inside)) or vocabulary(self.contract)

    def planted(self, canaries: Canaries) -> pa.Table:
        """A sentence in the contract's format."""
        texts = [canaries.texts[i] for i in np.flatnonzero(canaries.included)]
        return self._written(canaries.readers, [ANYTHING] * len(texts), texts)

    def records(self, canaries: Canaries) -> pa.Table:
        """A sentence each, whoever is in."""
        all_in = replace(canaries, included=np.ones(len(canaries), np.bool_))
        return self.parsed(self.planted(all_in))

    def made(self, readers: int, seed: int) -> pa.Table:
        """A newsroom's headlines."""
        room = make_newsroom(outlets=1, readers=readers, seed=seed, write=write_headline)
        (table,) = room.tables.values()
        return self._written(*(table[name].to_pylist() for name in ("reader", "label", "text")))

    def parsed(self, table: pa.Table) -> pa.Table:
        """Only what a run would use: no empty text, no prompt without an answer."""
        task = task_of(self.contract)
        rows = {n: table[n].combine_chunks().cast(pa.large_string()) for n in self.columns}
        bad = np.zeros(len(table), np.bool_)
        for _, some in faults(task.faults, rows):
            bad |= some
        kept = pa.array(~bad)
        found = pa.table(dict(task.parse({n: values.filter(kept) for n, values in rows.items()})))
        return found.append_column("reader", table["reader"].combine_chunks().filter(kept))

    def sent(self) -> State:
        """The public start."""
        return adapters.read(build(self.contract))

    def silent(self, members: pa.Table) -> pa.Table:
        """Nobody: whatever a reader says moves some output word."""
        return members.slice(0, 0)

    def known(self, probe: Callable[[int], Probe], canaries: Canaries) -> Scores:
        """How many nats a token less a sentence costs than at the start, where B is zero."""
        records = self.records(canaries)
        before, after = (probe(i).losses(records).astype(np.float64) for i in (0, -1))
        return before - after

    def _written(
        self, readers: Sequence[str], topics: Sequence[str], texts: Sequence[str]
    ) -> pa.Table:
        prompts = [ASKED.format(topic) for topic in topics]
        columns = {
            "reader": readers,
            "text": texts,
            "prompt": prompts,
            "answer": texts,
            "article": prompts,
            "summary": texts,
            "messages": [_chat(*each) for each in zip(prompts, texts, strict=True)],
        }
        return pa.table({n: pa.array(columns[n], pa.string()) for n in ("reader", *self.columns)})


def _chat(prompt: str, answer: str) -> str:
    return chat([{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}])
