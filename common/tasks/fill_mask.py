"""Fill-mask: an encoder learns an outlet's language by saying the tokens that were hidden from it.

Of each text a share of the tokens is hidden behind the tokenizer's mask (`hidden_tokens` beside
this file says which, and why that is public), and the model says them from what stands on both
sides: the products of its last states with its own word vectors, which are frozen, are the logits.
A record's loss is the mean cross-entropy, in nats, of its own hidden tokens.

Invariants:
    * Hidden tokens are a record's own, never drawn anew.
    * How many tokens of a batch are judged hangs on its width, not on its records.

Example:
    >>> task = FillMask(FillMaskTable())
    >>> task.texts(task.made([2, 1])).to_pylist()
    ['minister talks', 'talks']
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from presspool.common.base.errors import ModelError
from presspool.common.contract.contract_schema import Model
from presspool.common.tasks.encoders import require_encoder
from presspool.common.tasks.records.hidden_tokens import HiddenTokens
from presspool.common.tasks.records.turns import fault_of_text
from presspool.common.tasks.task import Judged, MaxLength, Metric, Task, TaskTable

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor, nn

SUGGESTED = 5
UNKNOWN = "text in which the model knows no token"
_WORDS = ("minister", "talks", "goal", "market", "the", "new", "rates")


class FillMaskTable(TaskTable):
    """The contract's [task].

    Attributes:
        share: of a text's tokens, how many are hidden; one at least.
        mask_seed: another number hides other tokens.
        max_length: tokens a record is truncated to.
    """

    kind: Literal["fill-mask"] = "fill-mask"
    share: Annotated[float, Field(strict=True, gt=0, lt=1)] = 0.15
    mask_seed: Annotated[int, Field(strict=True, ge=0, lt=2**32)] = 0
    max_length: MaxLength = 64


class FillMask(Task[FillMaskTable]):
    """A text with blanks, and what stood in them."""

    Table = FillMaskTable
    columns = ("text",)
    metrics = (
        Metric(
            name="nats",
            title="Cross-entropy of hidden tokens",
            higher_is_better=False,
            primary=True,
            unit="nats a token",
        ),
        Metric(name="perplexity", title="Perplexity of hidden tokens", higher_is_better=False),
    )
    groups: ClassVar[tuple[str, ...]] = ("adapter",)
    pipeline: ClassVar[str] = "fill-mask"
    data: ClassVar[str] = "texts"
    public: str = "the share of hidden tokens and the number that draws them"
    says: ClassVar[str] = "suggestions"

    def __init__(self, table: FillMaskTable, model: Model | None = None) -> None:
        super().__init__(table, model)
        self._asked = model is not None
        self._encoder: Any = None
        self._hidden = HiddenTokens(
            share=table.share,
            seed=table.mask_seed,
            max_length=table.max_length,
            tokenizer=lambda: self.tokenizer,
        )

    # --- Records ---------------------------------------------------------------------------------

    @classmethod
    def damage(cls, rows: Mapping[str, pa.Array]) -> pa.Array:
        """An empty text, NUL."""
        return _reasons([fault_of_text(text, "text") for text in _filled(rows["text"])])

    def faults(self, rows: Mapping[str, pa.Array]) -> pa.Array:
        """Also a text of signs that the model's tokenizer has no token for."""
        damaged = self.damage(rows)
        if not self._asked:
            return damaged
        texts: list[str] = self._hidden.texts(rows["text"]).to_pylist()
        each = zip(damaged.to_pylist(), self._hidden.of(texts), strict=True)
        return _reasons([why or (None if known.places else UNKNOWN) for why, known in each])

    def unanswerable(self, rows: Mapping[str, pa.Array]) -> pa.Array:
        """An empty text, NUL, no mask among the tokens that are read."""
        mask, limit = self.tokenizer.mask_token, self.table.max_length
        nothing = f"no {mask} among its first {limit} tokens: nothing to fill in"
        found = []
        for text in _filled(rows["text"]):
            blank = None if self._hidden.blanks(text).places else nothing
            found.append(fault_of_text(text, "text") or blank)
        return _reasons(found)

    def made(self, words: Sequence[int]) -> pa.Table:
        """Words in turn, each record beginning with another."""
        texts = [
            " ".join(islice(cycle(_WORDS), i % len(_WORDS), i % len(_WORDS) + count))
            for i, count in enumerate(words)
        ]
        return _table(texts)

    # --- Model -----------------------------------------------------------------------------------

    def texts(self, records: pa.Table) -> pa.Array:
        """The texts, of each as much as could be read at most."""
        return self._hidden.texts(records["text"].combine_chunks())

    def encode(self, texts: list[str]) -> dict[str, Tensor]:
        """Ids with the mask at hidden places, and attention mask, padded on the right."""
        return self._hidden.batch(texts)

    def take(self, loaded: Any) -> Any:
        """The encoder, which is kept for its word vectors and to make suggestions.

        Raises:
            ModelError: no encoder that reads both ways, or a tokenizer without a mask.
        """
        require_encoder(loaded, 'a model that writes learns texts by [task] kind = "generation"')
        if self.tokenizer.mask_token_id is None:
            raise ModelError(
                "a tokenizer without a mask",
                where="[model] tokenizer_config.json",
                expected="mask_token",
                got="none",
                advice="use another base model, or its tokenizer with a mask",
            )
        self._encoder = loaded
        return loaded

    def head(self, encoder: Any) -> nn.Module:
        """None: the model's own word vectors, frozen, say what states mean."""
        from torch import nn

        return nn.Identity()

    @property
    def _vectors(self) -> Tensor:
        vectors: Tensor = self._encoder.get_input_embeddings().weight.detach()
        return vectors

    def losses(self, outputs: Tensor, records: pa.Table) -> Tensor:
        """Mean nats of each record's hidden tokens."""
        judged = self.judge(outputs, records)
        return judged["nats"] / judged["tokens"].clamp(min=1)

    # --- Judgement -------------------------------------------------------------------------------

    def judge(self, outputs: Tensor, records: pa.Table) -> Mapping[str, Tensor]:
        """The nats of each record's hidden tokens, and their number."""
        from presspool.common.models.token_losses import UNCOUNTED, token_losses

        texts, width = self.texts(records).to_pylist(), outputs.shape[1]
        places, targets = (t.to(outputs.device) for t in self._hidden.targets(texts, width))
        states = outputs.gather(1, places.unsqueeze(-1).expand(-1, -1, outputs.shape[2]))
        each = token_losses(states.flatten(0, 1), self._vectors, targets.flatten())
        return {"nats": each.view(targets.shape).sum(1), "tokens": (targets != UNCOUNTED).sum(1)}

    def score(self, judged: Judged, records: pa.Table) -> Mapping[str, float | None]:
        """Mean nats over all hidden tokens of the file, and their exponential.

        None where a model diverged.
        """
        nats = float(judged["nats"].sum()) / max(1, int(judged["tokens"].sum()))
        return {
            "nats": nats if math.isfinite(nats) else None,
            "perplexity": math.exp(nats) if nats < 700 else None,  # not a number is not below
        }

    def begun(self, records: pa.Table) -> pa.Table:
        """Texts with the mask written where a run hides tokens."""
        return _table([shown for shown, _ in self.asked(records)])

    def asked(self, records: pa.Table) -> list[tuple[str, str]]:
        """The text with its masks, and what stands behind them."""
        return self._hidden.shown(self.texts(records).to_pylist())

    def predict(self, outputs: Tensor, records: pa.Table) -> list[str]:
        """As `write`: in the outputs a run's own tokens are hidden, not those of who asks."""
        return self.write(records)

    def write(self, records: pa.Table) -> list[str]:
        """For each mask that a text holds the likeliest tokens, `SUGGESTED` of them."""
        texts: list[str] = self.texts(records).to_pylist()
        known = {text: self._suggestions(text) for text in dict.fromkeys(texts)}
        return [known[text] for text in texts]

    def _suggestions(self, text: str) -> str:
        import torch

        ids, blanks = self._hidden.blanks(text)
        with torch.no_grad():
            batch = torch.tensor([ids], device=self._encoder.device)
            states = self._encoder(batch, torch.ones_like(batch)).last_hidden_state[0, blanks]
            best = (states @ self._vectors.T).topk(SUGGESTED).indices.tolist()
        return "; ".join(", ".join(self._word(token) for token in row) for row in best)

    def _word(self, token: int) -> str:
        word: str = self.tokenizer.decode([token])
        return word.strip()


def _table(texts: list[str]) -> pa.Table:
    import pyarrow as pa

    return pa.table({"text": pa.array(texts, pa.large_string())})


def _reasons(found: list[str | None]) -> pa.Array:
    import pyarrow as pa

    return pa.array(found, pa.large_string())


def _filled(column: pa.Array) -> list[str]:
    texts: list[str] = column.fill_null("").to_pylist()
    return texts
