"""How many entities of a file are found whole: precision, recall and F1, by type and over all.

The counts are seqeval's (the extra `tagging`), which counts as the CoNLL script does: an entity is
right where its type, its first word and its last one are.

Example:
    >>> found = scores([["B-PER", "I-PER", "O"]], [["B-PER", "I-PER", "B-LOC"]], ("PER", "LOC"))
    >>> found["f1"], found["precision"], found["f1_PER"], found["f1_LOC"]
    (0.6666666666666666, 0.5, 1.0, None)
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

from presspool.common.base.extras import from_extra

Tags = Sequence[Sequence[str]]
OVERALL = {"f1": "f1-score", "precision": "precision", "recall": "recall"}


def of_type(label: str) -> str:
    """The name of a type's own F1, an identifier."""
    return "f1_" + re.sub(r"\W", "_", label)


def scores(truth: Tags, said: Tags, labels: Sequence[str]) -> dict[str, float | None]:
    """Over all entities, and the F1 of each type; None of a type that the file does not have.

    Args:
        truth: each record's BIO tags.
        said: as many for each record.
        labels: the types.

    Raises:
        InputError: the extra `tagging` is not installed.
    """
    with from_extra("tagging", "no seqeval here"):
        from seqeval.metrics import classification_report
    with warnings.catch_warnings():  # of a file without any entity
        warnings.simplefilter("ignore", RuntimeWarning)
        report = classification_report(list(truth), list(said), output_dict=True, zero_division=0)
    found: dict[str, float | None] = {
        name: float(report["micro avg"][key]) for name, key in OVERALL.items()
    }
    for label in labels:
        there = label in report and int(report[label]["support"])
        found[of_type(label)] = float(report[label]["f1-score"]) if there else None
    return found
