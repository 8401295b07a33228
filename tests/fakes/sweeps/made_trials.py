"""Trials of a sweep as they end, without a run behind them.

Example: `made_row(2, state="failed", metrics={})`.
"""

from __future__ import annotations

from typing import Any

from presspool.simulations.sweeps.trial_table import TrialRow


def made_row(number: int = 0, **changes: Any) -> TrialRow:
    """A complete trial, and a point of its own, but for `changes`."""
    usual: dict[str, Any] = {
        "number": number,
        "point": number,
        "seed": None,
        "contract": "sha256:" + "0" * 64,
        "values": {"privacy.epsilon": 3.0},
        "epsilon": 2.9,
        "delta": 1e-5,
        "unit": "reader",
        "bytes_up": 100,
        "bytes_down": 50,
        "seconds": 1.5,
        "rounds": 4,
        "metrics": {"hits": 0.5, "loss": 1.0},
        "state": "complete",
        "reason": "",
        "folder": f"trials/{number:04d}",
        "statement": "said",
    }
    return TrialRow(**usual | changes)
