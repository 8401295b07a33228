"""Fixtures that several test files share: a tiny base model, a contract on it, outlets' data."""

from __future__ import annotations

import gc
import logging
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, settings
from tests.fakes.bases.language_bases import SMOLLM2, converted_smollm2, write_tiny_llama
from tests.fakes.bases.masked_bases import write_masked_base
from tests.fakes.bases.whole_words import save_words
from tests.fakes.instruments.postgres import Server, running

from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.models.base_model import resolve
from presspool.common.models.catalogue import entry

# What is made until all tests are collected stays; looking for garbage in it takes a quarter of the
# time, and as often as there are workers.
gc.disable()

# Before anything imports the hub client, which reads them once: tests never ask a hub.
for switch in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ.setdefault(switch, "1")

# No timed assertions: machines are shared and noisy. Nor is a slow one a test's fault.
settings.register_profile("presspool", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("presspool")

REPOSITORY = Path(__file__).parents[1]
# `presspool` as typed at a terminal: Ctrl-C reaches it also where the tests run in the background
# of a script. Not by `preexec_fn`: between fork and exec gRPC's threads would run, and die, in a
# copy of this process.
AS_TYPED = [
    sys.executable,
    "-c",
    "import signal; from presspool.cli import main; "
    "signal.signal(signal.SIGINT, signal.default_int_handler); main()",
]
LABELS = ("world", "sport", "money")
WORDS = {
    "world": ["minister", "treaty", "border", "summit", "embassy", "vote", "crisis", "talks"],
    "sport": ["goal", "match", "striker", "league", "coach", "final", "medal", "penalty"],
    "money": ["shares", "profit", "bank", "market", "bonds", "rates", "merger", "dollar"],
}
COMMON = ["the", "a", "of", "in", "on", "says", "after", "new", "today", "report"]

# Where the long tests are: begun first, so that at the end no worker waits for one of them.
LONG = ("tests/integration/", "tests/journeys/", "tests/unit/simulations/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files of `LONG` before the others; `make test` hands files out in this order."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


def pytest_collection_finish() -> None:
    """From here on there is garbage to be found, in what the tests make."""
    gc.freeze()
    gc.enable()


def pytest_runtest_setup() -> None:
    """Take back what commands and libraries made of logging: each thinks the process its own.

    Their handlers write into what an earlier test has captured and closed.
    """
    logging.raiseExceptions = True
    ours, root = logging.getLogger("presspool"), logging.getLogger()
    ours.handlers, ours.propagate = [], True
    ours.setLevel(logging.NOTSET)
    root.handlers = [one for one in root.handlers if type(one) is not logging.StreamHandler]


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets, or a skip that says why."""
    default = REPOSITORY.parent / "shared" / "data"
    root = Path(os.environ.get("PRESSPOOL_DATA", default))
    if not root.is_dir():
        pytest.skip(f"no real data at {root}; set PRESSPOOL_DATA to its folder")
    return root


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny, randomly initialised BERT and a word-level tokenizer."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny-base")
    known = save_words(folder, [*COMMON, *(w for topic in WORDS.values() for w in topic)])
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=known,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny, randomly initialised Llama, its tokenizer and a chat template."""
    words = [*COMMON, *(w for topic in WORDS.values() for w in topic)]
    return write_tiny_llama(tmp_path_factory.mktemp("tiny-llama"), [" ".join(words)] * 3)


@pytest.fixture(scope="session")
def smollm2_cache() -> Path:
    """The cache in which the converted SmolLM2 lies; converted once for all workers."""
    return converted_smollm2()


@pytest.fixture
def smollm2(smollm2_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The converted SmolLM2's folder, which its name finds too while the test runs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(smollm2_cache))
    return entry(SMOLLM2).place


@pytest.fixture(scope="session")
def contract_body(tiny_base: Path) -> dict[str, Any]:
    """A small frozen contract's body on the tiny base: two outlets, two rounds of two steps."""
    found = resolve(str(tiny_base), weights=None, tokenizer=None)
    return {
        "name": "test",
        "seed": 3,
        "model": {"id": str(tiny_base), **found.pins},
        "task": {"labels": list(LABELS), "max_length": 12},
        "adapter": {"rank": 2, "alpha": 4, "targets": ["query", "value"]},
        "federation": {"rounds": 2, "local_steps": 2, "quorum": 2},
        "outlets": {"north-post": 30, "south-echo": 20},
        "privacy": {
            "noise_multiplier": 0.8,
            "clip": 1.0,
            "records_per_reader": 2,
            "sampling_rate": 0.3,
        },
        "optimizer": {"learning_rate": 0.5},
    }


@pytest.fixture
def writing_body(
    contract_body: dict[str, Any], tiny_llama: Path
) -> Callable[[str], dict[str, Any]]:
    """A small contract's body of the task `generation` on the tiny Llama, in any of its formats."""

    def make(format_: str) -> dict[str, Any]:
        task = {"kind": "generation", "format": format_, "max_length": 48, "answer_length": 4}
        return {
            **contract_body,
            "model": {"id": str(tiny_llama)},
            "task": task | ({"prompt": "News headline:"} if format_ == "text" else {}),
            "adapter": {"rank": 2, "alpha": 4, "targets": ["o_proj", "down_proj"], "layers": 1},
            "privacy": {**contract_body["privacy"], "noise_multiplier": 1.0},
            "server": {"name": "adam", "learning_rate": 0.03},
            "federation": {"rounds": 2, "local_steps": 1, "quorum": 2},
        }

    return make


@pytest.fixture
def hiding_body(contract_body: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """A small contract's body of the task `fill-mask` on a tiny BERT with a mask."""
    known = [*COMMON, *(word for topic in WORDS.values() for word in topic)]
    folder = write_masked_base(tmp_path / "masked-base", "bert", known)
    return {
        **contract_body,
        "model": {"id": str(folder)},
        "task": {"kind": "fill-mask", "max_length": 24, "share": 0.3},
        "adapter": {"rank": 2, "alpha": 4, "targets": ["dense"], "layers": 1},
        "server": {"name": "adam", "learning_rate": 0.03},
    }


@pytest.fixture
def contract(contract_body: dict[str, Any]) -> Contract:
    """The contract of `contract_body`."""
    return parse_contract(contract_body)


def made_rows(name: str, readers: int) -> list[dict[str, str]]:
    """Readers with one to three records each, from the vocabulary of the tiny base."""
    rows = []
    for number in range(readers):
        label = LABELS[(number + len(name)) % 3]
        for record in range(1 + number % 3):
            words = WORDS[label][(number + record) % 6 :][:2] + COMMON[: 1 + (number + record) % 7]
            rows.append({"reader": f"r{number}", "text": " ".join(words), "label": label})
    return rows


@pytest.fixture
def write_readers(tmp_path: Path) -> Callable[[str, int], Path]:
    """A function that writes an outlet's Parquet file of made readers and returns its path."""

    def write(name: str, readers: int) -> Path:
        path = tmp_path / "data" / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(made_rows(name, readers)), path)
        return path

    return write


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server, or a skip that says why there is none."""
    with running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new database: each test that takes it runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'coordinator.db'}"
    server: Server = request.getfixturevalue("postgres")
    return server.create(f"test_{uuid.uuid4().hex}")
