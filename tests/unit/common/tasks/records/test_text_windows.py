"""Long texts in windows: words as by hand, and states as of each window alone."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import WORDS
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

WINDOW, OVERLAP, MOST = 16, 4, 48
INSIDE = WINDOW - 2  # tokens of text
KNOWN = [word for topic in WORDS.values() for word in topic]
KNOWN += ["unaffordable", "[SEP]", "\U0001f3c6"]
LONG = [KNOWN[number % len(KNOWN)] for number in range(60)]


def windowed(body: dict[str, Any], **more: Any) -> Contract:
    task = {"kind": "tagging", "labels": ["PER", "LOC"], "max_length": MOST, "window": WINDOW}
    return parse_contract(body | {"task": task | more.pop("task", {})} | more)


def records(task: Any, *texts: list[str]) -> pa.Table:
    tags = [["B-PER" if place % 5 == 0 else "O" for place in range(len(one))] for one in texts]
    columns = {"tokens": map(json.dumps, texts), "tags": map(json.dumps, tags)}
    given = {name: pa.array(list(values), pa.large_string()) for name, values in columns.items()}
    return pa.table(dict(task.parse(given)))


def by_hand(task: Any, text: str) -> tuple[list[list[int]], list[list[tuple[int, int]]], int]:
    """Windows that fit, their tokens' characters, and how many the text has: cut by slices."""
    whole = task.tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
    )
    ids, offsets = whole["input_ids"], whole["offset_mapping"]
    starts = [0]
    while starts[-1] + INSIDE < len(ids):
        starts.append(starts[-1] + INSIDE - OVERLAP)
    first, last = task.tokenizer.cls_token_id, task.tokenizer.sep_token_id
    rows = [[first, *ids[start : start + INSIDE], last] for start in starts]
    places = [[(0, 0), *offsets[start : start + INSIDE], (0, 0)] for start in starts]
    fit = next((n for n in range(len(rows)) if sum(map(len, rows[: n + 1])) > MOST), len(rows))
    return rows[:fit], places[:fit], len(starts)


def places_by_hand(task: Any, text: str, words: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Each word's first token, taken where it has most tokens of text on its shorter side."""
    _, characters, count = by_hand(task, text)
    whole = task.tokenizer(text, split_special_tokens=True, return_offsets_mapping=True)
    found, used = list[tuple[int, int]](), set[int]()
    for word, (start, end) in enumerate(words):
        of_tokens = enumerate(whole["offset_mapping"])
        tokens = (place for place, (a, b) in of_tokens if a < b and a < end and start < b)
        token = next(tokens, None)
        if token is None or token in used:
            continue
        used.add(token)
        begins = whole["offset_mapping"][token]
        choices = []
        for number, own in enumerate(characters):
            for place, at in enumerate(own):
                if at == begins and at[0] < at[1]:
                    left = place if number else len(own)
                    right = len(own) - 1 - place if number + 1 < count else len(own)
                    before = sum(map(len, characters[:number]))
                    choices.append((-min(left, right, len(own) - 1), number, before + place))
        if choices:
            found.append((word, min(choices)[2]))
    return found


@pytest.fixture
def task(contract_body: dict[str, Any]) -> Any:
    return task_of(windowed(contract_body))


def test_windows_and_words_are_those_cut_by_hand(task: Any) -> None:
    @settings(max_examples=80, deadline=None)
    @given(st.lists(st.sampled_from(KNOWN), min_size=1, max_size=70))
    def holds(tokens: list[str]) -> None:
        rows = records(task, tokens)
        ((text, words),) = task._words.read(rows)
        own, _, _ = by_hand(task, text)
        batch = task.encode([text])
        assert batch["input_ids"][0].tolist() == [i for one in own for i in one]
        numbers = [number for number, one in enumerate(own, 1) for _ in one]
        assert batch["attention_mask"][0].tolist() == numbers
        assert task.parts(batch["input_ids"][0]).tolist() == numbers
        (found,) = task._words.of(rows)
        assert found == places_by_hand(task, text, words)

    holds()


def test_a_short_text_is_read_as_without_windows(task: Any, contract_body: dict[str, Any]) -> None:
    plain: Any = task_of(windowed(contract_body, task={"window": None}))
    rows = records(task, LONG[:6])
    (text,) = task.texts(rows).to_pylist()
    assert task.encode([text])["input_ids"].tolist() == plain.encode([text])["input_ids"].tolist()
    assert task._words.of(rows) == plain._words.of(rows)


def test_more_of_a_long_text_is_read_and_the_rest_is_told(task: Any) -> None:
    rows = records(task, LONG, LONG[:4])
    lengths = task.lengths(task.texts(rows).to_pylist())
    assert lengths[0] > MOST > lengths[1]
    first, second = task._words.of(rows)
    assert INSIDE < len(first) < len(LONG)
    assert len(second) == 4
    assert [word for word, _ in first] == list(range(len(first)))


def alone(model: Any, task: Any, row: pa.Table) -> Tensor:
    """A record's loss in float64, each window a text of its own to the model."""
    ((text, words),), (tags,) = task._words.read(row), [json.loads(t) for t in row[1].to_pylist()]
    own, _, _ = by_hand(task, text)
    headed = headed_of(model)
    states = [headed.encoder(input_ids=torch.tensor([one])).last_hidden_state[0] for one in own]
    vectors = torch.nn.functional.normalize(torch.cat(states), dim=-1)
    logits = headed.head(vectors).double().log_softmax(-1)
    places = places_by_hand(task, text, words)
    return -torch.stack([logits[at, task.tags.index(tags[word])] for word, at in places]).mean()


def test_a_records_loss_is_that_of_its_windows_one_at_a_time(contract_body: dict[str, Any]) -> None:
    model = with_state(windowed(contract_body), 0.3)
    task: Any = headed_of(model).task
    rows = records(task, LONG, LONG[:20], LONG[7:9])
    outputs = model(**task.encode(task.texts(rows).to_pylist()))
    expected = [float(alone(model, task, rows.slice(place, 1))) for place in range(len(rows))]
    assert task.losses(outputs, rows).tolist() == pytest.approx(expected, rel=1e-5)


def test_a_window_sees_nothing_of_another(contract_body: dict[str, Any]) -> None:
    model = with_state(windowed(contract_body), 0.3).eval()
    task: Any = headed_of(model).task
    batch = task.encode([" ".join(LONG)])
    before = model(**batch)
    batch["input_ids"][0, WINDOW + 3] = 5
    after = model(**batch)
    changed = (before != after).any(-1)[0]
    assert changed[WINDOW : 2 * WINDOW].all()
    assert not changed[:WINDOW].any()
    assert not changed[2 * WINDOW :].any()


@pytest.mark.parametrize(("method", "targets"), [("ffa", ["query", "dense"]), ("head", ["query"])])
def test_the_engines_proofs_hold(
    contract_body: dict[str, Any], method: str, targets: list[str]
) -> None:
    adapter = {"rank": 2, "alpha": 4, "targets": targets, "method": method}
    contract = windowed(contract_body, adapter=adapter)
    model = build(contract)
    prove(model, contract)
    prove_alike(model, read(model), contract, Compute(device="cpu", tokens=128))


def test_an_entity_behind_the_first_window_is_found_where_it_stands(task: Any) -> None:
    rows = records(task, LONG).select(["tokens"])
    ((text, words),), (places,) = task._words.read(rows), task._words.of(rows)
    word, place = next((word, place) for word, place in places if place > WINDOW + 2)
    outputs = torch.zeros(1, MOST, len(task.tags))
    outputs[0, :, 0], outputs[0, place, 3] = 5.0, 20.0
    (found,) = task.told(task.predict(outputs, rows)[0])
    assert (found["start"], found["end"], found["type"]) == (*words[word], "LOC")
    assert text[found["start"] : found["end"]] == LONG[word]


@pytest.mark.parametrize("window", [4, 15, MOST, 3.5, "16"])
def test_a_window_is_smaller_than_a_record_and_no_splinter(
    contract_body: dict[str, Any], window: object
) -> None:
    with pytest.raises(ContractError, match="window"):
        windowed(contract_body, task={"window": window})


def test_a_base_model_that_reads_one_way_is_refused(
    contract_body: dict[str, Any], tiny_llama: Any
) -> None:
    adapter = {"rank": 2, "alpha": 4, "targets": ["q_proj"]}
    contract = windowed(contract_body, model={"id": str(tiny_llama)}, adapter=adapter)
    with pytest.raises(ModelError, match="not tried with") as caught:
        build(contract)
    assert "window" in caught.value.advice


def test_contracts_without_windows_are_as_they_were(contract_body: dict[str, Any]) -> None:
    plain = windowed(contract_body, task={"window": None})
    assert "window" not in plain.body()["task"]
