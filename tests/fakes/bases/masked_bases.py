"""Encoders with a mask: tiny ones with random weights, of each family that `fill-mask` takes.

The tokenizer knows whole words, the same ones for all families, and spells its mask `[MASK]`.

Example: `write_masked_base(folder, "roberta")`; then `[model] id = str(folder)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
POSITIONS = 70  # RoBERTa's begin behind its padding token's


def write_masked_base(
    folder: Path, family: str, words: Sequence[str], *, mask: bool = True, **config: Any
) -> Path:
    """Write an encoder and its tokenizer.

    Args:
        folder: where it goes.
        family: a `model_type` of `encoders.ENCODERS`.
        words: what the tokenizer knows.
        mask: whether it knows its mask.
        config: more of the model's configuration.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    known = [*SPECIAL, *dict.fromkeys(words)]
    _tokenizer(known, mask=mask).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {
        "vocab_size": len(known),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": 0,
    }
    made = AutoModel.from_config(AutoConfig.for_model(family, **sizes | config))
    made.save_pretrained(folder)
    return folder


def _tokenizer(known: Sequence[str], *, mask: bool) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(known)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    names |= {"mask_token": "[MASK]"} if mask else {}
    return PreTrainedTokenizerFast(tokenizer_object=core, **names)
