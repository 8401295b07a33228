"""The task `generation` on a tiny Llama: losses against a slow oracle, metrics, and writing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from tests.conftest import REPOSITORY
from tests.fakes.instruments.typed import typed
from tests.fakes.made_runs import write_run
from torch import Tensor

from presspool.common.base.errors import ContractError, InputError, ModelError
from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import TASKS, task_of
from presspool.common.models.frozen_trunk import FrozenTrunk
from presspool.common.models.models import build, headed_of
from presspool.common.runs.run_file import read_run_file
from presspool.common.tasks.generation import Generation, GenerationTable
from presspool.simulations.simulate import SimulateOptions, prepare

RECORDS = {
    "text": {"text": ["goal", "Vote today \U0001f5f3", "\u5317\u4eac\u65b0\u95fb " * 4]},
    "prompt": {"prompt": ["Why?", "Who " * 30, "So"], "answer": ["Rain.", "Ann", "the end " * 9]},
    "summary": {
        "article": ["It rains.", "Ann won. " * 20, "So"],
        "summary": ["Rain.", "Ann", "the end " * 9],
    },
    "chat": {
        "messages": [
            json.dumps(
                [{"role": "user", "content": ask}, {"role": "assistant", "content": say}]
                * (1 + len(say) % 2)
            )
            for ask, say in (("Why?", "Rain."), ("Who?", "Ann"), ("So " * 20, "the end"))
        ]
    },
}


CHAT = [
    {"role": "user", "content": "Where is my paper?"},
    {"role": "assistant", "content": "On its way."},
]


def records(name: str) -> pa.Table:
    columns = RECORDS[name].items()
    return pa.table({key: pa.array(values, pa.large_string()) for key, values in columns})


@pytest.fixture(params=["text", "prompt", "chat", "summary"])
def form(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def asked(contract_body: dict[str, Any], tiny_llama: Path, form: str) -> Contract:
    return of_format(contract_body, tiny_llama, form)


def of_format(body: dict[str, Any], folder: Path, form: str, **more: Any) -> Contract:
    from presspool.common.contract.contract import parse_contract

    task = {"kind": "generation", "format": form, "max_length": 48, "answer_length": 6} | more
    adapter = {"rank": 2, "alpha": 4, "targets": ["q_proj", "v_proj"]}
    return parse_contract(body | {"model": {"id": str(folder)}, "task": task, "adapter": adapter})


def judged(model: Any, task: Any, rows: pa.Table) -> Tensor:
    outputs = model(**task.encode(task.texts(rows).to_pylist()))
    losses: Tensor = task.losses(outputs, rows)
    return losses


def oracle(task: Any, rows: pa.Table, place: int) -> float:
    """Mean cross-entropy of one record: plain logits in float64, what counts found in the text."""
    one, model = rows.slice(place, 1), task._loaded.double()
    ids = task.encode(task.texts(one).to_pylist())["input_ids"]
    logits = model(input_ids=ids).logits[0].log_softmax(-1)
    counted = counted_places(task, one, ids[0].tolist())
    found = [float(-logits[place - 1, ids[0, place]].detach()) for place in counted]
    model.float()
    return sum(found) / len(found)


def counted_places(task: Any, one: pa.Table, ids: list[int]) -> list[int]:
    """Found from the decoded text alone: where the assistant, or the answer, speaks."""
    if task.table.format == "text":
        return list(range(1, len(ids)))
    begin = task.tokenizer("<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    if task.table.format == "chat":
        places, speaks = [], False
        for place, token in enumerate(ids):
            if speaks:
                places.append(place)
                speaks = token != 2
            elif ids[max(0, place + 1 - len(begin)) : place + 1] == begin:
                speaks = True
        return places
    answer = task.tokenizer(one.columns[-1][0].as_py(), add_special_tokens=False)["input_ids"]
    room = task.table.max_length - 1
    return list(range(len(ids) - min(room, len(answer) + 1), len(ids)))


def test_losses_are_those_of_one_record_at_a_time(asked: Contract, form: str) -> None:
    model, rows = build(asked), records(form)
    task = headed_of(model).task
    losses = judged(model, task, rows)
    assert losses.dtype == torch.float32
    for place in range(len(rows)):
        assert losses[place].item() == pytest.approx(oracle(task, rows, place), rel=2e-6)


def shifted(task: Any, outputs: Tensor, rows: pa.Table) -> Tensor:
    """Each state judged by its own token instead of the next."""
    return task.losses(outputs.roll(-1, dims=1), rows)  # type: ignore[no-any-return]


def by_pad(task: Any, outputs: Tensor, rows: pa.Table) -> Tensor:
    """The end's token taken for padding, because they have one id."""
    targets = task._targets(outputs, rows)
    targets[targets == task.tokenizer.pad_token_id] = -1
    return own_mean(task, outputs, targets)


def over_batch(task: Any, outputs: Tensor, rows: pa.Table) -> Tensor:
    found = task.judge(outputs, rows)
    return found["nats"] / found["tokens"].float().mean()  # type: ignore[no-any-return]


def own_mean(task: Any, outputs: Tensor, targets: Tensor) -> Tensor:
    logits = outputs @ task._loaded.lm_head.weight.T
    each = torch.nn.functional.cross_entropy(logits.mT, targets, ignore_index=-1, reduction="none")
    return each.sum(1) / (targets != -1).sum(1)


@pytest.mark.parametrize("mistake", [shifted, by_pad, over_batch])
def test_the_oracle_finds_the_classical_mistakes(asked: Contract, mistake: Any, form: str) -> None:
    model, rows = build(asked), records(form)
    task: Any = headed_of(model).task
    outputs = model(**task.encode(task.texts(rows).to_pylist()))
    right = task.losses(outputs, rows)
    torch.testing.assert_close(own_mean(task, outputs, task._targets(outputs, rows)), right)
    wrong = mistake(task, outputs, rows)
    assert not torch.allclose(wrong, right, rtol=1e-4)
    expected = [oracle(task, rows, place) for place in range(len(rows))]
    assert wrong.tolist() != pytest.approx(expected, rel=1e-4)


def test_a_records_loss_is_the_same_in_every_company(asked: Contract, form: str) -> None:
    model, rows = build(asked), records(form)
    trunk = FrozenTrunk(model, asked)
    assert trunk.task is headed_of(model).task
    together = judged(model, trunk.task, rows)
    alone = [judged(model, trunk.task, rows.slice(place, 1)) for place in range(len(rows))]
    torch.testing.assert_close(together, torch.cat(alone))
    for place, activations in enumerate(trunk.run(trunk.task.texts(rows).to_pylist())):
        outputs = trunk.outputs([activations])  # and what fills the batch up
        filled = pa.concat_tables([rows.slice(place, 1), trunk.task.made([1] * len(outputs))])
        losses = trunk.task.losses(outputs, filled.slice(0, len(outputs)))
        torch.testing.assert_close(losses[:1], alone[place])


def test_only_the_adapter_trains_and_gets_a_gradient(asked: Contract, form: str) -> None:
    model = build(asked)
    task = headed_of(model).task
    assert asked.groups == ("adapter",)
    judged(model, task, records(form)).sum().backward()  # type: ignore[no-untyped-call]
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora" in name for name in trained)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in trained.values())


@pytest.mark.parametrize(
    ("file", "changes", "why"),
    [
        ("config.json", {"is_causal": False}, "blind to the next"),
        ("config.json", {"model_type": "granite", "logits_scaling": 8.0}, "plain products"),
        ("tokenizer_config.json", {"eos_token": None, "pad_token": None}, "ends a text"),
        ("tokenizer_config.json", {"bos_token": None}, None),
    ],
)
def test_a_model_whose_loss_is_another_is_refused(
    contract_body: dict[str, Any],
    tiny_llama: Path,
    tmp_path: Path,
    file: str,
    changes: dict[str, Any],
    why: str | None,
) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path / "base")
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    said = json.loads((folder / file).read_text()) | changes
    (folder / file).write_text(json.dumps(said))
    contract = of_format(contract_body, folder, "text")
    if why is None:
        build(contract)
    else:
        with pytest.raises(ModelError, match=why):
            build(contract)


def test_a_check_refuses_a_chat_template_that_reads_the_clock(
    writing_body: Callable[[str], dict[str, Any]],
    tiny_llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path / "base")
    template = folder / "chat_template.jinja"
    template.write_text("{{ strftime_now('%d %b %Y') }}" + template.read_text())
    for form, code in (("chat", 2), ("prompt", 0)):
        run = write_run(tmp_path / form, writing_body(form) | {"model": {"id": str(folder)}})
        found = typed(monkeypatch, capsys, "contract")("check", run)
        assert found.code == code
        assert ("reads the clock" in found.err) == (form == "chat")


def test_too_small_a_max_length_is_the_contracts_fault_and_not_the_datas(
    writing_body: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    body = writing_body("chat")
    run = write_run(tmp_path, body | {"task": body["task"] | {"max_length": 4}})
    with pytest.raises(ContractError, match="nothing of what should be said is left"):
        prepare(read_run_file(run), SimulateOptions(out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_made_records_are_as_long_as_asked_and_differ(asked: Contract) -> None:
    task = task_of(asked)
    made = task.made([1, 4, 9, 30])
    assert made.schema.names == list(task.columns)
    texts = task.texts(made).to_pylist()
    assert len(set(texts)) == 4
    assert sorted(task.lengths(texts)) == list(task.lengths(texts))
    assert not any(task.faults({n: made[n].combine_chunks() for n in task.columns}).to_pylist())


def test_scores_name_the_metrics_and_judge_what_was_written(asked: Contract, form: str) -> None:
    model, rows = build(asked), records(form)
    task = headed_of(model).task
    found = task.judge(model(**task.encode(task.texts(rows).to_pylist())), rows)
    whole = {name: values.detach().numpy() for name, values in found.items()}
    silent = task.score(whole, rows)
    assert list(silent) == [metric.name for metric in task.metrics]
    nats = sum(whole["nats"]) / sum(whole["tokens"])
    assert silent["perplexity"] == pytest.approx(float(torch.tensor(nats).exp()))
    assert silent["rouge_l"] is None
    assert isinstance(task, Generation)
    whole["written"] = np.array([None, *task.answers(rows)[1:]], object)
    spoken = task.score(whole, rows)
    assert spoken["chrf"] == pytest.approx(1)
    assert spoken.get("exact", 1) == 1
    assert ("exact" in spoken) == (form != "text")


def test_a_diverged_model_has_no_perplexity(asked: Contract, form: str) -> None:
    for nats in (float("nan"), float("inf")):
        whole = {"nats": np.array([nats] * 3), "tokens": np.array([1, 1, 1])}
        scores = task_of(asked).score(whole, records(form))
        assert scores["perplexity"] is scores["nats"] is None


def test_it_writes_what_one_token_at_a_time_gives(asked: Contract, form: str) -> None:
    model, rows = build(asked).eval(), records(form)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if "lora_B" in name:
                values.normal_(std=0.5)
    task = headed_of(model).task
    said = task.write(rows)
    assert said is not None
    assert isinstance(task, Generation)
    with torch.no_grad():
        for given, text in zip(task.wording.given(rows), said, strict=True):
            ids = list(given)
            while len(ids) < len(given) + 6 and (ids[-1] != 2 or len(ids) == len(given)):
                states = model(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.int64))
                ids.append(int((states[0, -1] @ task._loaded.lm_head.weight.T).argmax()))
            expected = task.tokenizer.decode(ids[len(given) :], skip_special_tokens=True)
            assert text == expected.strip()
    if form == "prompt":
        assert task.write(rows.select(["prompt"])) == said


def test_an_article_keeps_its_beginning_and_the_public_words(
    contract_body: dict[str, Any], tiny_llama: Path
) -> None:
    contract = of_format(contract_body, tiny_llama, "summary", prompt="Short:")
    task: Any = headed_of(build(contract)).task
    rows = pa.table({"article": ["Ann won. " * 2000], "summary": ["Ann"]}).cast(
        pa.schema([("article", pa.large_string()), ("summary", pa.large_string())])
    )
    (ids,) = task.encode(task.texts(rows).to_pylist())["input_ids"].tolist()
    said = task.tokenizer.decode(ids)
    assert len(ids) == 48
    assert "Ann won. Ann won." in said
    assert said.removesuffix("<|im_end|>").endswith("\nShort:\nAnn")
    (given,) = task.wording.given(rows.select(["article"]))
    assert len(given) == 47  # room for one token
    assert task.tokenizer.decode(given).endswith("\nShort:\n")


def test_new_keys_are_no_part_of_contracts_without_them(
    contract_body: dict[str, Any], tiny_llama: Path
) -> None:
    plain = of_format(contract_body, tiny_llama, "prompt")
    same = {"beams": 1, "length_penalty": 1.0, "answer_at_least": 0, "unwanted": []}
    assert of_format(contract_body, tiny_llama, "prompt", **same).digest == plain.digest
    assert set(plain.body()["task"]) == {"kind", "format", "prompt", "max_length", "answer_length"}
    other = of_format(contract_body, tiny_llama, "prompt", beams=2, unwanted=["idiot"])
    assert other.digest != plain.digest


def sure_model(contract: Contract) -> Any:
    """One whose adapter is loud, so that what it writes hangs on what is asked."""
    model = build(contract).eval()
    torch.manual_seed(3)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if "lora_B" in name:
                values.normal_(std=0.5)
    return model


def likelihood(task: Any, given: list[int], said: list[int]) -> float:
    """The log-likelihood of what is said, by plain logits."""
    ids = torch.tensor([given + said])
    with torch.no_grad():
        logs = task._loaded(input_ids=ids).logits[0].log_softmax(-1)
    return sum(float(logs[len(given) + i - 1, one]) for i, one in enumerate(said))


def test_beams_of_two_tokens_find_the_likeliest_pair(
    contract_body: dict[str, Any], tiny_llama: Path
) -> None:
    rows = records("prompt").slice(0, 1)
    rules = {"answer_length": 2, "answer_at_least": 2, "beams": 16}
    task: Any = headed_of(sure_model(of_format(contract_body, tiny_llama, "prompt", **rules))).task
    (given,) = task.wording.given(rows)
    with torch.no_grad():
        first = task._loaded(input_ids=torch.tensor([given])).logits[0, -1].log_softmax(-1)
        vocabulary = len(first)
        each = torch.tensor([[*given, one] for one in range(vocabulary)])
        second = task._loaded(input_ids=each).logits[:, -1].log_softmax(-1)
    pairs = first[:, None] + second
    pairs[2], pairs[:, 2] = -torch.inf, -torch.inf  # no end before two tokens
    kept = first.clone()
    kept[2] = -torch.inf
    beams = kept.topk(16).indices
    best = max(
        ((int(a), int(b)) for a in beams for b in [pairs[a].argmax()]), key=lambda p: pairs[p]
    )
    expected = task.tokenizer.decode(best, skip_special_tokens=True).strip()
    assert task.write(rows) == task.write(rows) == [expected]


def test_a_text_is_at_least_as_long_as_asked(
    contract_body: dict[str, Any], tiny_llama: Path
) -> None:
    rules = {"answer_length": 5, "answer_at_least": 5}
    task: Any = headed_of(build(of_format(contract_body, tiny_llama, "prompt", **rules))).task
    with torch.no_grad():  # a model that would end at once
        task._loaded.get_output_embeddings().weight[2] *= 50
    seen = list[Any]()
    right = task._loaded.generate

    def generate(**asked: Any) -> Any:
        seen.append((asked["input_ids"].shape[1], right(**asked)))
        return seen[-1][1]

    task._loaded.generate = generate
    task.write(records("prompt"))
    for width, found in seen:
        assert found.shape[1] == width + 5
        assert not (found[:, width:] == 2).any()


def test_writing_is_judged_on_what_a_record_goes_on_with() -> None:
    rows = pa.table({"text": pa.array(["minister opens new talks today", "goal"])})
    task = Generation(GenerationTable(prompt="News headline:"))
    assert task.begun(rows)["text"].to_pylist() == ["minister opens", ""]
    assert task.asked(rows) == [
        ("News headline: minister opens", "new talks today"),
        ("News headline:", "goal"),
    ]
    pairs = pa.table({"prompt": ["Shares fell."], "answer": ["Market down"]})
    task = Generation(GenerationTable(format="prompt"))
    assert task.begun(pairs) == pairs
    assert task.asked(pairs) == [("Shares fell.", "Market down")]
    chats = pa.table({"messages": [json.dumps(CHAT)]})
    task = Generation(GenerationTable(format="chat"))
    assert task.asked(chats) == [("Where is my paper?", "On its way.")]


def test_the_format_says_the_columns_and_the_metrics() -> None:
    for form, columns in (("text", ("text",)), ("prompt", ("prompt", "answer"))):
        task = Generation(GenerationTable.model_validate({"format": form}))
        assert task.columns == columns
        assert task.inputs == columns[:1]
        assert Generation.columns_in([*columns, "reader"]) == columns
    assert task.primary.name == "perplexity"
    assert not task.primary.higher_is_better
    for there in ([], ["prompt"], ["text", "messages"]):
        with pytest.raises(InputError, match="columns of a file for generation"):
            Generation.columns_in(there)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"format": "dialogue"}, "format"),
        ({"format": "chat", "prompt": "News:"}, "goes with formats 'text' and 'summary'"),
        ({"prompt": "a\0b"}, "prompt"),
        ({"answer_length": 0}, "answer_length"),
        ({"answer_length": 4, "answer_at_least": 5}, "at most answer_length, 4"),
        ({"length_penalty": 2.0}, "between beams"),
        ({"beams": 17}, "beams"),
        ({"unwanted": ["?!"]}, "letter or a digit"),
        ({"unwanted": ["a"] * 201}, "unwanted"),
        ({"labels": ["a", "b"]}, "unknown key"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(
    contract_body: dict[str, Any], tiny_llama: Path, task: dict[str, Any], said: str
) -> None:
    with pytest.raises(ContractError, match=said):
        of_format(contract_body, tiny_llama, "text", **task)


def test_the_list_of_tasks_has_it() -> None:
    assert TASKS["generation"] is Generation


def test_the_example_run_is_one() -> None:
    contract = read_run_file(REPOSITORY / "examples" / "headlines.toml").contract
    assert contract.task == GenerationTable(prompt="News headline:")
    assert contract.groups == ("adapter",)
