"""`peft`: a PEFT folder for the base model as transformers loads it.

A run's own folder is PEFT's as well, but speaks of the base inside our model with its head: its
arrays have other names. Here they have those of the plain model, as other programs expect; a head,
which PEFT knows nothing of, lies beside them.

Invariant: an array's name is that of the layer in the very model that `from_pretrained` gives.

Example: `PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)`.
"""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import task_of
from presspool.common.models.adapters import WEIGHTS
from presspool.common.models.models import loaded
from presspool.common.released.exports.export_format import (
    ExportFormat,
    refused,
    require_whole_base,
)
from presspool.common.released.exports.placed import HEAD, Placed, read_back, save_head

_KINDS = {"AutoModelForCausalLM": "CAUSAL_LM", "AutoModelForSeq2SeqLM": "SEQ_2_SEQ_LM"}


class PlainPeft(ExportFormat):
    """The adapter alone."""

    name = "peft"
    reads = "peft: PeftModel.from_pretrained(BASE, FOLDER)"
    folds = False
    heads = HEAD

    def check(self, contract: Contract) -> None:
        """Only PEFT's own methods, and only where they add something."""
        require_whole_base(self.name, contract)
        if contract.method.library != "peft" or not contract.method.targets(contract):
            raise refused(
                self.name,
                "a method that PEFT has no file for",
                got=contract.adapter.method,
                advice="--format merged or --format onnx",
            )

    def write(self, placed: Placed, folder: Path) -> None:
        """Arrays under the plain model's names, and a configuration that speaks of it."""
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        names = {id(module): name for name, module in placed.whole.named_modules()}
        inside: Any = placed.model
        arrays = {}
        for name, value in get_peft_model_state_dict(inside, save_embedding_layers=False).items():
            layer, mark, kind = name.partition(".lora_")
            if mark:  # else the head's
                plain = names[id(inside.get_submodule(layer))]
                arrays[f"base_model.model.{plain}.lora_{kind}"] = value.contiguous()
        save_file(arrays, folder / WEIGHTS, metadata={"format": "pt"})
        _config(placed).save_pretrained(str(folder))
        save_head(placed.headed, folder)

    def read(self, contract: Contract, folder: Path) -> Placed:
        """By PEFT, on the plain base."""
        from peft import PeftModel

        adapted = PeftModel.from_pretrained(loaded(contract), str(folder))
        return read_back(contract, adapted.base_model.model, folder)


def _config(placed: Placed) -> Any:
    inside: Any = placed.model
    config = copy(inside.peft_config["default"])
    contract = placed.contract
    config.task_type = _KINDS.get(task_of(contract).loads, "FEATURE_EXTRACTION")
    config.modules_to_save, config.inference_mode = None, True
    config.base_model_name_or_path = contract.model.id
    if config.exclude_modules is not None:  # the half that is not bent, by its name in the whole
        config.exclude_modules = r"encoder\..*|model\.encoder\..*"
    return config
