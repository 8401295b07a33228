"""The attacks on a language model: a tiny Llama that learns sentences of random words."""

from __future__ import annotations

import dataclasses
import html
import itertools
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.fakes.bases.language_bases import write_tiny_llama

from presspool.client.engine.randomness import SecureRandom
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.contract.doors import TASKS
from presspool.common.models import adapters
from presspool.common.models.base_model import resolve
from presspool.common.models.models import build
from presspool.simulations.attack import attack_cli, attack_page, attack_report
from presspool.simulations.attack.attack import Options, attack
from presspool.simulations.attack.attacked_outlet import made_readers, own_readers, write_outlet
from presspool.simulations.attack.canaries import WORDS, plant
from presspool.simulations.attack.findings import Attack
from presspool.simulations.attack.tasks.attacked_task import ATTACKED, AttackedTask, attacked

FORMATS = ("text", "prompt", "chat")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hundred words of one token each: sentences that hardly resemble each other."""
    words = map("".join, itertools.product("abcdefghij", "abcdefghij", "abc"))
    folder = tmp_path_factory.mktemp("wide-llama")
    return write_tiny_llama(folder, [" ".join(words)] * 3, hidden=128, vocabulary=1500)


def contract_of(base: Path, **task: Any) -> Contract:
    """ε = 3, in three rounds of two steps."""
    pins = resolve(str(base), weights=None, tokenizer=None).pins
    return parse_contract(
        {
            "name": "attacked",
            "model": {"id": str(base), **pins},
            "task": {"kind": "generation", "max_length": 12, **task},
            "adapter": {"rank": 4, "alpha": 8, "targets": ["o_proj", "down_proj"]},
            "federation": {"rounds": 3, "local_steps": 2},
            "outlets": {"north-post": 60},
            "privacy": {"epsilon": 3.0, "clip": 1.0, "sampling_rate": 0.06},
            "optimizer": {"learning_rate": 0.5},
        }
    ).with_noise()


@pytest.fixture(scope="module")
def contract(base: Path) -> Contract:
    return contract_of(base)


@pytest.fixture(scope="module")
def found(contract: Contract, tmp_path_factory: pytest.TempPathFactory) -> Attack:
    out = tmp_path_factory.mktemp("attack") / "found"
    return attack(contract, "north-post", Options(out=out, canaries=400, deterministic=1))


def test_the_control_fires_and_under_the_plan_there_is_nothing(found: Attack) -> None:
    assert found.updates.fired
    assert found.updates.control.tpr >= 0.2
    assert found.epsilon is not None
    assert found.epsilon < found.claimed == pytest.approx(3.0, abs=0.05)
    assert found.updates.separation.tpr <= 0.1


@pytest.mark.soak
def test_a_tenth_of_the_noise_under_the_same_claim_is_a_defect(
    contract: Contract, tmp_path: Path
) -> None:
    options = Options(out=tmp_path / "weak", canaries=1000, deterministic=1)
    weak = attack(contract, "north-post", options, _noise_scale=0.1)
    assert weak.epsilon is not None
    assert weak.epsilon > weak.claimed
    assert weak.defect


def test_what_was_not_tried_is_said_and_is_no_zero(
    found: Attack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert found.tokens is None
    assert found.tokens_left_out is not None
    attack_report.keep(found, tmp_path, tmp_path)
    body = json.loads((tmp_path / "attack.json").read_text())
    assert not {"tokens", "tokens_control"} & set(body)
    assert body["tokens_left_out"] == found.tokens_left_out
    assert set(body["exposure"]) == {"mean", "largest", "chance", "highest"}
    page = (tmp_path / "attack.html").read_text()
    attack_cli._show(found)
    for said in (html.unescape(page), capsys.readouterr().out):
        assert found.tokens_left_out in said
        assert "suspected" not in said
        assert found.exposure is not None
        assert f"{found.exposure.mean:.2f}" in said


def test_a_page_of_labels_says_nothing_of_exposure(found: Attack) -> None:
    plain = dataclasses.replace(found, exposure=None, exposure_control=None, tokens_left_out=None)
    assert "xposure" not in attack_page.render(plain)
    assert "exposure" not in plain.to_json()


@pytest.mark.parametrize("format_", FORMATS)
def test_canaries_and_made_readers_write_in_the_contract_s_format(base: Path, format_: str) -> None:
    contract = contract_of(base, format=format_, max_length=64)
    task, random = attacked(contract), SecureRandom.deterministic(3)
    canaries, audience = plant(contract, 40, random), made_readers(contract, "north-post", random)
    planted = task.planted(canaries)
    assert planted.column_names == ["reader", *task.columns] == audience.members.column_names
    assert len(planted) == canaries.included.sum()
    assert len(task.records(canaries)) == 40
    for table in (planted, audience.members, audience.others):
        assert len(task.parsed(table)) == len(table)
    assert all(text in str(planted.to_pylist()) for text in _inside(canaries.texts, canaries))
    assert all(len(set(text.split())) > WORDS - 3 for text in canaries.texts)


def _inside(texts: tuple[str, ...], canaries: Any) -> list[str]:
    return [text for text, there in zip(texts, canaries.included, strict=True) if there]


def test_a_malicious_coordinator_sends_the_public_start_to_canaries_alone(
    contract: Contract,
) -> None:
    task = attacked(contract)
    assert adapters.digest(task.sent()) == adapters.digest(adapters.read(build(contract)))
    audience = made_readers(contract, "north-post", SecureRandom.deterministic(3))
    assert len(task.silent(audience.members)) == 0
    assert task.silent(audience.members).schema == audience.members.schema


def test_records_that_no_run_would_use_are_not_compared(base: Path, tmp_path: Path) -> None:
    contract = contract_of(base, format="prompt")
    rows = {"prompt": ["Why?"] * 20, "answer": ["So."] * 19 + [" "]}
    table = pa.table({"reader": [f"secret-{i}" for i in range(20)], **rows})
    own, task = write_outlet(tmp_path, "north-post", table), attacked(contract)
    audience = own_readers(own, SecureRandom.deterministic(1), task.columns)
    left = [task.parsed(part) for part in (audience.members, audience.others)]
    assert sum(map(len, left)) == 19
    assert "secret-19" not in {name for part in left for name in part["reader"].to_pylist()}


def test_attacks_are_written_for_tasks_that_there_are() -> None:
    assert set(ATTACKED.names) <= set(TASKS.names)
    assert all(issubclass(ATTACKED[name], AttackedTask) for name in ATTACKED.names)
