"""Results of schema 1, in which each round had the three figures of a classification as fields.

Invariant: only the form changes; whether the values are right, the schema of today decides.

Example:
    >>> upgraded_round({"round": 0, "accuracy": 0.5, "macro_f1": 0.4, "loss": None})
    {'round': 0, 'metrics': {'accuracy': 0.5, 'macro_f1': 0.4, 'loss': None}}
"""

from dataclasses import asdict
from typing import Any

from presspool.common.tasks.metric import Metric

METRICS = (
    Metric(name="accuracy", title="Accuracy", higher_is_better=True, primary=True),
    Metric(name="macro_f1", title="Macro-F1", higher_is_better=True),
    Metric(name="loss", title="Cross-entropy", higher_is_better=False, unit="nats"),
)
_NAMES = tuple(metric.name for metric in METRICS)


def upgraded(body: dict[str, Any]) -> dict[str, Any]:
    """A decoded result of schema 1 as one of schema 2."""
    rounds = body.get("rounds")
    if isinstance(rounds, list):
        body = body | {"rounds": [upgraded_round(entry) for entry in rounds]}
    return body | {"schema": 2, "measures": [asdict(metric) for metric in METRICS]}


def upgraded_round(entry: Any) -> Any:
    """A decoded round of either schema as one of schema 2."""
    if not isinstance(entry, dict) or "metrics" in entry:
        return entry
    kept = {key: value for key, value in entry.items() if key not in _NAMES}
    return kept | {"metrics": {name: entry[name] for name in _NAMES if name in entry}}
