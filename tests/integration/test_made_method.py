"""A kind of method that is new is one file and one line: `made-biases`, in a copy of the house.

It trains the biases of the base model and the head, without those of the keys, which softmax
cancels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.fakes.made_house import made_house
from tests.fakes.made_runs import write_run

from presspool.common.base.errors import ContractError
from presspool.common.models.adapters import digest
from presspool.common.runs.run_file import read_run_file

MADE = '''
"""Biases and the head train."""

from presspool.common.methods.method import Method


class MadeBiases(Method):
    """Every bias of the encoder but the keys', and the head."""

    def attach(self, model, contract):
        """As `Method.attach`."""
        for name, parameter in model.named_parameters():
            bias = name.endswith(".bias") and ".key." not in name
            parameter.requires_grad_(bias or name.startswith("head."))
        return model

    def branches(self, model, state):
        """None: biases are added to what a layer says, not to its weights."""
        return iter(())
'''
RESTORED = """
import sys
from pathlib import Path
from presspool.common.models.adapters import digest, read
from presspool.common.models.models import base, restored
from presspool.common.runs.run_folder import RunFolder

folder = RunFolder(Path(sys.argv[1]))
contract = folder.read_contract()
print(digest(read(restored(base(contract), contract, folder.adapter))))
"""


def test_a_made_method_is_one_file_and_one_line(
    contract_body: dict[str, Any], tmp_path: Path
) -> None:
    adapter = {"method": "made-biases"}
    clip = contract_body["privacy"] | {"clip": {"adapter": 0.5, "head": 1.0}}
    run = write_run(tmp_path, contract_body | {"adapter": adapter, "privacy": clip})
    house = made_house(tmp_path)
    with pytest.raises(ContractError, match="unknown method"):
        read_run_file(run)
    house.add("common/methods/made_biases.py", MADE)
    house.register("method", '"made-biases": "presspool.common.methods.made_biases:MadeBiases",')
    checked = house.presspool("contract", "check", run, "--json")
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["adapter_noise_share"] > 0

    # Every round begins with the engine's self-test, which saves and restores an adapter.
    out = tmp_path / "run"
    house.simulate((run, out), seed=7)
    state = load_file(out / "adapter" / "adapter_model.safetensors")
    assert {name.rpartition(".")[2] for name in state} == {"bias", "weight"}
    assert [name for name in state if name.endswith(".weight")] == ["head.weight"]
    assert len(state) > 10
    assert all(np.abs(array).max() > 0 for array in state.values())
    assert len(json.loads((out / "result.json").read_text())["rounds"]) == 3

    again = house.python("-c", RESTORED, out)
    assert again.returncode == 0, again.stderr
    assert again.stdout.split() == [digest(state)]

    policy = tmp_path / "home"
    policy.mkdir()
    (policy / "outlet.toml").write_text(f'name = "north-post"\ndata = "{tmp_path}"\n')
    (policy / "policy.toml").write_text('methods = ["ffa"]\n')
    answer = house.presspool("outlet", "policy", "check", run, "--home", policy)
    assert answer.returncode == 1
    assert "[adapter] method" in answer.stdout + answer.stderr
