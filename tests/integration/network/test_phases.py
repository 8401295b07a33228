"""A trust model whose rounds have two phases is one file and one line, and changes no byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.children.paired_children import SEED
from tests.fakes.made_house import House, made_house
from tests.fakes.made_runs import write_run

from presspool.common.runs.result_file import read_result

# A hello, which costs nothing, and then exactly what "local" does.
PAIRED = '''"""Trust model "paired"."""

from dataclasses import replace

from presspool.common.trust.local import Local
from presspool.common.trust.trust_model import Phases


class Paired(Local):
    phases = Phases(("hello", "train"))
    words = replace(Local.words, claim="Trust model paired: as local, after a hello.")

    def brief(self, phase, answers):
        return ",".join(sorted(answers[0])).encode() if phase == 2 else b""
'''
WAIT = 280.0


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    house = made_house(tmp_path_factory.mktemp("paired"))
    house.add("common/trust/paired.py", PAIRED)
    house.register("trust model", '"paired": "presspool.common.trust.paired:Paired",')
    return house


@pytest.fixture(scope="module")
def run_toml(contract_body: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    federation = contract_body["federation"] | {"trust": "paired"}
    return write_run(tmp_path_factory.mktemp("run"), {**contract_body, "federation": federation})


@pytest.fixture(scope="module")
def paired(house: House, run_toml: Path) -> Path:
    """The run's folder; that of the same run under "local" is `local` beside it."""
    path = run_toml.parent / "local.toml"
    path.write_text(run_toml.read_text().replace('"paired"', '"local"'))
    out = run_toml.parent / "paired"
    house.simulate((path, out.with_name("local")), (run_toml, out), seed=SEED, timeout=WAIT)
    return out


@pytest.fixture(scope="module")
def local(paired: Path) -> bytes:
    """The adapter of the same run under "local"."""
    return adapter(paired.with_name("local"))


def adapter(folder: Path) -> bytes:
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def test_a_simulation_makes_the_same_adapter(paired: Path, local: bytes) -> None:
    assert adapter(paired) == local
    result = read_result(paired)
    assert result.trust == "paired"
    assert all(done.outlets for done in result.rounds[1:])


def test_over_the_wire_an_outlet_killed_between_the_phases_pays_once(
    house: House, run_toml: Path, local: bytes, tmp_path: Path
) -> None:
    done = house.python(
        "-m", "tests.fakes.children.paired_children", "pool", tmp_path, run_toml, timeout=WAIT
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert adapter(tmp_path / "run") == local
    names = ["north-post", "south-echo"]
    assert found["asked"] == [[r, p, name] for r in (1, 2) for p in (1, 2) for name in names]
    charged = ["reserve", *["adapter-received", "release-intent"] * 2, "settle"]
    trial = ["opened", "non-private"]  # its noise can be drawn again, and its ledger says so
    assert found["kinds"] == {name: [*trial, *charged] for name in names}


def test_an_outlet_whose_policy_does_not_name_it_takes_no_part(
    house: House, run_toml: Path
) -> None:
    program = (
        "import sys; from pathlib import Path; from presspool.client.consent import decision; "
        "from presspool.client.consent.policy import Policy; "
        "from presspool.common.runs.run_file import read_run_file; "
        "contract = read_run_file(Path(sys.argv[1])).contract; "
        "print([f.code for f in decision.findings(contract, Policy()) if not f.holds])"
    )
    said = house.python("-c", program, run_toml)
    assert "policy-trust" in said.stdout, said.stderr
