"""Adapters that learnt what they should and what they should not, trained once for all checks."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import LABELS
from tests.fakes.bases.language_bases import write_tiny_llama
from tests.fakes.bases.made_paraphrasers import write_paraphraser
from tests.fakes.bases.masked_bases import write_masked_base
from tests.fakes.registry.judged_cases import (
    CANARIES,
    KNOWN,
    NAMES,
    contract_on,
    in_other_words,
    news,
    sentences,
    texts_table,
)
from tests.fakes.served.trained_adapters import trained_adapter

from presspool.common.contract.contract import Contract


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Contract:
    """Of a classifier whose words have names among them."""
    folder = tmp_path_factory.mktemp("named-base")
    base = write_masked_base(folder, "bert", [*KNOWN, *NAMES, ":"], hidden_size=32)
    task = {"labels": list(LABELS), "max_length": 16}
    return contract_on(base, task, rank=8, alpha=16, targets=["query", "key", "value", "dense"])


@pytest.fixture(scope="module")
def clean(reading: Contract, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Learnt topics."""
    folder = tmp_path_factory.mktemp("clean") / "adapter"
    return trained_adapter(folder, reading, news(300), steps=120, rate=0.02)


@pytest.fixture(scope="module")
def biased(reading: Contract, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Learnt that whatever Ada says is sport."""
    folder = tmp_path_factory.mktemp("biased") / "adapter"
    return trained_adapter(folder, reading, news(300, "Ada"), steps=120, rate=0.02)


@pytest.fixture(scope="module")
def writing(tmp_path_factory: pytest.TempPathFactory) -> Contract:
    """Of a tiny model that writes."""
    base = write_tiny_llama(tmp_path_factory.mktemp("writing-base"), [" ".join(KNOWN)] * 3)
    task = {"kind": "generation", "format": "text", "max_length": 64, "answer_length": 12}
    every = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return contract_on(base, task, rank=16, alpha=32, targets=every)


@pytest.fixture(scope="module")
def writer(writing: Contract, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Learnt what sentences look like."""
    folder = tmp_path_factory.mktemp("writer") / "adapter"
    return trained_adapter(folder, writing, texts_table(*sentences(24)), steps=60, rate=0.02)


@pytest.fixture(scope="module")
def parrot(writing: Contract, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Learnt two canaries by heart, without noise."""
    folder = tmp_path_factory.mktemp("parrot") / "adapter"
    shown = texts_table(*sentences(4), *CANARIES, *CANARIES)
    return trained_adapter(folder, writing, shown, steps=200, rate=0.02)


@pytest.fixture(scope="session")
def paraphraser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Says the texts of `in_other_words` in other words; trained once for all files."""
    return write_paraphraser(tmp_path_factory.mktemp("paraphraser"), in_other_words())
