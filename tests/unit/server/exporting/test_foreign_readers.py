"""What is exported says what the adapter says, read by the programs that it is for."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tests.conftest import LABELS
from tests.unit.server.exporting.conftest import Exporting, Make
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

import presspool
from presspool.common.base.errors import InputError
from presspool.common.released.adapter_folder import AdapterFolder

TEXTS = ["minister says treaty", "goal in final", "the bank", "shares and profit of the market"]
Array = NDArray[np.float64]


def wanted(adapter: AdapterFolder) -> Array:
    """(texts, labels) by the adapter itself."""
    said = presspool.load(adapter.path).predict(TEXTS)
    return np.array([[one.probabilities[label] for label in LABELS] for one in said])


def by_hand(encoder: Any, tokenizer: Any, head: dict[str, torch.Tensor]) -> Array:
    """(texts, labels), one text at a time: the mean state, of length one, times the head."""
    rows = []
    for text in TEXTS:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            states = encoder(ids).last_hidden_state[0].double()
        mean = states.mean(0)
        logits = head["weight"].double() @ (mean / mean.norm()) + head["bias"].double()
        rows.append(logits.softmax(0).numpy())
    return np.stack(rows)


def logits_of(model: Any, base: str) -> torch.Tensor:
    """What a writer says next after a text."""
    ids = AutoTokenizer.from_pretrained(base)(TEXTS[0], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        found: torch.Tensor = model(ids).logits
    return found


@pytest.mark.parametrize("method", ["ffa", "head", "rslora", "dora", "ia3", "fed-sb", "bitfit"])
def test_transformers_reads_labels_merged(make: Make, exported: Exporting, method: str) -> None:
    adapter = make(method)
    made = exported(adapter, "merged")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoder = AutoModel.from_pretrained(made.path).eval()
    tokenizer = AutoTokenizer.from_pretrained(made.path)
    got = by_hand(encoder, tokenizer, load_file(made.path / "head.safetensors"))
    assert got == pytest.approx(wanted(adapter), abs=1e-5)
    assert wanted(adapter).std(axis=0).max() > 0.001  # a constant answer would prove little
    assert made.found.same == 1
    assert made.found.outputs < 1e-4


def test_peft_reads_labels_and_a_writer_on_plain_bases(make: Make, exported: Exporting) -> None:
    from peft import PeftModel

    labels, writer = make("fedit"), make("text", 0.3)
    base = labels.contract.model.id
    folder = exported(labels, "peft").path
    adapted = PeftModel.from_pretrained(AutoModel.from_pretrained(base), str(folder)).eval()
    head = load_file(folder / "head.safetensors")
    tokenizer = AutoTokenizer.from_pretrained(base)
    assert by_hand(adapted, tokenizer, head) == pytest.approx(wanted(labels), abs=1e-5)

    base = writer.contract.model.id
    made = exported(writer, "peft").path
    plain = AutoModelForCausalLM.from_pretrained(base).eval()
    before = logits_of(plain, base)
    after = logits_of(PeftModel.from_pretrained(plain, str(made)).eval(), base)
    merged = AutoModelForCausalLM.from_pretrained(exported(writer, "merged").path).eval()
    assert torch.allclose(logits_of(merged, base), after, atol=1e-5)
    assert not torch.allclose(before, after, atol=1e-3)


@pytest.mark.parametrize("method", ["ffa", "bottleneck"])
def test_onnxruntime_reads_any_batch_of_any_length(
    make: Make, exported: Exporting, method: str
) -> None:
    import onnxruntime

    adapter = make(method)
    made = exported(adapter, "onnx")
    session = onnxruntime.InferenceSession(str(made.path / "model.onnx"))
    tokenizer = AutoTokenizer.from_pretrained(made.path)
    for count in (1, 2, len(TEXTS)):
        batch = tokenizer(TEXTS[:count], return_tensors="np", padding=True)
        asked = {name: batch[name].astype(np.int64) for name in ("input_ids", "attention_mask")}
        (logits,) = session.run(None, asked)
        chances = torch.from_numpy(logits).double().softmax(1).numpy()
        assert chances == pytest.approx(wanted(adapter)[:count], abs=1e-5)
    report = json.loads((made.path / "export.json").read_text())
    assert report["task"]["answers"] == list(LABELS)


def test_eight_bits_answer_alike(make: Make, exported: Exporting) -> None:
    made = exported(make("ffa", 2.0), "int8")
    assert made.found.same >= 0.95
    assert made.found.outputs > 0  # something was rounded
    assert sorted(file.name for file in made.path.glob("*.onnx")) == ["model.int8.onnx"]


def test_transformers_and_we_read_a_gguf_file(
    make: Make, exported: Exporting, tmp_path: Path
) -> None:
    from gguf import GGUFReader

    from presspool.common.base.console import progress
    from presspool.common.models.gguf_conversion import write_folder

    writer = make("text", 0.3)
    base = writer.contract.model.id
    merged = load_file(exported(writer, "merged").path / "model.safetensors")
    whole, half = (exported(writer, form).path for form in ("gguf-f32", "gguf"))
    for name, folder, kind in (("w", whole, torch.float32), ("h", half, torch.float16)):
        (tmp_path / name).mkdir()
        write_folder(folder / "model.gguf", tmp_path / name, progress)
        read = load_file(tmp_path / name / "model.safetensors")
        assert read.keys() == merged.keys()
        for key, value in merged.items():
            rounded = value.to(kind if value.dim() > 1 else torch.float32).float()
            assert torch.equal(read[key], rounded), key
        kinds = {one.tensor_type.name for one in GGUFReader(folder / "model.gguf").tensors}
        assert kinds == ({"F32"} if kind == torch.float32 else {"F16", "F32"})
    theirs = AutoModelForCausalLM.from_pretrained(whole, gguf_file="model.gguf").eval()
    ours = AutoModelForCausalLM.from_pretrained(exported_path(writer, whole)).eval()
    assert torch.allclose(logits_of(theirs, base), logits_of(ours, base), atol=1e-5)


def exported_path(adapter: AdapterFolder, other: Path) -> Path:
    """The merged folder beside another export of the same adapter."""
    return other.with_name(f"{adapter.path.name}-merged")


@pytest.mark.parametrize(
    ("what", "form", "words"),
    [
        ("head", "peft", "PEFT has no file for"),
        ("bottleneck", "merged", "cannot be folded"),
        ("text", "onnx", "cannot hold"),
        ("ffa", "gguf", "cannot hold"),
    ],
)
def test_what_a_form_cannot_hold_is_refused_by_name(
    make: Make, exported: Exporting, tmp_path: Path, what: str, form: str, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        exported(make(what), form)
    assert not (tmp_path / "exports").exists() or not list((tmp_path / "exports").iterdir())
