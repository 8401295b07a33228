"""Made results of a classification: rounds, outlets and a whole run.

Example: `a_run(rounds=(a_round(metrics=measured(accuracy=0.5)),))`.
"""

from __future__ import annotations

from typing import Any

from presspool.common.runs.old_results import METRICS
from presspool.common.runs.results import OutletResult, RoundResult, RunResult


def measured(**values: float | None) -> dict[str, float | None]:
    """A round's metrics; what is not given was not measured."""
    return {metric.name: None for metric in METRICS} | values


def a_round(number: int = 0, **changes: Any) -> RoundResult:
    """A round, measured and admitted."""
    body: dict[str, Any] = {
        "round": number,
        "metrics": measured(accuracy=0.5, macro_f1=0.4, loss=1.2),
        "bytes_up": 10 * number,
        "bytes_down": 20 * number,
        "seconds": 1.5,
        "epsilon": 1.0 * number,
        "outlets": ("north", "south") if number else (),
        "refused": {},
    }
    return RoundResult(**(body | changes))


def an_outlet(name: str, **changes: Any) -> OutletResult:
    """An outlet that paid ε = 2."""
    body: dict[str, Any] = {
        "name": name,
        "population": 100,
        "weight": 0.5,
        "epsilon": 2.0,
        "delta": 1e-5,
        "unit": "reader",
        "steps": 20,
    }
    return OutletResult(**(body | changes))


def a_run(**changes: Any) -> RunResult:
    """A complete private run of two rounds."""
    body: dict[str, Any] = {
        "name": "autumn",
        "contract_digest": "sha256:" + "0a" * 32,
        "status": "complete",
        "deterministic": False,
        "measures": METRICS,
        "rounds": (a_round(0), a_round(1), a_round(2)),
        "outlets": (an_outlet("north"), an_outlet("south")),
        "adapter_sha256": "1b" * 32,
        "statement": "(2.00, 1e-5)-DP at reader level",
        "trust": "local",
        "accountant": "dp_accounting PLD 0.6",
        "seconds": 9.5,
        "versions": {"torch": "2.13.0"},
        "contract": {"schema": 1, "privacy": {"epsilon": 2, "targets": ["query", None, 0.5]}},
    }
    return RunResult(**(body | changes))
