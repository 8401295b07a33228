r"""Generation: a language model learns to write what an outlet's records hold.

Three formats: "text" (a text after public words, which may be none), "prompt" (an answer to a
prompt) and "chat" (the assistant's turns, as the model's own template writes chats). A record's
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
from itertools import cycle, islice
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from presspool.common.contract.contract_schema import Model
from presspool.common.tasks.records import turns
from presspool.common.tasks.records.formats import one_format
from presspool.common.tasks.records.wording import Wording
from presspool.common.tasks.scores import text_metrics
from presspool.common.tasks.task import Judged, MaxLength, Metric, Task, TaskTable

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from torch import Tensor, nn

FORMATS = {"text": ("text",), "prompt": ("prompt", "answer"), "chat": ("messages",)}
"""The columns of each format."""
CUT_AWAY = "answer cut away whole by max_length"
AT_ONCE = 16  # records that are written for together
_WORDS = ("minister", "talks", "goal", "market", "the", "new", "rates")


class GenerationTable(TaskTable):
    """The contract's [task].

    Attributes:
        format: what a record is: "text", "prompt" or "chat".
        prompt: public words before each text of format "text".
        max_length: tokens a record is truncated to; what is given is cut first, from the left.
        answer_length: tokens that the model writes at most, where it is asked to.
    """

    kind: Literal["generation"] = "generation"
    format: Literal["text", "prompt", "chat"] = "text"
    prompt: Annotated[str, Field(max_length=1000, pattern=r"^[^\x00]*$")] = ""
    max_length: MaxLength = 64
    answer_length: Annotated[int, Field(strict=True, ge=1, le=4096)] = 64

    @model_validator(mode="after")
    def _prompt_of_texts(self) -> GenerationTable:
        if self.prompt and self.format != "text":
            raise ValueError(f"prompt goes with format 'text' alone, not with {self.format!r}")
        return self


class Generation(Task[GenerationTable]):
    """Something that is given, maybe, and what the model should say."""

    Table = GenerationTable
    columns: tuple[str, ...] = ("text", "prompt", "answer", "messages")
    inputs: tuple[str, ...] = ("text", "prompt", "messages")
    lists = ("messages",)
    metrics: tuple[Metric, ...] = (
        Metric(name="perplexity", title="Perplexity", higher_is_better=False, primary=True),
        Metric(name="nats", title="Cross-entropy", higher_is_better=False, unit="nats a token"),
        Metric(name="rouge_l", title="ROUGE-L", higher_is_better=True),
        Metric(name="chrf", title="chrF", higher_is_better=True),
        Metric(name="distinct_2", title="Distinct-2", higher_is_better=True),
        Metric(name="exact", title="Exact match", higher_is_better=True),
    )
    auto: ClassVar[str] = "AutoModelForCausalLM"
    groups: ClassVar[tuple[str, ...]] = ("adapter",)
    pipeline: ClassVar[str] = "text-generation"
    data: ClassVar[str] = "texts, prompts with answers, or chats"
    cut: ClassVar[str] = "a record counts with at most {} tokens, its last answer first"
    public: str = "public words before each text"
    says: ClassVar[str] = "text"

    def __init__(self, table: GenerationTable, model: Model | None = None) -> None:
        super().__init__(table, model)
        self.columns = FORMATS[table.format]
        self.inputs = self.columns[:1]
        # Only an answer can be right to the letter.
        self.metrics = tuple(m for m in self.metrics if m.name != "exact" or self._answers)
        self._asked = model is not None
        self._loaded: Any = None
        self._wording = Wording(
            table.format, table.max_length, lambda: self.tokenizer, prompt=table.prompt
        )

    @property
    def _answers(self) -> bool:
        return self.table.format == "prompt"

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
        if not self._wording.has_room:
            found = [fault or CUT_AWAY for fault in self.damage(rows).to_pylist()]
        elif "messages" in rows:
            found = [self._wording.refusal(said) for said in _filled(rows["messages"])]
        else:
            return self.damage(rows)
        return pa.array(found, pa.large_string())

    def unanswerable(self, rows: Mapping[str, pa.Array]) -> pa.Array:
        """An empty text or prompt, NUL, a chat that asks nothing or that the template refuses."""
        import pyarrow as pa

        (name,) = self.inputs
        found = [self._wording.unasked(said, name) for said in _filled(rows[name])]
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
        }
        kept = {name: pa.array(columns[name], pa.large_string()) for name in self.columns}
        return pa.table(kept)

    # --- Model -----------------------------------------------------------------------------------

    def texts(self, records: pa.Table) -> pa.Array:
        """What is given and what should be said, a mark between; see `turns`."""
        return self._wording.texts(records)

    def encode(self, texts: list[str]) -> dict[str, Tensor]:
        """Ids and mask of a batch of `texts`, padded on the right; what should be said is kept."""
        return self._wording.padded([each.ids for each in self._wording.tokens(texts)])

    def lengths(self, texts: list[str]) -> NDArray[np.int64]:
        """Tokens of each text before it is truncated."""
        import numpy as np

        return np.array([len(each.ids) for each in self._wording.whole(texts)], np.int64)

    def take(self, loaded: Any) -> Any:
        """The layers below the output words; the whole is kept to judge and to write.

        Raises:
            ContractError: no token would ever count.
            ModelError: the model's loss, or its tokenizer, is not one that this task can use.
        """
        from presspool.common.models.token_losses import check_foretells

        check_foretells(loaded)
        self._wording.check_ends()
        self._wording.require_room()
        self._loaded = loaded
        return loaded.base_model

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
        for row, known in enumerate(self._wording.tokens(texts)):
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
            found["rouge_l"] = text_metrics.rouge_l(written, answers)
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
        """The prompt, the half of a text behind the public words, or a chat's last question."""
        said = self.begun(records)[self.columns[0]].to_pylist()
        if self.table.format == "text":
            said = [f"{self.table.prompt} {text}".strip() for text in said]
        elif self.table.format == "chat":
            said = ["\n".join(turn["content"] for turn in turns.turns_of(s)[:-1]) for s in said]
        return list(zip(said, self.answers(records), strict=True))

    def predict(self, outputs: Tensor, records: pa.Table) -> list[str]:
        """As `write`: states alone say one token."""
        return self.write(records)

    def write(self, records: pa.Table) -> list[str]:
        """The likeliest next token again and again, `answer_length` of them or to the end.

        After a text with the public words before it, a prompt, or a chat up to the assistant's
        last turn.
        """
        asked = [tuple(ids) for ids in self._wording.given(records)]
        different = sorted(set(asked), key=len)
        known = dict[tuple[int, ...], str]()
        for start in range(0, len(different), AT_ONCE):
            some = different[start : start + AT_ONCE]
            known |= zip(some, self._written(list(map(list, some))), strict=True)
        return [known[ids] for ids in asked]

    def _written(self, given: list[list[int]]) -> list[str]:
        import torch
        from transformers import GenerationConfig

        batch = self._wording.padded(given, left=True)
        config = GenerationConfig(
            max_new_tokens=self.table.answer_length,
            do_sample=False,
            eos_token_id=self._wording.ends,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        with torch.no_grad():
            on = {name: values.to(self._loaded.device) for name, values in batch.items()}
            found = self._loaded.generate(**on, generation_config=config)
        width = batch["input_ids"].shape[1]
        said: list[str] = self.tokenizer.batch_decode(found[:, width:], skip_special_tokens=True)
        return [text.strip() for text in said]


def _filled(column: pa.Array) -> list[str]:
    found: list[str] = column.fill_null("").to_pylist()
    return found
