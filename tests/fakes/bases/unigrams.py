"""A tokenizer of SentencePiece's unigrams, as T5 has: its special tokens are pieces like others.

Example: `unigrams()(["goal </s>"], split_special_tokens=True)` finds the end all the same.
"""

from __future__ import annotations

from typing import Any

NAMES = {"cls_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


def unigrams() -> Any:
    """Letters, signs and four special tokens, of which the last stands for unknown signs."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = [(name, 0.0) for name in NAMES.values()]
    pieces += [(sign, -4.0) for sign in "▁abcdefghijklmnopqrstuvwxyz<>/"]
    core = Tokenizer(models.Unigram(pieces, unk_id=3))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, **NAMES)
