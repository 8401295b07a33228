"""Writes the golden files: `python -m tests.golden.write`, from the repository's root.

What lies in `files/given/` is kept as it is: run files and bodies are written by hand, the rest is
made where it is missing. `files/made/` is written anew. Read the difference before you commit it:
it is what changes for outlets and auditors.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from tests.conftest import COMMON, WORDS, made_rows
from tests.fakes.made_evidence import FIELDS, make_desk
from tests.fakes.made_runs import toml
from tests.golden.test_bytes import (
    BODIES,
    COMMANDS,
    EXPORTING,
    GIVEN,
    MADE,
    OUTLETS,
    PRINTED,
    RUNS,
    body_of,
    steady,
    type_commands,
)

from presspool.common.contract.contract import parse_contract
from presspool.common.models.adapters import digest

READERS = {"north-post": 24, "south-echo": 18, "east-star": 12}
BASE: dict[str, Any] = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "dtype": "float32",
    "vocab_size": 38,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "pad_token_id": 0,
}


def write_base(folder: Path) -> None:
    """A base model whose weights are bytes of SHAKE-256: no library's random draws count."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(BASE, indent=1) + "\n")
    shapes = BertModel(BertConfig(**BASE)).state_dict()
    weights = {}
    for name, tensor in shapes.items():
        seed = hashlib.shake_256(name.encode()).digest(tensor.numel())
        drawn = (np.frombuffer(seed, np.int8) / np.float32(256)).astype(np.float32)
        offset = np.float32("LayerNorm.weight" in name)  # around 1, all others around 0
        weights[name] = drawn.reshape(tensor.shape) + offset
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    topics = [word for topic in WORDS.values() for word in topic]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *COMMON, *topics]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    core.save(str(folder / "tokenizer.json"))
    special = {
        "unk_token": "[UNK]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(special, indent=1) + "\n")


def write_readers(path: Path) -> None:
    rows = [{"outlet": name, **row} for name, n in READERS.items() for row in made_rows(name, n)]
    write_csv(path, rows)


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_run_folder(path: Path) -> None:
    """A complete run with secret noise, which `audit card` asks for."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(make_desk(Path(folder)).run, path)


def write_given() -> None:
    """Make whatever is missing of the input."""
    GIVEN.mkdir(parents=True, exist_ok=True)
    wanted: dict[str, Callable[[Path], object]] = {
        "base": write_base,
        "readers.csv": write_readers,
        "held_out.csv": lambda path: write_csv(path, made_rows("held-out", 30)),
        "fields.toml": lambda path: path.write_text(toml(FIELDS), encoding="utf-8"),
        "run": write_run_folder,
        **{f"{outlet}.export": write_export for outlet in OUTLETS},
    }
    for name, write in wanted.items():
        if not (GIVEN / name).exists():
            write(GIVEN / name)


def write_export(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        type_commands(Path(folder), EXPORTING)
        shutil.copy(Path(folder) / "out" / path.name, path)


def write_contracts(out: Path) -> None:
    """Keep the frozen contracts of all runs, and others, with their digests."""
    folder = GIVEN / "contracts"
    folder.mkdir(exist_ok=True)
    texts = {name: parse_contract(body_of(name)).canonical() for name in BODIES}
    for name in (*RUNS, "first"):
        texts[name] = (out / name / "contract.json").read_bytes()
    for name, text in texts.items():
        if not (folder / f"{name}.json").exists():
            (folder / f"{name}.json").write_bytes(text)
    kept = {path.stem: path.read_bytes() for path in sorted(folder.glob("*.json"))}
    kept.pop("digests", None)
    digests = {name: "sha256:" + hashlib.sha256(text).hexdigest() for name, text in kept.items()}
    (folder / "digests.json").write_text(json.dumps(digests, indent=1) + "\n")


def main() -> None:
    write_given()
    MADE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        printed = type_commands(Path(name), COMMANDS)
        out = Path(name) / "out"
        write_contracts(out)
        for run in RUNS:
            shutil.copy(
                out / run / "adapter" / "adapter_model.safetensors", MADE / f"{run}.safetensors"
            )
            written = (out / run / "result.json").read_text(encoding="utf-8")
            text = steady(f"result-{run}", written)
            (MADE / f"result-{run}.json").write_text(text, encoding="utf-8")
    digests = {run: digest(load_file(MADE / f"{run}.safetensors")) for run in RUNS}
    (MADE / "digests.json").write_text(json.dumps(digests, indent=1) + "\n")
    for command in PRINTED:
        text = steady(command, printed[command])
        (MADE / f"{command}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
