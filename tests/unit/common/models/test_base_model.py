"""The base model is found, hashed, and refused when it is not the pinned one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from presspool.common.base.errors import ModelError
from presspool.common.models import base_model_sources
from presspool.common.models.base_model import resolve
from presspool.common.models.catalogue import CATALOGUE, DEFAULT_ID

# Published by the hub for sentence-transformers/all-MiniLM-L6-v2, model.safetensors.
PUBLISHED = "sha256:53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def test_the_packaged_default_is_the_published_file() -> None:
    assert resolve(DEFAULT_ID, weights=PUBLISHED, tokenizer=None).weights == PUBLISHED


def test_another_hash_is_refused_with_both_hashes(tiny_base: Path) -> None:
    with pytest.raises(ModelError) as caught:
        resolve(str(tiny_base), weights=PUBLISHED, tokenizer=None)
    assert PUBLISHED in str(caught.value)
    assert resolve(str(tiny_base), weights=None, tokenizer=None).weights in str(caught.value)


def test_one_flipped_bit_of_weights_or_tokenizer_is_found(tiny_base: Path, tmp_path: Path) -> None:
    pinned = resolve(str(tiny_base), weights=None, tokenizer=None)
    for name in ("model.safetensors", "tokenizer.json"):
        copy = tmp_path / name.partition(".")[0]
        shutil.copytree(tiny_base, copy)
        content = bytearray((copy / name).read_bytes())
        content[-1] ^= 1
        (copy / name).write_bytes(content)
        with pytest.raises(ModelError, match="not the pinned"):
            resolve(str(copy), weights=pinned.weights, tokenizer=pinned.tokenizer)


def test_shards_are_hashed_together(tiny_base: Path, tmp_path: Path) -> None:
    copy = tmp_path / "sharded"
    shutil.copytree(tiny_base, copy)
    (copy / "model-2.safetensors").write_bytes(b"second shard")
    both = resolve(str(copy), weights=None, tokenizer=None).weights
    (copy / "model-2.safetensors").write_bytes(b"other shard")
    assert resolve(str(copy), weights=None, tokenizer=None).weights != both


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no weights"):
        resolve(str(tmp_path), weights=None, tokenizer=None)


def test_where_no_model_can_be_had_the_error_names_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missing = replace(CATALOGUE[DEFAULT_ID], package="not-installed-anywhere==1")
    monkeypatch.setattr(base_model_sources, "CATALOGUE", {DEFAULT_ID: missing})
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError) as caught:
        resolve(DEFAULT_ID, weights=None, tokenizer=None)
    assert missing.install in str(caught.value)
