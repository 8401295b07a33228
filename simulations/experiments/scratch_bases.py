"""Small base models with an encoder and a decoder, trained from scratch on public pairs alone.

No pretrained model of these families can be had offline, so an experiment that wants one makes it:
a tokenizer of the public texts' own byte pairs, a T5 or BART of some 1.5 million numbers from its
configuration, and plain training (AdamW, no privacy: the pairs are public). What such a model says
is poor English; it shows what the machinery does, not what these families can.

Invariants:
    * A folder is there whole or not at all; one that is there is not trained again.
    * The same pairs give the same model on one machine.

Example: ``scratch_base("t5", [("Rain in the north…", "Rain")], Path("bases/t5"))``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from presspool.common.base.console import progress

if TYPE_CHECKING:
    from torch import Tensor, nn

Pair = tuple[str, str]
"""What the encoder reads, and what the decoder should say."""
SPECIAL: Mapping[str, str] = MappingProxyType(
    {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}
)
_WIDTH, _LAYERS, _HEADS = 128, 2, 4
SIZES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "t5": {
            "d_kv": _WIDTH // _HEADS,
            "d_ff": 4 * _WIDTH,
            "num_layers": _LAYERS,
            "num_decoder_layers": _LAYERS,
            "num_heads": _HEADS,
        },
        "bart": {
            "encoder_layers": _LAYERS,
            "decoder_layers": _LAYERS,
            "encoder_attention_heads": _HEADS,
            "decoder_attention_heads": _HEADS,
            "encoder_ffn_dim": 4 * _WIDTH,
            "decoder_ffn_dim": 4 * _WIDTH,
            "max_position_embeddings": 256,
            "forced_eos_token_id": None,
        },
    }
)


@dataclass(frozen=True, kw_only=True)
class Schooling:
    """How a base is trained.

    Attributes:
        vocabulary: tokens, at most.
        longest: tokens of what is read and of what is said, at most.
        epochs: passes over the pairs.
        batch: pairs a step.
        rate: of AdamW, falling to zero over all steps.
        seed: of weights and order.
    """

    vocabulary: int = 4000
    longest: int = 64
    epochs: int = 6
    batch: int = 32
    rate: float = 1e-3
    seed: int = 0


def scratch_base(
    family: str, pairs: Sequence[Pair], folder: Path, schooling: Schooling | None = None
) -> Path:
    """The folder of a model of a family, trained on the pairs unless it is there already.

    Args:
        family: one of `SIZES`.
        pairs: public ones.
        folder: where it lies, or goes.
        schooling: how it is trained; the default if not given.
    """
    if folder.exists():
        return folder
    schooling = schooling or Schooling()
    tokenizer = _tokenizer(pairs, schooling)
    model = _model(family, tokenizer, schooling)
    _teach(model, _Tokens(tokenizer, pairs, schooling), schooling, says=f"a {family} from scratch")
    draft = folder.with_name(f"{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    tokenizer.save_pretrained(draft)
    model.save_pretrained(draft)  # type: ignore[operator]
    return draft.replace(folder)


def _tokenizer(pairs: Sequence[Pair], schooling: Schooling) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=schooling.vocabulary,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator((text for pair in pairs for text in pair), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, **SPECIAL)


def _model(family: str, tokenizer: Any, schooling: Schooling) -> nn.Module:
    import torch
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    torch.manual_seed(schooling.seed)
    config = AutoConfig.for_model(
        family,
        vocab_size=len(tokenizer),
        d_model=_WIDTH,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
        **SIZES[family],
    )
    model: nn.Module = AutoModelForSeq2SeqLM.from_config(config)
    return model


class _Tokens:
    """The pairs as rows of tokens, in the form in which the task of generation gives them."""

    def __init__(self, tokenizer: Any, pairs: Sequence[Pair], schooling: Schooling) -> None:
        asked, said = ([pair[side] for pair in pairs] for side in (0, 1))
        self._end, self._pad = tokenizer.eos_token_id, tokenizer.pad_token_id
        (line,) = tokenizer(["\n"], add_special_tokens=False)["input_ids"]
        most = schooling.longest - 1
        read = tokenizer(asked, add_special_tokens=False)["input_ids"]
        told = tokenizer(said, add_special_tokens=False)["input_ids"]
        self._asked = [[*ids[: most - len(line)], *line, self._end] for ids in read]
        self._said = [[*ids[:most], self._end] for ids in told]

    def __len__(self) -> int:
        return len(self._said)

    def batch(self, places: Sequence[int]) -> dict[str, Tensor]:
        """What Hugging Face's models take: (places, longest) int64 each."""
        ids = _padded([self._asked[place] for place in places], self._pad)
        labels = _padded([self._said[place] for place in places], -100)
        return {"input_ids": ids, "attention_mask": (ids != self._pad).long(), "labels": labels}


def _padded(rows: Sequence[Sequence[int]], filling: int) -> Tensor:
    import torch

    width = max(map(len, rows))
    return torch.tensor([[*row, *[filling] * (width - len(row))] for row in rows])


def _teach(model: nn.Module, tokens: _Tokens, schooling: Schooling, *, says: str) -> None:
    import torch

    steps = schooling.epochs * -(-len(tokens) // schooling.batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=schooling.rate)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    with progress(says, total=steps) as advance:
        for places in _orders(len(tokens), schooling):
            model(**tokens.batch(places)).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            falling.step()
            optimizer.zero_grad()
            advance()


def _orders(count: int, schooling: Schooling) -> Iterator[list[int]]:
    """The places of each step's pairs."""
    import torch

    generator = torch.Generator().manual_seed(schooling.seed)
    for _ in range(schooling.epochs):
        order = torch.randperm(count, generator=generator).tolist()
        for start in range(0, count, schooling.batch):
            yield order[start : start + schooling.batch]
