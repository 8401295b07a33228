"""Encoders with decoders: tiny ones of the T5 and BART families, with random weights.

The tokenizer is `language_bases`' of bytes, whose padding is its end too (id 2), with a padding
token of its own.

Example: `write_paired_base(folder, "t5")`; then `[model] id = str(folder)`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.fakes.bases.language_bases import write_tiny_llama

FAMILIES = ("t5", "bart")
SIZES: dict[str, dict[str, Any]] = {
    "t5": {"d_kv": 8, "d_ff": 32, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2},
    "bart": {
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "max_position_embeddings": 128,
        "forced_eos_token_id": None,
        "bos_token_id": 1,
    },
}
TARGETS = {
    "t5": ["SelfAttention.q", "EncDecAttention.q", "EncDecAttention.v", "wo"],
    "bart": ["self_attn.q_proj", "encoder_attn.q_proj", "encoder_attn.v_proj", "fc2"],
}


def write_paired_base(folder: Path, family: str, **config: Any) -> Path:
    """Write a model with encoder and decoder, and its tokenizer.

    Args:
        folder: where it goes.
        family: one of `FAMILIES`, or "umt5".
        config: more of the model's configuration.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    write_tiny_llama(folder, hidden=16, layers=1)
    vocabulary = 320
    sizes = {
        "vocab_size": vocabulary,
        "d_model": 16,
        "pad_token_id": 2,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
    }
    torch.manual_seed(0)
    made = AutoConfig.for_model(family, **sizes | SIZES[family.removeprefix("um")] | config)
    AutoModelForSeq2SeqLM.from_config(made).save_pretrained(folder)
    return folder
