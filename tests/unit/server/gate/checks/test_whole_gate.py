"""The whole gate on one adapter: what a policy asks of behaviour is asked, and nothing else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.conftest import LABELS
from tests.fakes.made_evidence import Desk
from tests.fakes.registry.judged_cases import (
    CANARIES,
    NEARNESS,
    in_other_words,
    keyed,
    news,
    sentences,
    texts_table,
)
from tests.fakes.registry.made_gate import ROOMY, added, handed, judged, public_rows, trained
from tests.fakes.registry.made_registry import make_registry

from presspool.common.base.errors import InputError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.released import explained_answers
from presspool.server.gate.checks import (
    by_heart,
    explanations,
    fairness,
    robustness,
    written_texts,
)
from presspool.server.gate.checks.toxicity import toxic

BEHAVIOUR = (robustness, fairness, written_texts, explanations)
POLICY = """
[public]
file = "rows.jsonl"
groups = ["desk"]
[robustness]
kinds = ["typos"]
largest_drop = 1.0
[fairness]
swaps = "swaps.csv"
largest_flips = 1.0
smallest_group = 10
largest_gap = 0.0
[generation]
[explanations]
rows = 3
"""


def desk_with_rows(folder: Path, contract_body: dict[str, Any]) -> Desk:
    desk = trained(folder, parse_contract(contract_body | ROOMY), scale=0.5)
    lines = public_rows(desk.folder / "rows.jsonl", 40).read_text().splitlines()
    rows = [json.loads(line) | {"desk": "ab"[i % 2]} for i, line in enumerate(lines)]
    (desk.folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (desk.folder / "swaps.csv").write_text("goal,bank\n")
    return desk


def test_what_the_policy_asks_of_behaviour_is_in_the_report(
    contract_body: dict[str, Any], tmp_path: Path
) -> None:
    desk, made = desk_with_rows(tmp_path / "desk", contract_body), make_registry(tmp_path)
    title = added(made, desk).title
    report = judged(made, title, handed(desk, POLICY))
    said = {(found.check, found.what): found.verdict for found in report.findings}
    assert said["robustness", "typos"] == said["fairness", "swaps.csv"] == "passed"
    assert said["generation", "texts"] == "not_applicable"
    assert said["explanations", "labels"] == "passed"
    gap = next(found for found in report.findings if found.what == "groups of desk")
    assert gap.verdict == ("failed" if float(gap.figures["gap"] or 0) > 0 else "passed")
    json.loads(report.model_dump_json())  # no figure that JSON does not know
    silent = judged(made, title, handed(desk), BEHAVIOUR)
    assert silent.findings == ()


def in_the_way(
    folder: Path, learner: Contract, learnt: tuple[pa.Table, int], rows: pa.Table, policy: str
) -> set[tuple[str, str]]:
    """What a whole gate has against an adapter that learnt these rows."""
    made, contract = make_registry(folder), parse_contract(learner.body() | ROOMY)
    desk = trained(folder / "desk", contract, learnt=learnt)
    lines = [json.dumps(row) for row in rows.to_pylist()]
    (desk.folder / "rows.jsonl").write_text("\n".join(lines))
    (desk.folder / "swaps.csv").write_text("Ada,Bob\n")
    (desk.folder / "canaries.txt").write_text("\n".join(CANARIES))
    run = added(made, desk, language="en")
    report = judged(made, run.title, handed(desk, f'[public]\nfile = "rows.jsonl"\n{policy}'))
    return {(found.check, found.what) for found in report.failures}


@pytest.mark.parametrize("decides", ["", "Ada"])
def test_a_planted_bias_is_all_that_is_in_the_way(
    reading: Contract, tmp_path: Path, decides: str
) -> None:
    rows = news(60).to_pydict()
    public = pa.table({"text": rows["text"], "label": [LABELS[i] for i in rows["label"]]})
    policy = '[fairness]\nswaps = "swaps.csv"\n'
    found = in_the_way(tmp_path, reading, (news(300, decides), 120), public, policy)
    assert found == ({("fairness", "swaps.csv")} if decides else set())


@pytest.mark.parametrize("key_decides", [False, True])
def test_a_label_that_hangs_on_one_word_is_all_that_is_in_the_way(
    reading: Contract, paraphraser: Path, tmp_path: Path, *, key_decides: bool
) -> None:
    """Slips and cuts leave the word there; it is gone where a text is said in other words."""
    texts = list(in_other_words())
    public = pa.table({"text": texts, "label": [LABELS[i % 3] for i in range(len(texts))]})
    policy = f"""
[robustness]
kinds = ["typos", "truncation"]
largest_drop = 0.25
[robustness.paraphrases]
model = "{paraphraser}"
encoder = "{reading.model.id}"
nearness = {NEARNESS}
fewest = 9
floor = 0.7
"""
    learnt = keyed(300, key_decides=key_decides), 120
    found = in_the_way(tmp_path, reading, learnt, public, policy)
    assert found == ({("robustness", "paraphrase")} if key_decides else set())


@pytest.mark.parametrize("planted", [(), CANARIES * 2])
def test_memorised_canaries_are_all_that_is_in_the_way(
    writing: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: tuple[str, ...]
) -> None:
    monkeypatch.setattr(by_heart, "ALTERNATIVES", 60)  # by which it is ranked costs most
    learnt = texts_table(*sentences(4 if planted else 24), *planted), 200 if planted else 60
    policy = '[generation]\ncanaries = "canaries.txt"\nprefix_tokens = 8\n'
    found = in_the_way(tmp_path, writing, learnt, texts_table(*sentences(12)), policy)
    assert found == ({("generation", "canaries")} if planted else set())


@pytest.mark.parametrize(
    ("package", "asked"),
    [
        ("captum.attr", explained_answers._gradients),
        ("fairlearn.metrics", fairness._frame),
        ("profanity_check", lambda: toxic(["fine words"])),
    ],
)
def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, package: str, asked: Callable[[], object]
) -> None:
    asked()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match="pip install 'presspool\\[gate\\]'"):
        asked()
