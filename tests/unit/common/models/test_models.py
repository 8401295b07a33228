"""The model that every outlet trains: public at the start, the same everywhere, records apart."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from tests.fakes.bases.masked_bases import write_masked_base

from presspool.common.base.errors import ContractError, ModelError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.contract.doors import task_of
from presspool.common.methods.lora import public_factor
from presspool.common.models.adapters import load, read
from presspool.common.models.models import base, build

TEXTS = ["goal match", "treaty", "the minister says a vote of the summit", "unheard words"]


def logits(model: PeftModel, contract: Contract, texts: list[str]) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model.eval()(**task_of(contract).encode(texts))
    return result


def test_the_start_is_public_and_hangs_on_the_seed_alone(contract: Contract) -> None:
    torch.manual_seed(1)
    first = build(contract)
    torch.manual_seed(2)
    second = build(contract)
    for (name, one), (_, two) in zip(
        first.named_parameters(), second.named_parameters(), strict=True
    ):
        assert torch.equal(one, two), name
    other = build(contract.replace(seed=contract.seed + 1))
    for name, parameter in other.named_parameters():
        same = torch.equal(parameter, first.get_parameter(name))
        assert same == ("lora_A" not in name), name


def test_b_and_the_head_start_at_zero(contract: Contract) -> None:
    model = build(contract)
    assert all((array == 0).all() for array in read(model).values())
    # So the adapter changes nothing yet: all classes are alike.
    assert not logits(model, contract, TEXTS).any()


@pytest.mark.parametrize(("method", "trains"), [("ffa", False), ("fedit", True)])
def test_only_what_the_contract_says_trains(method: str, trains: bool, contract: Contract) -> None:
    model = build(contract.replace(adapter={"method": method}))
    for name, parameter in model.named_parameters():
        expected = "lora_B" in name or "modules_to_save" in name or ("lora_A" in name and trains)
        assert parameter.requires_grad == expected, name
    layers = {name.split(".lora_")[0] for name, _ in model.named_parameters() if "lora_A" in name}
    assert len(layers) == 4  # query and value of two layers
    assert all(layer.endswith((".query", ".value")) for layer in layers)


def test_public_factor_is_shake_256_written_out() -> None:
    """Golden: computed from the standard, not from our code."""
    shape, seed, name = (2, 5), 7, "layer.lora_A.default.weight"
    stream = hashlib.shake_256(f"presspool/public-init/v1\0{seed}\0{name}".encode()).digest(40)
    words = struct.unpack("<10I", stream)
    expected = [(word / 2**31 - 1) / math.sqrt(5) for word in words]
    got = public_factor(seed, name, shape)
    assert got.shape == shape
    assert got.dtype == torch.float32
    np.testing.assert_array_equal(got.flatten().numpy(), np.array(expected, np.float32))
    # printf 'presspool/public-init/v1\0000\000' | openssl dgst -shake256 -xoflen 4
    word = int.from_bytes(bytes.fromhex("87f27a1f"), "little")
    assert float(public_factor(0, "", (1, 1))) == pytest.approx(word / 2**31 - 1)


def test_public_factor_is_uniform_within_the_usual_range() -> None:
    values = public_factor(3, "a", (64, 256)).numpy() * math.sqrt(256)
    assert np.abs(values).max() <= 1
    assert values.mean() == pytest.approx(0, abs=4 / math.sqrt(3 * values.size))
    assert values.var() == pytest.approx(1 / 3, rel=0.05)
    assert not np.array_equal(values, public_factor(3, "b", (64, 256)).numpy() * 16)


def test_records_never_mix(contract: Contract) -> None:
    model = build(contract)
    random = np.random.default_rng(0)
    load(model, {n: random.normal(size=a.shape).astype(np.float32) for n, a in read(model).items()})
    together = logits(model, contract, TEXTS)
    for i, text in enumerate(TEXTS):
        torch.testing.assert_close(
            together[i : i + 1], logits(model, contract, [text]), atol=1e-6, rtol=1e-5
        )


def test_a_text_of_nothing_known_is_a_finite_record(contract: Contract) -> None:
    model = build(contract)
    assert logits(model, contract, ["\u200b", "\x00", "🙂" * 200, " "]).isfinite().all()


def test_encoding_cuts_at_the_contracts_length(contract: Contract) -> None:
    batch = task_of(contract).encode(["goal " * 100, "goal"])
    assert batch["input_ids"].shape == (2, contract.task.max_length)
    assert batch["attention_mask"].sum(1).tolist() == [12, 3]
    assert task_of(contract).lengths(["goal " * 100, "goal"]).tolist() == [102, 3]


@pytest.mark.parametrize("targets", [["nope"], ["query", "nope"], ["head"], ["self.nope.query"]])
def test_targets_that_are_not_there(targets: list[str], contract: Contract) -> None:
    with pytest.raises(ContractError, match="does not have") as caught:
        build(contract.replace(adapter={"targets": targets}))
    assert "dense, key, query, value" in str(caught.value)


def test_targets_may_be_longer_names(contract: Contract) -> None:
    model = build(contract.replace(adapter={"targets": ["attention.self.key"]}))
    assert {name.rpartition(".lora_B")[0][-3:] for name in read(model) if "lora_B" in name} == {
        "key"
    }


def test_a_run_without_targets_is_refused_by_the_contract(contract: Contract) -> None:
    with pytest.raises(ContractError, match="targets"):
        contract.replace(adapter={"targets": []})


def test_a_pooler_that_nobody_reads_is_no_target(contract: Contract) -> None:
    """It would train on noise alone: pooled output is not part of the classifier."""
    model = build(contract.replace(adapter={"targets": ["dense"]}))
    assert len([name for name in read(model) if "lora_B" in name]) == 6
    assert not any("pooler" in name for name in read(model))


def test_records_longer_than_the_base_can_read(contract: Contract) -> None:
    assert base(contract.replace(task={"max_length": 64})) is not None
    with pytest.raises(ContractError, match="at most 64 tokens"):
        build(contract.replace(task={"max_length": 65}))


def test_a_base_that_is_not_the_pinned_one(contract: Contract, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not the pinned"):
        build(contract.replace(model={"weights": f"sha256:{'0' * 64}"}))
    with pytest.raises(ModelError, match="no weights"):
        build(contract.replace(model={"id": str(tmp_path)}))


def test_positions_that_a_model_has_for_padding_are_no_places_for_tokens(
    contract_body: dict[str, Any], tmp_path: Path
) -> None:
    """RoBERTa counts from behind its padding's: of 514 positions a text has 512."""
    write_masked_base(tmp_path / "base", "roberta", ["goal"])
    body = contract_body | {"model": {"id": str(tmp_path / "base")}}
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    most = config["max_position_embeddings"] - config["pad_token_id"] - 1
    build(parse_contract(body | {"task": body["task"] | {"max_length": most}}))
    with pytest.raises(ContractError, match=f"at most {most} tokens"):
        build(parse_contract(body | {"task": body["task"] | {"max_length": most + 1}}))
