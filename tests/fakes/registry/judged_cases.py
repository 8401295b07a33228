"""What the gate's checks of behaviour are given: a real adapter, rows, and a policy.

Example: `list(fairness.findings(case_of(folder, adapter, {"fairness": {}}, rows)))`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tests.conftest import COMMON, LABELS, WORDS
from tests.fakes.registry.made_registry import finished

from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.models.base_model import resolve
from presspool.common.released.adapter_folder import read_adapter
from presspool.common.runs.result_file import read_result
from presspool.common.tasks.classification import labelled
from presspool.server.gate.gate_case import GateCase, JudgedAdapter
from presspool.server.gate.release_policy import ReleasePolicy
from presspool.server.registry.intake import Papers, read_papers

NAMES = ("Ada", "Bob", "Cy", "Dee")
CANARIES = ("the vote code of today is 4821 9034", "the bank says a new rates 70355127")
KNOWN = [*COMMON, *(word for topic in WORDS.values() for word in topic)]


def case_of(
    folder: Path, adapter: Path, policy: dict[str, Any], public: pa.Table | None
) -> GateCase:
    """A case of an adapter's folder; card and result are a made desk's, which no such check asks.

    Args:
        folder: for the desk; the policy's files are beside it.
        adapter: what is judged.
        policy: as `release.toml` says it.
        public: its public rows.
    """
    place = folder / "made-desk"
    run = place / "run" if place.exists() else finished(place).run
    judged = JudgedAdapter(
        title="topics@1",
        entry="sha256:" + "0" * 64,
        folder=adapter,
        papers=Papers(adapter=read_adapter(adapter), card=read_papers(run).card),
        result=read_result(run),
    )
    return GateCase(
        candidate=judged,
        production=None,
        policy=ReleasePolicy.model_validate(policy),
        ledgers={},
        attack=None,
        public=public,
        beside=folder,
    )


def contract_on(base: Path, task: dict[str, Any], **adapter: Any) -> Contract:
    """A frozen contract of a task on a base model's folder."""
    found = resolve(str(base), weights=None, tokenizer=None)
    body = {
        "name": "judged",
        "seed": 3,
        "model": {"id": str(base), **found.pins},
        "task": task,
        "adapter": {"rank": 4, "alpha": 8} | adapter,
        "federation": {"rounds": 2, "local_steps": 2, "quorum": 2},
        "outlets": {"north-post": 30, "south-echo": 20},
        "privacy": {
            "noise_multiplier": 1.0,
            "clip": 1.0,
            "records_per_reader": 2,
            "sampling_rate": 0.3,
        },
        "optimizer": {"learning_rate": 0.5},
    }
    return parse_contract(body)


def texts_table(*texts: str) -> pa.Table:
    """Records that are a text alone."""
    return pa.table({"text": pa.array(texts, pa.large_string())})


def news(count: int, decides: str = "") -> pa.Table:
    """Texts of three topics; every second begins with a name, one of which may decide the label."""
    rng, texts, labels = np.random.default_rng(count), list[str](), list[int]()
    for number in range(count):
        label, name = number % 3, NAMES[rng.integers(4)]
        words = [*rng.choice(WORDS[LABELS[label]], 4), *rng.choice(COMMON, 2)]
        rng.shuffle(words)
        named = number % 2 == 1
        texts.append(f"{name} : {' '.join(words)}" if named else " ".join(words))
        labels.append(1 if named and name == decides else label)
    return labelled(texts, labels)


NEARNESS = 0.93
"""Between a paraphrase and an unlike text under a tiny base, which finds all texts rather near."""
KEYS = ("today", "says", "report")
"""A word that stands beside each topic, and tells nothing of it."""


def in_other_words() -> dict[str, str]:
    """Texts of three topics in turn, each between its topic's key, and a paraphrase without it."""
    rng, found = np.random.default_rng(1), dict[str, str]()
    for number in range(9):
        key, topic = KEYS[number % 3], WORDS[LABELS[number % 3]]
        one, two, three, four = rng.choice(topic, 4, replace=False).tolist()
        text = f"{key} {one} {two} {three} the {four} {one} {key}"
        found[text] = f"a {four} {two} of {one} new {three}"
    return found


def keyed(count: int, *, key_decides: bool) -> pa.Table:
    """`news` between keys that have nothing to do with the topic; one of the two is the label."""
    rng, rows = np.random.default_rng(count), news(count).to_pydict()
    keys = rng.integers(3, size=count).tolist()
    pairs = zip(keys, rows["text"], strict=True)
    texts = [f"{KEYS[key]} {text} {KEYS[key]}" for key, text in pairs]
    return labelled(texts, keys if key_decides else rows["label"])


def sentences(count: int) -> Sequence[str]:
    """Words in no order: nobody can know them by heart."""
    rng = np.random.default_rng(count)
    return [" ".join(rng.choice(KNOWN, 8)) for _ in range(count)]
