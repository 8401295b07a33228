"""The task `tagging`: words among tokens, losses against a slow oracle, entities as seqeval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from tests.fakes.bases.moved_models import with_state
from torch import Tensor

from presspool.client.engine.alike import prove_alike
from presspool.client.engine.compute import Compute
from presspool.client.engine.selftest import prove
from presspool.common.base.errors import ContractError, ModelError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.contract.doors import task_of
from presspool.common.models.adapters import read
from presspool.common.models.models import build, headed_of
from presspool.common.tasks.records import tagged_words
from presspool.common.tasks.records.word_places import first_tokens
from presspool.common.tasks.scores.entity_metrics import scores
from presspool.common.tasks.tagging import NONE, Tagging, TaggingTable

TYPES = ["PER", "LOC", "ORG"]
ROWS = [
    (["the", "minister", "Merkel", "says"], ["O", "O", "B-PER", "O"]),
    (
        ["\u5317\u4eac", "goal", "\U0001f3c6", "\u0623\u062e\u0628\u0627\u0631"],
        ["B-LOC", "O", "O", "B-ORG"],
    ),
    (["unaffordable"] * 9, ["B-ORG", "I-ORG", *["O"] * 7]),
    (["goal"], ["O"]),
]
SPANS = [
    ("Merkel-led talks in Paris.", [(0, 6, "PER"), (20, 25, "LOC")]),
    ("\u5317\u4eac\u65b0\u95fb \U0001f3c6 goal", [(0, 2, "LOC"), (7, 11, "ORG")]),
    ("goal", []),
]


def rows_of(form: str) -> dict[str, pa.Array]:
    if form == "tokens":
        columns = {"tokens": [t for t, _ in ROWS], "tags": [t for _, t in ROWS]}
    else:
        keys = ("start", "end", "type")
        spans = [[dict(zip(keys, one, strict=True)) for one in own] for _, own in SPANS]
        return {
            "text": pa.array([text for text, _ in SPANS], pa.large_string()),
            "spans": pa.array(map(json.dumps, spans), pa.large_string()),
        }
    return {n: pa.array(map(json.dumps, v), pa.large_string()) for n, v in columns.items()}


@pytest.fixture(params=["tokens", "spans"])
def form(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def tagged(contract_body: dict[str, Any], form: str) -> Contract:
    return of_format(contract_body, form)


def of_format(body: dict[str, Any], form: str, **more: Any) -> Contract:
    task = {"kind": "tagging", "format": form, "labels": TYPES, "max_length": 24}
    return parse_contract(body | {"task": task} | more)


def records(task: Any, form: str) -> pa.Table:
    return pa.table(dict(task.parse(rows_of(form))))


def outputs_of(model: Any, task: Any, rows: pa.Table) -> Tensor:
    found: Tensor = model(**task.encode(task.texts(rows).to_pylist()))
    return found


def places_of(task: Any, text: str, words: list[tuple[int, int]]) -> dict[int, int]:
    """Each word's first token, by the tokenizer's own look-up; a token is its first word's."""
    limit = task.table.max_length
    found, encoding = dict[int, int](), task.tokenizer(text, truncation=True, max_length=limit)
    for number, (start, end) in enumerate(words):
        tokens = [encoding.char_to_token(0, char) for char in range(start, end)]
        place = next((token for token in tokens if token is not None), None)
        if place is not None and place not in found.values():
            found[number] = place
    return found


def oracle(model: Any, task: Any, row: pa.Table) -> float:
    """One record in float64, its words looked up one by one."""
    (text,), (tags,) = task.texts(row).to_pylist(), [json.loads(t) for t in row[1].to_pylist()]
    _, words = tagged_words.read(row[0][0].as_py(), row.column_names[0])
    logits = model(**task.encode([text]))[0].double().log_softmax(-1)
    places = places_of(task, text, words)
    found = [float(-logits[at, task.tags.index(tags[word])]) for word, at in places.items()]
    return sum(found) / len(found)


def test_losses_are_those_of_one_record_at_a_time(tagged: Contract, form: str) -> None:
    model = with_state(tagged, 0.3)
    task: Any = headed_of(model).task
    rows = records(task, form)
    losses = task.losses(outputs_of(model, task, rows), rows)
    assert losses.dtype == torch.float32
    for place in range(len(rows)):
        expected = oracle(model, task, rows.slice(place, 1))
        assert losses[place].item() == pytest.approx(expected, rel=1e-5)


def every_piece(task: Any, outputs: Tensor, rows: pa.Table) -> Tensor:
    """Each piece of a word counts, not its first alone."""
    targets = task._targets(outputs, rows)
    for row in targets:
        for place in range(2, len(row)):
            row[place] = row[place - 1] if row[place] < 0 else row[place]
    each = torch.nn.functional.cross_entropy(outputs.mT, targets, reduction="none")
    found: Tensor = each.sum(1) / (targets != -100).sum(1)
    return found


def over_batch(task: Any, outputs: Tensor, rows: pa.Table) -> Tensor:
    targets = task._targets(outputs, rows)
    each = torch.nn.functional.cross_entropy(outputs.mT, targets, reduction="none")
    found: Tensor = each.sum(1) / (targets != -100).sum(1).float().mean()
    return found


def shifted(task: Any, outputs: Tensor, rows: pa.Table) -> Tensor:
    """Without the special token before the text."""
    found: Tensor = task.losses(outputs.roll(-1, dims=1), rows)
    return found


@pytest.mark.parametrize("mistake", [every_piece, over_batch, shifted])
def test_the_oracle_finds_the_classical_mistakes(tagged: Contract, form: str, mistake: Any) -> None:
    model = with_state(tagged, 0.3)
    task: Any = headed_of(model).task
    rows = records(task, form)
    outputs = outputs_of(model, task, rows)
    wrong = mistake(task, outputs, rows).tolist()
    right = [oracle(model, task, rows.slice(place, 1)) for place in range(len(rows))]
    assert wrong != pytest.approx(right, rel=1e-3)


def test_a_record_without_a_word_that_is_read_has_no_loss(contract_body: dict[str, Any]) -> None:
    task = task_of(of_format(contract_body, "tokens"))
    rows = {"tokens": pa.array(["[]"]), "tags": pa.array(["[]"])}
    parsed = pa.table(dict(task.parse(rows)))
    outputs = torch.randn(1, 24, 7, requires_grad=True)
    assert task.losses(outputs, parsed).tolist() == [0.0]


METHODS = [("fedit", ["query", "dense"]), ("ffa", ["query"]), ("head", ["query"])]


@pytest.mark.parametrize(("method", "targets"), METHODS)
def test_the_engines_proofs_hold(
    contract_body: dict[str, Any], form: str, method: str, targets: list[str]
) -> None:
    adapter = {"rank": 2, "alpha": 4, "targets": targets, "method": method}
    contract = of_format(contract_body, form, adapter=adapter)
    model = build(contract)
    prove(model, contract)
    prove_alike(model, read(model), contract, Compute(device="cpu", tokens=128))


def test_words_are_found_in_a_byte_level_models_tokens(
    contract_body: dict[str, Any], tiny_llama: Path
) -> None:
    """Its tokens have the space before them, and a sign may be several."""
    adapter = {"rank": 2, "alpha": 4, "targets": ["q_proj"]}
    model = {"id": str(tiny_llama)}
    contract = of_format(contract_body, "tokens", model=model, adapter=adapter)
    task: Any = task_of(contract)
    rows = records(task, "tokens")
    for (text, words), places in zip(task._words.read(rows), task._words.of(rows), strict=True):
        assert dict(places) == places_of(task, text, words)
    built = build(contract)
    prove(built, contract)


def test_a_token_is_one_words_alone() -> None:
    assert first_tokens([(0, 1), (1, 2), (3, 4)], [(0, 2), (2, 4)]) == [(0, 0), (2, 1)]
    assert first_tokens([(0, 1), (2, 3)], [(0, 0), (2, 3)]) == [(1, 1)]
    assert first_tokens([], [(0, 0), (0, 3)]) == []


TAGS = st.lists(st.sampled_from(["O", "B-a", "I-a", "B-b-c", "I-b-c"]), max_size=12)


@given(TAGS)
def test_entities_are_seqevals_and_begin_with_b(tags: list[str]) -> None:
    found = tagged_words.entities(tags)
    assert [(k, a, b - 1) for k, a, b in found] == get_entities(tags)
    begun = tagged_words.begun(tags)
    assert tagged_words.entities(begun) == found
    assert sum(tag[0] == "B" for tag in begun) == len(found)


def test_f1_of_a_known_case() -> None:
    truth = [["B-a", "I-a", "O", "B-b"], ["B-a", "O"]]
    said = [["B-a", "I-a", "O", "B-a"], ["B-a", "I-a"]]  # one of three right, and three said
    found = scores(truth, said, ["a", "b", "c"])
    assert found["precision"] == found["recall"] == found["f1"] == pytest.approx(1 / 3)
    assert [found[f"f1_{label}"] for label in "abc"] == [pytest.approx(2 / 5), 0.0, None]
    assert scores([["O"]], [["O"]], ["a"]) == {"f1": 0, "precision": 0, "recall": 0, "f1_a": None}


def test_what_is_cut_off_is_missed(contract_body: dict[str, Any]) -> None:
    """Two entities, of which the model can read one: it is right, and half is found."""
    body = contract_body | {"task": {"kind": "tagging", "labels": ["PER"], "max_length": 4}}
    task = task_of(parse_contract(body))
    rows = {"tokens": pa.array(["goal the the goal"]), "tags": pa.array(["B-PER O O B-PER"])}
    parsed = pa.table(dict(task.parse(rows)))
    outputs = torch.zeros(1, 4, 3)
    outputs[0, 1, 1] = 9.0
    judged = {name: values.numpy() for name, values in task.judge(outputs, parsed).items()}
    found = task.score(judged, parsed)
    assert (found["precision"], found["recall"]) == (1.0, 0.5)
    assert set(found) == {metric.name for metric in task.metrics}


def test_an_answer_says_where_and_how_surely(contract_body: dict[str, Any], form: str) -> None:
    task: Any = task_of(of_format(contract_body, form))
    asked = {task.inputs[0]: pa.array(["the goal!"], pa.large_string())}
    assert task.unanswerable(asked).to_pylist() == [None]
    table = pa.table(asked)
    width = len(task.encode(task.texts(table).to_pylist())["input_ids"][0])
    (((_, the), (_, goal), _),) = task._words.of(table)
    outputs = torch.zeros(1, width, 7)
    outputs[0, the, 3], outputs[0, goal, 4] = 20.0, 2.0
    (answer,) = task.predict(outputs, table)
    (found,) = task.told(answer)
    assert {k: found[k] for k in ("start", "end", "type", "text")} == {
        "start": 0,
        "end": 8,
        "type": "LOC",
        "text": "the goal",
    }
    sure = np.exp(2.0) / (np.exp(2.0) + 6)
    assert found["score"] == pytest.approx((1 + sure) / 2, abs=1e-4)
    assert task.predict(torch.zeros(1, width, 7), table) == ["[]"]


def test_a_beginning_without_b_is_one_and_a_strange_tag_is_named() -> None:
    task = Tagging(TaggingTable(labels=("PER", "LOC")))
    rows = {"tokens": pa.array(["a b c", "a"]), "tags": pa.array(["I-PER I-PER I-LOC", "B-PRE"])}
    assert task.parse(rows)["tags"].to_pylist() == ['["B-PER","I-PER","B-LOC"]', None]
    assert task.wanted("tags", "O B-PRE")[1] == "B-PER"
    assert task.wanted("spans", '[{"start": 0, "end": 1, "type": "LOK"}]')[1] == "LOC"
    parsed = pa.table(dict(task.parse({n: values[:1] for n, values in rows.items()})))
    assert task.counts(parsed) == {"PER": 1, "LOC": 1, NONE: 0}


@pytest.mark.parametrize("labels", [[], ["a", "a"], ["a-b", "a_b"], ["a b"], [""], ["a\0"]])
def test_labels_must_differ_and_be_words(labels: list[str], contract_body: dict[str, Any]) -> None:
    with pytest.raises(ContractError, match="labels"):
        parse_contract(contract_body | {"task": {"kind": "tagging", "labels": labels}})


def test_a_tokenizer_that_cannot_tell_words_apart_is_refused(
    tagged: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow:
        is_fast = False

    task: Any = task_of(tagged)
    monkeypatch.setattr(Tagging, "tokenizer", property(lambda _: Slow()))
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        task.take(None)
