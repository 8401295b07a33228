"""What computing a run took: by public numbers as counted by hand, and as the counters stand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.fakes.made_evidence import made_contract
from torch import nn

from presspool.common.audit.cards.data_protection_answers import answers
from presspool.common.audit.evidence.evidence import RunReading
from presspool.common.audit.evidence.governance import parse
from presspool.common.base.errors import InputError
from presspool.common.runs.compute_file import COMPUTE_FILE, RunCompute, read_compute, write_compute
from presspool.common.runs.run_folder import RunFolder
from presspool.server.rounds import compute_meter
from presspool.server.rounds.compute_meter import ComputeMeter, training_flop


class Small(nn.Module):
    """Seven frozen numbers and five trained ones."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(7, 1, bias=False).requires_grad_(requires_grad=False)
        self.trained = nn.Linear(5, 1, bias=False)


def package(folder: Path, number: int, used: int, end: int = 999) -> None:
    zone = folder / f"intel-rapl:{number}"
    zone.mkdir(parents=True, exist_ok=True)
    (zone / "energy_uj").write_text(f"{used}\n")
    (zone / "max_energy_range_uj").write_text(f"{end}\n")


def test_operations_are_counted_from_public_numbers() -> None:
    contract = made_contract()
    sampled = sum(contract.plan.sampling_rate * n for n in contract.outlets.values())
    tokens = sampled * contract.plan.records_per_reader * contract.task.max_length
    by_hand = tokens * contract.plan.steps * (4 * 7 + 6 * 5)
    assert training_flop(contract, Small()) == pytest.approx(by_hand, rel=1e-12)


def test_energy_is_added_up_round_by_round_and_over_a_counters_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute_meter, "POWERCAP", tmp_path / "power")
    for number, used in ((0, 900), (1, 10)):
        package(tmp_path / "power", number, used)
    inside = tmp_path / "power" / "intel-rapl:0:0"  # counted with its package
    (tmp_path / "power" / "intel-rapl:0").joinpath("name").write_text("package-0")
    inside.mkdir()
    (inside / "energy_uj").write_text("5")
    folder, contract = RunFolder(tmp_path), made_contract()
    meter = ComputeMeter(folder, contract, Small(), elsewhere=True)
    package(tmp_path / "power", 0, 100)  # 900 … 999, 0 … 100
    package(tmp_path / "power", 1, 30)
    meter.keep()
    first = read_compute(tmp_path)
    assert first is not None
    assert first.energy_joules == pytest.approx((200 + 20) / 1e6)
    again = ComputeMeter(folder, contract, Small(), elsewhere=True)  # the run goes on
    package(tmp_path / "power", 1, 40)
    again.keep()
    whole = read_compute(tmp_path)
    assert whole is not None
    assert whole.energy_joules == pytest.approx((220 + 10) / 1e6)
    assert whole.processor_seconds >= first.processor_seconds


def test_a_machine_without_counters_has_no_energy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute_meter, "POWERCAP", tmp_path / "none")
    ComputeMeter(RunFolder(tmp_path), made_contract(), Small(), elsewhere=False).keep()
    kept = read_compute(tmp_path)
    assert kept is not None
    assert (kept.energy_joules, kept.outlets) == (None, "here")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / COMPUTE_FILE).write_text(json.dumps({"training_flop": 0}))
    with pytest.raises(InputError, match="not what a run writes"):
        read_compute(tmp_path)


def reading(folder: Path) -> RunReading:
    contract, nothing = made_contract(), object()
    return RunReading(
        path=folder,
        contract=contract,
        result=nothing,  # type: ignore[arg-type]  # of no use here
        deterministic=False,
        adapter=None,
    )


@pytest.mark.parametrize(
    ("base", "flop", "said"),
    [
        ("3e12", 1.01e12, "; more than a third of the base model's 3e+12, as its provider states"),
        ("3e12", 1e12, "; no more than a third of the base model's 3e+12"),
        ("not applicable, because unknown", 1e20, "; no more than a third of the base model's 1e+"),
        ("3e12 or so", 1e12, ""),
        ("", 1e12, ""),
    ],
)
def test_a_third_of_the_base_models_training_makes_a_provider(
    tmp_path: Path, base: str, flop: float, said: str
) -> None:
    """Also the planted mistake: a blank of the operator's is not filled by what was measured."""
    spent = RunCompute(
        training_flop=flop, processor_seconds=9, energy_joules=3.6e6, outlets="elsewhere"
    )
    write_compute(tmp_path, spent)
    fields = parse({"data_protection": {"base_model_flop": base}})
    told = answers(reading(tmp_path), fields, {"status": "not measured", "why": "no"})["ai_act"]
    assert said in told["training_compute"]
    assert bool(told["training_compute"]) == bool(said)
    assert told["coordinator_compute"].startswith("9 processor seconds of the coordinator; 1 kWh")
    assert told["outlets_compute"] == ""


def test_a_simulations_time_and_energy_stay_off_the_card(tmp_path: Path) -> None:
    """They are the outlets' as well, and how long an outlet takes is not protected."""
    write_compute(
        tmp_path,
        RunCompute(training_flop=1e9, processor_seconds=77, energy_joules=88, outlets="here"),
    )
    told = answers(reading(tmp_path), parse({}), {"status": "not measured", "why": "no"})["ai_act"]
    assert not {"77", "88"} & set(told["coordinator_compute"].split())
    assert "because the outlets computed on the same machine" in told["coordinator_compute"]
