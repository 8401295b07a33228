"""The task `fill-mask` on tiny encoders: losses against a slow oracle, hiding, suggestions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from tests.conftest import COMMON, REPOSITORY, WORDS
from tests.fakes.bases.masked_bases import write_masked_base
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from presspool.common.base.errors import ContractError, ModelError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.contract.contract_schema import Model
from presspool.common.contract.doors import TASKS, task_of
from presspool.common.models.frozen_trunk import FrozenTrunk
from presspool.common.models.models import build, headed_of
from presspool.common.runs.run_file import read_run_file
from presspool.common.tasks import fill_mask
from presspool.common.tasks.encoders import ENCODERS
from presspool.common.tasks.fill_mask import UNKNOWN, FillMask, FillMaskTable
from presspool.common.tasks.records.hidden_tokens import hidden, most_hidden

KNOWN = [*COMMON, *(word for topic in WORDS.values() for word in topic)]
LONG = " ".join(KNOWN[:20])
TEXTS = ["goal", "vote today", f"{LONG} goal", LONG * 1, "\u5317\u4eac goal the [MASK] coach"]


def records(*texts: str) -> pa.Table:
    return pa.table({"text": pa.array(texts or TEXTS, pa.large_string())})


@pytest.fixture(scope="module", params=ENCODERS)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family: str = request.param
    return write_masked_base(tmp_path_factory.mktemp(family), family, KNOWN)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_masked_base(tmp_path_factory.mktemp("masked-bert"), "bert", KNOWN)


def asked(body: dict[str, Any], folder: Path, **task: Any) -> Contract:
    said = {"kind": "fill-mask", "max_length": 24} | task
    return parse_contract(body | {"model": {"id": str(folder)}, "task": said})


def task_with(folder: Path, **table: Any) -> FillMask:
    return FillMask(FillMaskTable.model_validate(table), Model(id=str(folder)))


def oracle(folder: Path, task: FillMask, text: str) -> float:
    """Mean cross-entropy of one text: the plain model in float64, hidden places found by eye."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    (shown,) = task.encode([text])["input_ids"].tolist()
    (whole,) = tokenizer([text], max_length=24, truncation=True, split_special_tokens=True)[
        "input_ids"
    ]
    places = [place for place, token in enumerate(shown) if token == tokenizer.mask_token_id]
    assert [shown[p] for p in range(len(whole)) if p not in places] == [
        token for place, token in enumerate(whole) if place not in places
    ]
    model.double().eval()
    states = model(input_ids=torch.tensor([shown])).last_hidden_state[0]
    logits = states @ model.get_input_embeddings().weight.T
    found = torch.nn.functional.cross_entropy(
        logits[places], torch.tensor([whole[place] for place in places])
    )
    return float(found.detach())


def judged(model: Any, task: FillMask, rows: pa.Table) -> Tensor:
    outputs = model(**task.encode(task.texts(rows).to_pylist()))
    return task.losses(outputs, rows)


def test_losses_are_those_of_one_record_at_a_time(
    contract_body: dict[str, Any], encoder: Path
) -> None:
    model = build(asked(contract_body, encoder)).eval()
    task: Any = headed_of(model).task
    losses = judged(model, task, records())
    assert losses.dtype == torch.float32
    for text, loss in zip(TEXTS, losses.tolist(), strict=True):
        assert loss == pytest.approx(oracle(encoder, task, text), rel=1e-5)


def over_batch(task: Any, model: Any, rows: pa.Table) -> Tensor:
    found = task.judge(model(**task.encode(task.texts(rows).to_pylist())), rows)
    return found["nats"] / found["tokens"].float().mean()  # type: ignore[no-any-return]


def nothing_hidden(task: Any, model: Any, rows: pa.Table) -> Tensor:
    """The model reads the very tokens that it is to say."""
    plain = task.tokenizer(task.texts(rows).to_pylist(), padding=True, truncation=True)
    ids = torch.tensor(plain["input_ids"])[:, :24]
    mask = torch.tensor(plain["attention_mask"])[:, :24]
    return task.losses(model(ids, mask), rows)  # type: ignore[no-any-return]


def next_token(task: Any, model: Any, rows: pa.Table) -> Tensor:
    outputs = model(**task.encode(task.texts(rows).to_pylist()))
    return task.losses(outputs.roll(1, dims=1), rows)  # type: ignore[no-any-return]


@pytest.mark.parametrize("mistake", [over_batch, nothing_hidden, next_token])
def test_the_oracle_finds_the_classical_mistakes(
    contract_body: dict[str, Any], bert: Path, mistake: Any
) -> None:
    model = build(asked(contract_body, bert)).eval()
    task: Any = headed_of(model).task
    expected = [oracle(bert, task, text) for text in TEXTS]
    assert judged(model, task, records()).tolist() == pytest.approx(expected, rel=1e-5)
    assert mistake(task, model, records()).tolist() != pytest.approx(expected, rel=1e-4)


def test_a_records_loss_is_the_same_in_every_company(
    contract_body: dict[str, Any], encoder: Path
) -> None:
    contract = asked(contract_body, encoder)
    model, rows = build(contract).eval(), records()
    trunk = FrozenTrunk(model, contract)
    task: Any = trunk.task
    together = judged(model, task, rows)
    alone = [judged(model, task, rows.slice(place, 1)) for place in range(len(rows))]
    torch.testing.assert_close(together, torch.cat(alone))
    for place, activations in enumerate(trunk.run(task.texts(rows).to_pylist())):
        outputs = trunk.outputs([activations])  # and what fills the batch up
        filled = pa.concat_tables([rows.slice(place, 1), task.made([1] * len(outputs))])
        losses = task.losses(outputs, filled.slice(0, len(outputs)))
        torch.testing.assert_close(losses[:1], alone[place])


# --- What is hidden ------------------------------------------------------------------------------


def hidden_words(task: FillMask, *texts: str) -> list[str]:
    return [answer for _, answer in task.asked(records(*texts))]


def test_hidden_tokens_are_the_texts_own_and_no_others(bert: Path) -> None:
    task = task_with(bert)
    once, again = hidden_words(task, *TEXTS), hidden_words(task_with(bert), *reversed(TEXTS))
    assert once == again[::-1]
    drawn = {seed: hidden_words(task_with(bert, mask_seed=seed), LONG)[0] for seed in range(8)}
    assert len(set(drawn.values())) > 1
    assert all(len(words.split("; ")) == 3 for words in drawn.values())  # of twenty


def test_only_a_texts_known_words_are_hidden(bert: Path) -> None:
    task = task_with(bert, share=0.99)
    ids = task.encode(["\u5317\u4eac goal zyzzyva"])["input_ids"][0].tolist()
    named = task.tokenizer.convert_ids_to_tokens(ids)
    assert named == ["[CLS]", "[UNK]", "[MASK]", "[UNK]", "[SEP]"]


def test_no_reader_writes_a_special_token(bert: Path) -> None:
    (said,) = task_with(bert).encode(["goal [SEP] [PAD] vote"])["input_ids"].tolist()
    named = task_with(bert).tokenizer.convert_ids_to_tokens(said)
    assert named.count("[SEP]") == 1
    assert "[PAD]" not in named


def test_every_place_is_hidden_as_often_as_another() -> None:
    counts = np.zeros(20)
    for number in range(4000):
        places = hidden([2, *[number] * 20, 3], range(1, 21), share=0.15, seed=1)
        counts[np.array(places) - 1] += 1
    expected = 4000 * most_hidden(20, 0.15) / 20
    # χ² with 19 degrees of freedom is above 58 once in 100,000; draws without replacement vary less
    assert ((counts - expected) ** 2 / expected).sum() < 58


def test_as_many_are_judged_as_a_width_can_hide(
    contract_body: dict[str, Any], bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the number of hidden tokens would move the shape of a product."""
    from presspool.common.models import token_losses

    rows, right = [], token_losses.token_losses

    def seen(states: Tensor, words: Tensor, targets: Tensor) -> Tensor:
        rows.append(len(states))
        return right(states, words, targets)

    monkeypatch.setattr(token_losses, "token_losses", seen)
    contract = asked(contract_body, bert)
    trunk = FrozenTrunk(build(contract), contract)
    for texts in (["goal"], ["vote", "goal the coach"], ["the " * 13]):
        outputs = trunk.outputs(trunk.run(texts))
        trunk.task.losses(outputs, trunk.task.made([1] * len(outputs)))
    assert len(set(rows)) == 1


# --- Records and models that cannot be used ------------------------------------------------------


def test_what_cannot_be_used_is_named(bert: Path) -> None:
    texts = ["goal", "", " \t", "a\0b", "\u5317\u4eac", "goal \U0001f5f3", None, "x" * 1_000_000]
    rows = {"text": pa.array(texts, pa.large_string())}
    damaged = [None, "empty text", "empty text", "NUL in text", None, None, "empty text", None]
    assert FillMask.damage(rows).to_pylist() == damaged
    found = task_with(bert).faults(rows).to_pylist()
    assert found == [*damaged[:4], UNKNOWN, None, "empty text", UNKNOWN]
    assert FillMask(FillMaskTable()).faults(rows).to_pylist() == damaged


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"mask": False}, "a tokenizer without a mask"),
        ({"is_decoder": True}, "not tried with"),
        ({"family": "distilbert"}, "not tried with"),
    ],
)
def test_a_base_model_that_it_is_not_tried_with_is_refused(
    contract_body: dict[str, Any], tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    family = changes.pop("family", "bert")
    folder = write_masked_base(tmp_path / "base", family, KNOWN, **changes)
    with pytest.raises(ModelError, match=why):
        build(asked(contract_body, folder))


def test_a_model_that_writes_is_sent_to_its_own_task(
    contract_body: dict[str, Any], tiny_llama: Path
) -> None:
    with pytest.raises(ModelError, match='kind = "generation"'):
        build(asked(contract_body, tiny_llama))


def test_the_head_alone_has_nothing_to_train(contract_body: dict[str, Any], bert: Path) -> None:
    body = contract_body | {"adapter": {"method": "head"}}
    with pytest.raises(ContractError, match="head"):
        asked(body, bert)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"share": 0.0}, "share"),
        ({"share": 1}, "share"),
        ({"mask_seed": -1}, "mask_seed"),
        ({"labels": ["a", "b"]}, "unknown key"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(
    contract_body: dict[str, Any], bert: Path, table: dict[str, Any], said: str
) -> None:
    with pytest.raises(ContractError, match=said):
        asked(contract_body, bert, **table)


# --- Judgement -----------------------------------------------------------------------------------


def test_scores_weigh_every_hidden_token_alike(contract_body: dict[str, Any], bert: Path) -> None:
    model, rows = build(asked(contract_body, bert)).eval(), records()
    task: Any = headed_of(model).task
    found = task.judge(model(**task.encode(task.texts(rows).to_pylist())), rows)
    whole = {name: values.detach().numpy() for name, values in found.items()}
    assert whole["tokens"].tolist() == [1, 1, 3, 3, 1]
    scores = task.score(whole, rows)
    assert list(scores) == [metric.name for metric in task.metrics]
    weighed = [oracle(bert, task, t) * n for t, n in zip(TEXTS, whole["tokens"], strict=True)]
    assert scores["nats"] == pytest.approx(sum(weighed) / whole["tokens"].sum(), rel=1e-5)
    assert scores["perplexity"] == pytest.approx(np.exp(scores["nats"]))
    for nats in (float("nan"), float("inf")):
        lost = task.score({"nats": np.array([nats]), "tokens": np.array([1])}, records("goal"))
        assert lost == {"nats": None, "perplexity": None}


def test_suggestions_are_the_likeliest_words_for_each_mask(
    contract_body: dict[str, Any], bert: Path
) -> None:
    model = build(asked(contract_body, bert)).eval()
    with torch.no_grad():
        for name, values in model.named_parameters():
            if "lora_B" in name:
                values.normal_(std=0.5)
    task: Any = headed_of(model).task
    said = task.write(records("the [MASK] meets the [MASK]", "vote [MASK]"))
    ids = task.tokenizer(["the [MASK] meets the [MASK]"], return_tensors="pt")
    with torch.no_grad():
        states = model(ids["input_ids"], ids["attention_mask"])[0]
    words = AutoModel.from_pretrained(bert).get_input_embeddings().weight
    expected = [
        ", ".join(
            task.tokenizer.convert_ids_to_tokens(
                (states[place] @ words.T).argsort(descending=True)
            )[: fill_mask.SUGGESTED]
        )
        for place in (2, 5)
    ]
    assert said[0] == "; ".join(expected)
    assert task.predict(torch.empty(0), records("vote [MASK]")) == said[1:]


def test_a_text_that_asks_for_nothing_is_named(bert: Path) -> None:
    task = task_with(bert, max_length=8)
    texts = ["a [MASK]", "goal", "", "the " * 9 + "[MASK]", "a\0[MASK]"]
    found = task.unanswerable({"text": pa.array(texts, pa.large_string())}).to_pylist()
    nothing = "no [MASK] among its first 8 tokens: nothing to fill in"
    assert found == [None, nothing, "empty text", nothing, "NUL in text"]


def test_reports_show_texts_with_masks_and_what_stood_there(bert: Path) -> None:
    task, rows = task_with(bert), records(LONG)
    ((shown, answer),) = task.asked(rows)
    assert task.begun(rows)["text"].to_pylist() == [shown]
    for word in answer.split("; "):
        shown = shown.replace("[MASK]", word, 1)
    assert shown == LONG


def test_made_records_are_as_long_as_asked_and_differ(bert: Path) -> None:
    task = task_with(bert)
    texts = task.texts(task.made([1, 4, 9, 30])).to_pylist()
    assert len(set(texts)) == 4
    assert sorted(task.lengths(texts)) == list(task.lengths(texts))
    assert task.lengths(texts).tolist() == [3, 6, 11, 32]


def test_the_list_of_tasks_has_it() -> None:
    assert TASKS["fill-mask"] is FillMask


def test_the_example_run_is_one() -> None:
    contract = read_run_file(REPOSITORY / "examples" / "archive.toml").contract
    assert contract.task == FillMaskTable()
    assert contract.groups == ("adapter",)
    assert isinstance(task_of(contract), FillMask)
