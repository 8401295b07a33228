"""A tiny GGUF file inside a made package, and the catalogue's entry that pins it.

Example: `model = made_model(tmp_path, tiny_llama)`; then put `site(tmp_path)` on the path.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from safetensors.numpy import load_file

from presspool.common.base.console import progress
from presspool.common.models.base_model import examine
from presspool.common.models.catalogue import OfflineModel
from presspool.common.models.gguf_conversion import write_folder

NAMES = {
    "embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}


def made_model(root: Path, llama: Path) -> OfflineModel:
    """Write a package whose file is a Llama's folder as GGUF; what it must become is pinned."""
    package = site(root) / "tiny_llm"
    described = site(root) / "tiny_llm-0.1.dist-info"
    for folder in (package, described, root / "pinned"):
        folder.mkdir(parents=True)
    file = package / "tiny.gguf"
    write_gguf(file, llama)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-llm\nVersion: 0.1\n")
    (described / "RECORD").write_text("tiny_llm/tiny.gguf,,\n")
    write_folder(file, root / "pinned", progress)
    return OfflineModel(
        name="tiny-llm",
        use="generation",
        package="tiny-llm==0.1",
        wheel="0" * 64,
        file="tiny_llm/tiny.gguf",
        gguf=hashlib.sha256(file.read_bytes()).hexdigest(),
        licence="Apache-2.0",
        size=(root / "pinned" / "model.safetensors").stat().st_size,
        **examine(root / "pinned").pins,
    )


def site(root: Path) -> Path:
    """The folder for `sys.path` in which the package lies."""
    return root / "site"


def write_gguf(file: Path, llama: Path) -> None:
    """A Llama's folder as llama.cpp's own converter would write it, matrices in Q4_1."""
    config = json.loads((llama / "config.json").read_text())
    writer = GGUFWriter(file, "llama")
    _say(writer, config, llama)
    for name, values in load_file(llama / "model.safetensors").items():
        for part, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
            if part in name:
                halves = values.reshape(config[heads], 2, -1, values.shape[1])
                values = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)
        if values.ndim == 1:
            writer.add_tensor(_gguf_name(name), values)
        else:
            kind = GGMLQuantizationType.Q4_1
            writer.add_tensor(_gguf_name(name), quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gguf_name(name: str) -> str:
    part = next(ours for theirs, ours in NAMES.items() if theirs in name)
    layer = f"blk.{name.split('.')[2]}." if ".layers." in name else ""
    return f"{layer}{part}.weight"


def _say(writer: GGUFWriter, config: dict[str, Any], llama: Path) -> None:
    core = json.loads((llama / "tokenizer.json").read_text())
    tokens = sorted(core["model"]["vocab"], key=core["model"]["vocab"].__getitem__)
    special = {token["id"] for token in core["added_tokens"]}
    writer.add_name("tiny")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if place in special else 1 for place in range(len(tokens))])
    writer.add_token_merges([" ".join(merge) for merge in core["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template((llama / "chat_template.jinja").read_text())
