"""What a GGUF file says beside its weights, as the small files that transformers reads.

A GGUF file has no `config.json` and no `tokenizer.json`; it says the same under llama.cpp's names.
The tokenizer's bytes are those that transformers saves when it reads the GGUF file itself.

Invariants:
    * The texts depend on the file alone: no versions, no paths, one order of keys.

Example: `settings(said)["config.json"]`, where `said["llama.block_count"]()` is 30.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

# A key of the file, and what reads its value.
Said = Mapping[str, Callable[[], Any]]

CONTROL = 3  # llama.cpp's type of a token that no text spells


def settings(said: Said) -> dict[str, str]:
    """The texts of the small files by their names."""
    tokens = said["tokenizer.ggml.tokens"]()
    ids = {
        name: said[f"tokenizer.ggml.{key}_token_id"]()
        for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
    }
    special = {f"{name}_token_id": ids[name] for name in ("bos", "eos", "pad")}
    documents = {
        "config.json": _config(said) | {"vocab_size": len(tokens)} | special,
        "generation_config.json": special,
        "tokenizer.json": _tokenizer(said, tokens),
        "tokenizer_config.json": {
            **{f"{name}_token": tokens[place] for name, place in ids.items()},
            "add_bos_token": said["tokenizer.ggml.add_bos_token"](),
            "clean_up_tokenization_spaces": False,
            "model_max_length": said["llama.context_length"](),
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    }
    texts = {
        name: json.dumps(body, indent=2, ensure_ascii=False) for name, body in documents.items()
    }
    return texts | {"chat_template.jinja": said["tokenizer.chat_template"]()}


def _config(said: Said) -> dict[str, Any]:
    """The shape of the network; what is not said is `LlamaConfig`'s default."""
    keys = {
        "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length",
        "max_position_embeddings": "context_length",
        "num_attention_heads": "attention.head_count",
        "num_hidden_layers": "block_count",
        "num_key_value_heads": "attention.head_count_kv",
        "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    }
    return {
        "architectures": ["LlamaForCausalLM"],
        "dtype": "float32",
        "model_type": "llama",
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_theta": said["llama.rope.freq_base"](), "rope_type": "default"},
        **{name: said[f"llama.{key}"]() for name, key in keys.items()},
    }


def _tokenizer(said: Said, tokens: list[str]) -> dict[str, Any]:
    """Byte-level BPE in the form of the library tokenizers."""
    pieces = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    pieces["use_regex"] = True
    first, second = ({"Sequence": {"id": id, "type_id": k}} for k, id in enumerate("AB"))
    kinds = said["tokenizer.ggml.token_type"]()
    flags = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": place, "content": token, **flags}
            for place, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
            if kind == CONTROL
        ],
        "normalizer": None,
        "pre_tokenizer": pieces,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first],
            "pair": [first, second],
            "special_tokens": {},
        },
        "decoder": pieces | {"add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: place for place, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in said["tokenizer.ggml.merges"]()],
        },
    }
