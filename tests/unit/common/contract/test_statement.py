"""The ε statement: one sentence that never claims more than the run can keep."""

from __future__ import annotations

from importlib import metadata

import pytest

from presspool.common.contract.contract import Contract
from presspool.common.contract.statement import statement

ADAPTER = "sha256:" + "a" * 64


def said(contract: Contract, *, reproducible: bool = False) -> str:
    return statement(contract, adapter=ADAPTER, reproducible=reproducible)


def test_a_private_run_states_everything_that_epsilon_depends_on(contract: Contract) -> None:
    text = said(contract)
    assert text.startswith(f"Adapter {ADAPTER} is (ε = ")
    assert ", δ = 1e-5)-DP at reader level" in text
    for part in (
        "add/remove",
        "all records of one reader at any one outlet",
        "every update of that outlet and every adapter of the run",
        "1 run composed",
        "excludes the choice of hyper-parameters",
        "shared accounts",
        "rotated reader ids",
        f"dp_accounting PLD (privacy loss distribution, add/remove one) "
        f"{metadata.version('dp-accounting')}",
    ):
        assert part in text
    assert "NOT" not in text
    assert "\n" not in text


@pytest.mark.parametrize("noise", [0.5, 0.8, 1.1, 1.7, 3.0])
def test_epsilon_is_shown_to_three_digits_and_never_below_what_was_spent(
    contract: Contract, noise: float
) -> None:
    run = contract.replace(privacy={"noise_multiplier": noise})
    shown = float(said(run).split("ε = ")[1].split(",")[0])
    assert run.plan.epsilon() <= shown < run.plan.epsilon() + 1e-3


def test_a_run_without_noise_is_not_protected(contract: Contract) -> None:
    unprotected = contract.replace(privacy={"noise_multiplier": 0.0, "epsilon": "inf"})
    for reproducible in (False, True):
        text = said(unprotected, reproducible=reproducible)
        assert "is NOT protected" in text
        assert "-DP" not in text
        assert ADAPTER in text


def test_reproducible_noise_is_not_private_and_says_so_first(contract: Contract) -> None:
    text = said(contract, reproducible=True)
    assert text.startswith(f"Adapter {ADAPTER} is NOT private: its noise was reproducible")
    assert "would be (ε = " in text
    assert "is (ε = " not in text


def test_record_level_says_that_it_is_weaker(contract: Contract) -> None:
    text = said(contract.replace(privacy={"unit": "record"}))
    assert "record level" in text
    assert "all but one of a reader's records (weaker)" in text
    assert "reader level" not in text
    assert "covering one record at any one outlet" in text


def test_the_accountant_names_its_version(contract: Contract) -> None:
    assert contract.trust.accountant().endswith(metadata.version("dp-accounting"))
