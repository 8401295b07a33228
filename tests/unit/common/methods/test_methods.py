"""The door for methods: what each trains, and that nobody outside knows one by name."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import REPOSITORY

from presspool.client.engine.selftest import prove
from presspool.common.base.errors import ContractError, EngineError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.contract.doors import METHODS
from presspool.common.contract.refused_methods import REFUSED_METHODS
from presspool.common.models.adapters import group_of, read, trainable
from presspool.common.models.models import build

BOTH = {"lora_A", "lora_B"}
TRAINED = {
    "ffa": {"lora_B"},
    "fedit": BOTH,
    "head": set[str](),
    "rslora": BOTH,
    "rolora": BOTH,
    "dora": {*BOTH, "lora_magnitude_vector"},
    "fed-sb": {"square"},
    "bottleneck": {"down", "up"},
    "ia3": {"rescale"},
    "bitfit": {"bias", "LayerNorm"},
    "layernorm": {"bias", "LayerNorm"},
}
PARTS = set[str]().union(*TRAINED.values())
DRAWN = {"lora_A", "down", "up"}


@pytest.mark.parametrize("name", METHODS.names)
def test_what_a_method_says_is_what_its_model_does(name: str, contract: Contract) -> None:
    contract = contract.replace(adapter={"method": name})
    model, method = build(contract), contract.method
    names = set(trainable(model))
    assert {group_of(name) for name in names} == set(method.groups)
    parts = {part for name in names if ".head." not in f".{name}" for part in name.split(".")}
    assert parts & PARTS == TRAINED[name]
    constants = dict(method.constants(model, contract))
    assert not names & set(constants)
    assert all(torch.equal(model.get_parameter(n), value) for n, value in constants.items())
    frozen = {n for n, _ in model.named_parameters() if DRAWN & {*n.split(".")}} - names
    assert set(constants) == frozen
    targeted = name not in ("head", "bitfit", "layernorm")
    assert set(method.targets(contract)) == ({"query", "value"} if targeted else set())


def test_vectors_of_the_base_are_those_of_its_last_layers(contract: Contract) -> None:
    """No bias of a key, nothing of the embeddings, no layer below `[adapter] layers`."""
    for method, own in (("bitfit", r"\.bias$"), ("layernorm", r"\.LayerNorm\.(weight|bias)$")):
        chosen = contract.replace(adapter={"method": method, "layers": 1})
        names = [name for name in trainable(build(chosen)) if not name.startswith("head.")]
        assert len(names) > 3
        assert all(re.search(own, name) and ".layer.1." in name for name in names)
        assert not [name for name in names if ".key." in name]


def test_an_unknown_method_is_told_the_nearest(contract_body: dict[str, Any]) -> None:
    adapter = contract_body["adapter"] | {"method": "fedti"}
    with pytest.raises(ContractError) as caught:
        parse_contract(contract_body | {"adapter": adapter}, where="my.toml")
    for word in ("my.toml [adapter] method", "ffa, fedit, head", "did you mean 'fedit'?"):
        assert word in str(caught.value)


@pytest.mark.parametrize("name", REFUSED_METHODS)
def test_a_method_that_is_not_offered_says_why(name: str, contract_body: dict[str, Any]) -> None:
    for spelt in (name, name.upper().replace("-", "_")):
        adapter = contract_body["adapter"] | {"method": spelt}
        with pytest.raises(ContractError) as caught:
            parse_contract(contract_body | {"adapter": adapter}, where="my.toml")
        said = " ".join(str(caught.value).split())
        assert "a method that is not offered" in said
        assert REFUSED_METHODS[name] in said


def test_what_is_offered_is_not_refused() -> None:
    assert not {*METHODS.names} & {*REFUSED_METHODS}


def test_a_decay_pulls_nothing_to_zero_that_starts_elsewhere(contract: Contract) -> None:
    decay = {"name": "adamw", "weight_decay": 0.1}
    for name in METHODS.names:
        changed = {"adapter": {"method": name}, "optimizer": decay}
        if name in ("dora", "ia3", "bitfit", "layernorm"):
            with pytest.raises(ContractError, match=r"optimizer.weight_decay.*pull them to zero"):
                contract.replace(**changed)
        else:
            contract.replace(**changed)


def test_the_scale_that_policies_cap_is_that_of_the_model(contract: Contract) -> None:
    contract = contract.replace(adapter={"rank": 4, "alpha": 8})
    for name in ("ffa", "rslora", "dora", "fed-sb"):
        chosen = contract.replace(adapter={"method": name})
        found = {b.scale for b in chosen.method.branches(build(chosen), read(build(chosen)))}
        scale = chosen.method.scale(chosen)
        assert scale == (4.0 if name == "rslora" else 2.0)
        assert found == ({1.0} if name == "dora" else {scale})


@pytest.mark.parametrize("key", ["privacy", "optimizer", "server"])
def test_where_one_group_trains_there_is_one_number(key: str, contract: Contract) -> None:
    number = {"adapter": 1.0, "head": 1.0}
    changes = {key: {"clip" if key == "privacy" else "learning_rate": number}}
    contract.replace(**changes)
    with pytest.raises(ContractError, match="only the head trains, give one number"):
        contract.replace(**changes, adapter={"method": "head"})


def test_what_has_no_exact_gradient_is_refused_by_name(contract: Contract) -> None:
    """Whatever a method says: the engine looks at what trains."""
    model = build(contract)
    name = next(name for name, _ in model.named_parameters() if "word_embeddings" in name)
    model.get_parameter(name).requires_grad_(True)
    with pytest.raises(EngineError, match="word_embeddings"):
        prove(model, contract)


def test_a_contract_is_read_without_torch() -> None:
    code = (
        "import json, sys; from presspool.common.contract.contract import EXAMPLE, parse_contract;"
        "parse_contract(json.loads(EXAMPLE)).method.groups;"
        "assert not {'torch', 'peft'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_nobody_else_tests_a_method_by_name() -> None:
    files = [
        file
        for package in ("client", "common", "server", "simulations")
        for file in (REPOSITORY / package).rglob("*.py")
        if "methods" not in file.parts
    ]
    assert len(files) > 200
    assert not [place for file in files for place in _tests_of_a_method(file)]


def _tests_of_a_method(file: Path) -> list[str]:
    """Comparisons and patterns with a method's name, or of a contract's method."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Compare | ast.match_case):
            continue
        words = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
        asked = isinstance(node, ast.Compare) and any(
            isinstance(side, ast.Attribute) and ast.unparse(side).endswith("adapter.method")
            for side in (node.left, *node.comparators)
        )
        in_policy = "policy.methods" in ast.unparse(node)  # the policy's list, whatever is in it
        if (asked and not in_policy) or {"ffa", "fedit"} & set(map(str, words)):
            found.append(f"{file}:{getattr(node, 'lineno', '')}: {ast.unparse(node)[:80]}")
    return found
