"""`gguf`: a Llama with the adapter folded in, as llama.cpp's programs read it.

What is written is what `gguf_conversion` reads: names, the order of rows of queries and keys, and
the tokenizer, which are llama.cpp's.

Invariants:
    * At 32 bits every tensor that is read back is equal to the last bit; at 16 bits matrices are
      rounded once, and norms stay as they are.
    * A Llama that the file's form would have to change (untied words, biases, another rotation, a
      tokenizer of another kind) is refused.

Example: `AutoModelForCausalLM.from_pretrained(FOLDER, gguf_file="model.gguf")`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from presspool.common.base.extras import from_extra
from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import task_of
from presspool.common.models.gguf_conversion import LAYER, OUTSIDE, write_folder
from presspool.common.models.gguf_settings import CONTROL
from presspool.common.released.exports.export_format import HALF, ExportFormat, refused
from presspool.common.released.exports.merged_folder import plain_model
from presspool.common.released.exports.placed import Placed, read_back

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FILE = "model.gguf"
NORMAL = 1  # llama.cpp's type of a token that texts spell
_SILENT: Callable[..., AbstractContextManager[Callable[[], None]]] = lambda *_, **__: nullcontext(  # noqa: E731
    lambda: None
)


class HalfGguf(ExportFormat):
    """Matrices of 16 bits."""

    name = "gguf"
    reads = "llama.cpp, and transformers: AutoModelForCausalLM.from_pretrained(…, gguf_file=…)"
    tolerance = HALF
    half = True

    def check(self, contract: Contract) -> None:
        """Only models that write; which ones, `write` sees."""
        with from_extra("llm", "no GGUF files here", where="--format"):
            import gguf  # noqa: F401
        if task_of(contract).loads != "AutoModelForCausalLM":
            raise refused(
                self.name,
                "a task that this form cannot hold",
                got=contract.task.kind,
                advice="--format merged",
            )

    def write(self, placed: Placed, folder: Path) -> None:
        """One file; raises `InputError` for another kind of model than those."""
        from gguf import GGUFWriter

        core, config = _tokenizer(placed), placed.whole.config
        _require_llama(config, core)
        writer = GGUFWriter(folder / FILE, "llama")
        _say_shape(writer, placed, config)
        _say_tokens(writer, placed, core)
        for name, value in placed.whole.state_dict().items():
            if name != "lm_head.weight":  # tied
                kind = "float16" if self.half and value.dim() > 1 else "float32"
                rows = _in_pairs(name, value.detach().numpy(), config)
                writer.add_tensor(_renamed(name), rows.astype(kind))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    def read(self, contract: Contract, folder: Path) -> Placed:
        """By the gguf library, and transformers."""
        with TemporaryDirectory(prefix="presspool-gguf-") as place:
            write_folder(folder / FILE, Path(place), _SILENT)
            return read_back(contract, plain_model(contract, Path(place)), folder)


class WholeGguf(HalfGguf):
    """Matrices of 32 bits."""

    name = "gguf-f32"
    tolerance = ExportFormat.tolerance
    half = False


def _tokenizer(placed: Placed) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(placed.task.tokenizer.backend_tokenizer.to_str())
    return found


def _require_llama(config: Any, core: dict[str, Any]) -> None:
    before = core.get("pre_tokenizer") or {}
    rotation = getattr(config, "rope_parameters", None) or {}
    head = config.hidden_size // config.num_attention_heads
    for what, right in (
        (f"a {config.model_type}", config.model_type == "llama"),
        ("output words of its own", config.tie_word_embeddings),
        ("biases", not (getattr(config, "attention_bias", 0) or getattr(config, "mlp_bias", 0))),
        ("another rotation", rotation.get("rope_type", "default") == "default"),
        ("heads of another width", (getattr(config, "head_dim", None) or head) == head),
        ("another tokenizer", core["model"]["type"] == "BPE" and before.get("type") == "ByteLevel"),
    ):
        if not right:
            raise refused(
                "gguf",
                "only a Llama with tied words and a byte-level BPE tokenizer can be written",
                got=what,
                advice="--format merged",
            )


def _say_shape(writer: Any, placed: Placed, config: Any) -> None:
    writer.add_name(placed.contract.name)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _say_tokens(writer: Any, placed: Placed, core: dict[str, Any]) -> None:
    own = placed.task.tokenizer
    special = {token["id"] for token in core["added_tokens"]}
    tokens = own.convert_ids_to_tokens(range(placed.whole.config.vocab_size))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")  # how words are parted: as the base's own tokenizer does
    writer.add_token_list([token or f"<unused{place}>" for place, token in enumerate(tokens)])
    writer.add_token_types([CONTROL if i in special else NORMAL for i in range(len(tokens))])
    writer.add_token_merges([" ".join(merge) for merge in core["model"]["merges"]])
    for name, id in (
        ("bos", own.bos_token_id),
        ("eos", own.eos_token_id),
        ("unk", own.unk_token_id),
        ("pad", own.pad_token_id),
    ):
        getattr(writer, f"add_{name}_token_id")(own.eos_token_id if id is None else id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(own.chat_template or "")


def _renamed(name: str) -> str:
    """As llama.cpp calls it.

    >>> _renamed("model.layers.3.self_attn.q_proj.weight")
    'blk.3.attn_q.weight'
    """
    outside = {theirs: ours for ours, theirs in OUTSIDE.items()}
    if name in outside:
        return outside[name]
    _, _, layer, rest = name.split(".", 3)
    part, _, kind = rest.rpartition(".")
    ours = next(ours for ours, theirs in LAYER.items() if theirs == part)
    return f"blk.{layer}.{ours}.{kind}"


def _in_pairs(name: str, values: NDArray[np.float32], config: Any) -> NDArray[np.float32]:
    """Rows of queries and keys with neighbours together that are rotated together."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    count = heads.get(name.split(".")[-2])
    if count is None:
        return values
    halves = values.reshape(count, 2, -1, values.shape[1])
    return halves.swapaxes(1, 2).reshape(values.shape)
