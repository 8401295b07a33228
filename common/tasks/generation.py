r"""Generation: a language model learns to write what an outlet's records hold.

Four formats: "text" (a text after public words, which may be none), "prompt" (an answer to a
prompt), "chat" (the assistant's turns, as the model's own template writes chats) and "summary" (of
an article: a headline, say). A record's
loss is the mean cross-entropy, in nats, of the tokens that it should say and of the token that ends
it; tokens that are given do not count.

Invariants:
    * What is padding follows from lengths, never from an id: with many models it is the end's.
    * The model that wrote the states also judges them: `take` keeps it for its output words, which
      are frozen, and for writing.

Example:
    >>> task = Generation(GenerationTable(prompt="News headline:"))
    >>> task.columns, task.texts(task.made([2])).to_pylist()
    (('text',), ['News headline:\x00 minister talks'])
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, ClassVar

from presspool.common.base.errors import ContractError
from presspool.common.contract.contract_schema import Model
from presspool.common.tasks.records import turns
from presspool.common.tasks.records.formats import one_format
from presspool.common.tasks.records.wording import Wording
from presspool.common.tasks.records.writing import Writer
from presspool.common.tasks.records.writing_table import FORMATS, GenerationTable
from presspool.common.tasks.scores import text_metrics, writing_scores
from presspool.common.tasks.scores.text_metrics import first_sentence
from presspool.common.tasks.scores.writing_figures import WritingFigures
from presspool.common.tasks.task import Judged, Metric, Task

__all__ = ["FORMATS", "Generation", "GenerationTable"]

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from torch import Tensor, nn

PAIRED_FORMATS = ("prompt", "summary")
"""Of a base model with an encoder."""
CUT_AWAY = "answer cut away whole by max_length"
_WORDS = ("minister", "talks", "goal", "market", "the", "new", "rates")


class Generation(Task[GenerationTable]):
    """Something that is given, maybe, and what the model should say; `wording` has its tokens."""

    Table = GenerationTable
    columns: tuple[str, ...] = ("text", "prompt", "answer", "messages", "article", "summary")
    inputs: tuple[str, ...] = ("text", "prompt", "messages", "article")
    lists = ("messages",)
    metrics: tuple[Metric, ...] = (
        Metric(name="perplexity", title="Perplexity", higher_is_better=False, primary=True),
        Metric(name="nats", title="Cross-entropy", higher_is_better=False, unit="nats a token"),
        Metric(name="rouge_1", title="ROUGE-1", higher_is_better=True),
        Metric(name="rouge_2", title="ROUGE-2", higher_is_better=True),
        Metric(name="rouge_l", title="ROUGE-L", higher_is_better=True),
        Metric(name="chrf", title="chrF", higher_is_better=True),
        Metric(name="distinct_2", title="Distinct-2", higher_is_better=True),
        Metric(name="exact", title="Exact match", higher_is_better=True),
    )
    auto: ClassVar[str] = "AutoModelForCausalLM"
    groups: ClassVar[tuple[str, ...]] = ("adapter",)
    pipeline: ClassVar[str] = "text-generation"
    data: ClassVar[str] = "texts, prompts with answers, chats, or articles with summaries"
    cut: str = "a record counts with at most {} tokens, its last answer first"
    public: str = "public words beside each text"
    says: ClassVar[str] = "text"

    def __init__(self, table: GenerationTable, model: Model | None = None) -> None:
        super().__init__(table, model)
        self.columns = FORMATS[table.format]
        self.inputs = self.columns[:1]
        # Only an answer can be right to the letter.
        self.metrics = tuple(m for m in self.metrics if m.name != "exact" or self._answers)
        self._asked = model is not None
        self._loaded: Any = None
        kept, paired = (table.format, table.max_length), self._paired
        self.wording = Wording(*kept, lambda: self.tokenizer, prompt=table.prompt, paired=paired)

    def _paired(self) -> bool:
        """Whether the base model is an encoder and a decoder; without one it is taken for none."""
        from presspool.common.models import models

        return self._asked and models.is_paired(self.model)

    @property
    def loads(self) -> str:
        """A model with an encoder of its own is another class."""
        return "AutoModelForSeq2SeqLM" if self.wording.paired else self.auto

    @property
    def _answers(self) -> bool:
        return self.table.format != "text"

    @classmethod
    def columns_in(cls, there: Collection[str]) -> tuple[str, ...]:
        """Those of the one format that a file has; raises as `one_format`."""
        return one_format("generation", FORMATS, there)

    # --- Records ---------------------------------------------------------------------------------

    @classmethod
    def damage(cls, rows: Mapping[str, pa.Array]) -> pa.Array:
        """An empty text, a prompt without an answer, NUL, a chat that is none."""
        import pyarrow as pa

        judge = turns.fault_of_chat if "messages" in rows else turns.fault_of_text
        judged = ([judge(said, name) for said in _filled(rows[name])] for name in rows)
        found = [next(filter(None, each), None) for each in zip(*judged, strict=True)]
        return pa.array(found, pa.large_string())

    def faults(self, rows: Mapping[str, pa.Array]) -> pa.Array:
        """Also a chat that the model's template refuses, and an answer that is cut away whole."""
        import pyarrow as pa

        if not self._asked:
            return self.damage(rows)
        if not self.wording.has_room:
            found = [fault or CUT_AWAY for fault in self.damage(rows).to_pylist()]
        elif "messages" in rows:
            found = [self.wording.refusal(said) for said in _filled(rows["messages"])]
        else:
            return self.damage(rows)
        return pa.array(found, pa.large_string())

    def unanswerable(self, rows: Mapping[str, pa.Array]) -> pa.Array:
        """An empty text or prompt, NUL, a chat that asks nothing or that the template refuses."""
        import pyarrow as pa

        (name,) = self.inputs
        found = [self.wording.unasked(said, name) for said in _filled(rows[name])]
        return pa.array(found, pa.large_string())

    def parse(self, rows: Mapping[str, pa.Array]) -> Mapping[str, pa.Array]:
        """Texts as they are; a chat ends with the assistant's last turn."""
        import pyarrow as pa

        if self.table.format != "chat":
            return rows
        found = map(turns.judged_chat, _filled(rows["messages"]))
        kept = [None if fault else turns.chat(chat) for fault, chat in found]
        return {"messages": pa.array(kept, pa.large_string())}

    def made(self, words: Sequence[int]) -> pa.Table:
        """Words in turn, each record beginning with another; a prompt has half of them."""
        import pyarrow as pa

        texts = [
            list(islice(cycle(_WORDS), i % len(_WORDS), i % len(_WORDS) + count))
            for i, count in enumerate(words)
        ]
        halves = [(" ".join(w[: len(w) // 2]) or "news", " ".join(w[len(w) // 2 :])) for w in texts]
        columns = {
            "text": [" ".join(each) for each in texts],
            "prompt": [prompt for prompt, _ in halves],
            "answer": [answer for _, answer in halves],
            "messages": [turns.chat(turns.exchange(*half)) for half in halves],
            "article": [prompt for prompt, _ in halves],
            "summary": [answer for _, answer in halves],
        }
        kept = {name: pa.array(columns[name], pa.large_string()) for name in self.columns}
        return pa.table(kept)

    # --- Model -----------------------------------------------------------------------------------

    def texts(self, records: pa.Table) -> pa.Array:
        """What is given and what should be said, a mark between; see `turns`."""
        return self.wording.texts(records)

    def encode(self, texts: list[str]) -> dict[str, Tensor]:
        """Ids and mask of a batch of `texts`, padded on the right; what should be said is kept."""
        return self.wording.padded([each.ids for each in self.wording.tokens(texts)])

    def lengths(self, texts: list[str]) -> NDArray[np.int64]:
        """Tokens of each text before it is truncated."""
        import numpy as np

        return np.array([len(each.ids) for each in self.wording.whole(texts)], np.int64)

    def take(self, loaded: Any) -> Any:
        """The layers below the output words; the whole is kept to judge and to write.

        Raises:
            ContractError: no token would ever count, or a format that the model cannot have.
            ModelError: the model's loss, or its tokenizer, is not one that this task can use.
        """
        from presspool.common.models.token_losses import check_foretells

        self.wording.check_ends()
        if self.wording.paired:
            encoder = self._taken_apart(loaded)
        else:
            check_foretells(loaded)
            encoder = loaded.base_model
        self.wording.require_room()
        self._loaded = loaded
        return encoder

    def _taken_apart(self, loaded: Any) -> Any:
        from presspool.common.models.rows.encoder_decoder import Paired, check_pairs

        if self.table.format not in PAIRED_FORMATS:
            raise ContractError(
                "a base model with an encoder reads one thing and says one answer to it",
                where="[task] format",
                expected=" or ".join(map(repr, PAIRED_FORMATS)),
                got=self.table.format,
                advice="take one of these formats, or a base model that is a decoder alone",
            )
        paired = Paired(loaded)
        check_pairs(loaded, paired)
        return paired

    def head(self, encoder: Any) -> nn.Module:
        """None: the model's own output words, frozen, say what states mean."""
        from torch import nn

        return nn.Identity()

    def losses(self, outputs: Tensor, records: pa.Table) -> Tensor:
        """Mean nats of each record's counted tokens."""
        judged = self.judge(outputs, records)
        return judged["nats"] / judged["tokens"].clamp(min=1)

    # --- Judgement -------------------------------------------------------------------------------

    def judge(self, outputs: Tensor, records: pa.Table) -> Mapping[str, Tensor]:
        """The nats of each record's counted tokens, of the last of them alone, and their number."""
        from presspool.common.models.token_losses import UNCOUNTED, last_counted, token_losses

        targets = self._targets(outputs, records)
        words = self._loaded.get_output_embeddings().weight
        each = token_losses(outputs.flatten(0, 1), words, targets.flatten())
        each, counted = each.view(targets.shape), targets != UNCOUNTED
        last = each.gather(1, last_counted(counted)).squeeze(1)
        return {"nats": each.sum(1), "last": last, "tokens": counted.sum(1)}

    def _targets(self, outputs: Tensor, records: pa.Table) -> Tensor:
        """At each place the next token, where it counts: (records, width) int64, as `outputs`."""
        import torch

        from presspool.common.models.token_losses import UNCOUNTED

        (rows, width), texts = outputs.shape[:2], self.texts(records).to_pylist()
        targets = torch.full((rows, width + 1), UNCOUNTED, dtype=torch.int64)
        for row, known in enumerate(self.wording.tokens(texts)):
            counted = torch.tensor(known.counted)
            wanted = torch.tensor(known.ids).masked_fill(~counted, UNCOUNTED)
            # Where made records fill a batch up, one may be longer than the batch is wide.
            targets[row, : len(known.ids)] = wanted[: width + 1]
        return targets[:, 1:].to(outputs.device)

    def score(self, judged: Judged, records: pa.Table) -> Mapping[str, float | None]:
        """Perplexity over all tokens of the file; what was written against what should have been.

        Bailing out of exp: a diverged model's perplexity is None.
        """
        nats = float(judged["nats"].sum()) / max(1, int(judged["tokens"].sum()))
        found: dict[str, float | None] = dict.fromkeys(metric.name for metric in self.metrics)
        found["nats"] = nats if math.isfinite(nats) else None
        found["perplexity"] = math.exp(nats) if nats < 700 else None  # not a number is not below
        wanted = self.answers(records)
        pairs = [
            (text, wanted[row])
            for row, text in enumerate(judged.get("written", ()))
            if text is not None
        ]
        if pairs:
            written, answers = ([str(pair[i]) for pair in pairs] for i in (0, 1))
            found |= text_metrics.rouge(written, answers)
            found["chrf"] = text_metrics.chrf(written, answers)
            found["distinct_2"] = text_metrics.distinct_2(written)
            if "exact" in found:
                found["exact"] = text_metrics.exact_match(written, answers)
        return found

    def answers(self, records: pa.Table) -> list[str]:
        """What should be said last, of each record; of a text its second half."""
        said: list[str] = records[self.columns[-1]].to_pylist()
        if self.table.format == "chat":
            return [turns.turns_of(each)[-1]["content"] for each in said]
        return said if self._answers else [turns.halves(text)[1] for text in said]

    def begun(self, records: pa.Table) -> pa.Table:
        """Of a text the first half of its words; prompts and chats as they are."""
        import pyarrow as pa

        if self.table.format != "text":
            return records
        first = [turns.halves(text)[0] for text in records["text"].to_pylist()]
        return pa.table({"text": pa.array(first, pa.large_string())})

    def asked(self, records: pa.Table) -> list[tuple[str, str]]:
        """The prompt, the half of a text behind the public words, a chat before its last answer."""
        said = self.begun(records)[self.columns[0]].to_pylist()
        if self.table.format == "text":
            said = [f"{self.table.prompt} {text}".strip() for text in said]
        elif self.table.format == "summary":
            said = [article[: turns.CHARACTERS * self.table.max_length] for article in said]
        elif self.table.format == "chat":
            said = ["\n".join(turn["content"] for turn in turns.turns_of(s)[:-1]) for s in said]
        return list(zip(said, self.answers(records), strict=True))

    def predict(self, outputs: Tensor, records: pa.Table) -> list[str]:
        """As `write`: states alone say one token."""
        return self.write(records)

    def write(self, records: pa.Table) -> list[str]:
        """The likeliest next token again and again, or the best of some beams, to the end.

        After a text with the public words before it, a prompt, or a chat up to the assistant's
        last turn.
        """
        return self.writer.answers(self.wording.given(records))

    @property
    def writer(self) -> Writer:
        """Goes on from tokens, with the model that `take` took."""
        return Writer(self._loaded, self.wording, self.table)

    def compared(
        self, before: Sequence[str], after: Sequence[str], records: pa.Table
    ) -> WritingFigures:
        """As `Task.compared`, by what each record should say last."""
        lead = None
        if self.table.format == "summary":
            lead = [first_sentence(article) for article in records["article"].to_pylist()]
        found = writing_scores.compared(before, after, self.answers(records), lead)
        if not self.table.unwanted:
            return found
        asked = [given for given, _ in self.asked(records)]
        counted = writing_scores.unwanted(self.table.unwanted, asked, before, after)
        return replace(found, unwanted=counted)


def _filled(column: pa.Array) -> list[str]:
    found: list[str] = column.fill_null("").to_pylist()
    return found
