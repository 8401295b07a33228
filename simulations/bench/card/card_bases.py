"""Base models that are made on the spot, for a machine that cannot fetch any.

Layers are as wide as MiniLM's and SmolLM2's, two of each; weights are random. The tokenizer spells
letters and digits.

Example: `write_bases(folder)["encoder"]` is a folder that a contract's `[model] id` may name.
"""

from __future__ import annotations

import string
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizer, LlamaConfig, LlamaForCausalLM

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_SIGNS = [*string.ascii_lowercase, *string.digits]
_KNOWN = [*_SPECIAL, *_SIGNS, *(f"##{sign}" for sign in _SIGNS)]


def write_bases(folder: Path) -> dict[str, Path]:
    """Write an encoder that reads both ways and a language model, each with the tokenizer."""
    sizes = {"vocab_size": len(_KNOWN), "num_hidden_layers": 2, "pad_token_id": 0}
    torch.manual_seed(0)
    reads = BertConfig(hidden_size=384, num_attention_heads=12, intermediate_size=1536, **sizes)
    writes = LlamaConfig(
        hidden_size=576,
        num_attention_heads=9,
        num_key_value_heads=3,
        intermediate_size=1536,
        tie_word_embeddings=True,
        bos_token_id=2,
        eos_token_id=3,
        **sizes,
    )
    made = {"encoder": BertModel(reads), "writer": LlamaForCausalLM(writes)}
    words = BertTokenizer({sign: place for place, sign in enumerate(_KNOWN)}, eos_token=_SPECIAL[3])
    for name, model in made.items():
        model.save_pretrained(folder / name)
        words.save_pretrained(folder / name)
    return {name: folder / name for name in made}
