"""`merged`: a folder of transformers, the adapter folded into the base's weights.

A model that writes is whole: `AutoModelForCausalLM.from_pretrained(FOLDER)`. Where a task has a
head, it reads states that no class of transformers with a head reads alike (of length one, say), so
the folder is read by `AutoModel` and the head lies beside it. For labels the folder is one of
sentence-transformers as well, which has such poolings: `SentenceTransformer(FOLDER).encode(texts)`
are the logits.

Example: `AutoModel.from_pretrained("exports/topics")`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import task_of
from presspool.common.models.frozen_product import unquicken
from presspool.common.released.exports.export_format import (
    ExportFormat,
    require_whole_base,
    save_tokenizer,
)
from presspool.common.released.exports.placed import HEAD, Placed, read_back, save_head

_MODULES = ("Transformer", "Pooling", "Normalize", "Dense")


class Merged(ExportFormat):
    """The base with the adapter in it."""

    name = "merged"
    reads = "transformers: AutoModel, AutoModelForCausalLM or AutoModelForSeq2SeqLM"
    heads = HEAD

    def check(self, contract: Contract) -> None:
        """All but half a base model."""
        require_whole_base(self.name, contract)

    def write(self, placed: Placed, folder: Path) -> None:
        """Weights, settings, tokenizer, and what is made of states."""
        unquicken(placed.whole)
        placed.whole.save_pretrained(folder)
        save_tokenizer(placed.contract, folder)
        save_head(placed.headed, folder)
        if placed.contract.task.kind == "classification":
            _write_modules(placed, folder)

    def read(self, contract: Contract, folder: Path) -> Placed:
        """By transformers."""
        return read_back(contract, plain_model(contract, folder), folder)


def plain_model(contract: Contract, folder: Path) -> Any:
    """A folder as transformers reads it, with the class that the task asks for."""
    import transformers

    kind = getattr(transformers, task_of(contract).loads)
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()  # a pooler that nobody uses is missing
    try:
        return kind.from_pretrained(folder, trust_remote_code=False, use_safetensors=True).eval()
    finally:
        transformers.utils.logging.set_verbosity(level)


def _write_modules(placed: Placed, folder: Path) -> None:
    """Mean of the real tokens' states, scaled to length one, and the head, as modules."""
    from safetensors.torch import load_file, save_file

    head = {f"linear.{name}": value for name, value in load_file(folder / HEAD).items()}
    outputs, inputs = head["linear.weight"].shape
    paths = ["", *(f"{place}_{name}" for place, name in enumerate(_MODULES[1:], start=1))]
    settings: dict[str, Any] = {
        "modules.json": [
            {
                "idx": place,
                "name": str(place),
                "path": path,
                "type": f"sentence_transformers.models.{name}",
            }
            for place, (name, path) in enumerate(zip(_MODULES, paths, strict=True))
        ],
        "sentence_bert_config.json": {
            "max_seq_length": placed.contract.task.max_length,
            "do_lower_case": False,
        },
        f"{paths[1]}/config.json": {
            "word_embedding_dimension": inputs,
            "pooling_mode_mean_tokens": True,
        },
        f"{paths[2]}/config.json": {},
        f"{paths[3]}/config.json": {
            "in_features": inputs,
            "out_features": outputs,
            "bias": "linear.bias" in head,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    }
    for name, body in settings.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
    save_file(head, folder / paths[3] / "model.safetensors")
