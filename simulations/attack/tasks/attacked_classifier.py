"""The task `classification` under attack: random words under a random label.

A malicious coordinator sends `bait`: everybody gets label 0, so readers of label 0 add nothing and
a canary of another label adds the same in every step.

Example: `attacked(contract).sent()`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from presspool.common.contract.contract import Contract
from presspool.common.models.adapters import State
from presspool.common.tasks.classification import labelled, labels_of
from presspool.common.tasks.scores.exposure import Scores
from presspool.simulations.attack.canaries import Canaries, vocabulary
from presspool.simulations.attack.gradients import Probe
from presspool.simulations.attack.tasks.attacked_task import AttackedTask
from presspool.simulations.attack.transcript import bait
from presspool.simulations.newsroom.newsroom import TOPICS, make_newsroom


class AttackedClassifier(AttackedTask):
    """A text and its label.

    Raises:
        InputError: a mode in which a record's gradient is not the one that the attacks look for.
    """

    def __init__(self, contract: Contract) -> None:
        labels_of(contract)
        super().__init__(contract)

    def words(self) -> list[str]:
        """Whole lower-case words."""
        return vocabulary(self.contract)

    def labels(self, drawn: NDArray[np.float64]) -> NDArray[np.int64]:
        """Never label 0, which a malicious coordinator's adapter gives to everybody."""
        others = len(labels_of(self.contract)) - 1
        return 1 + (drawn * others).astype(np.int64)

    def planted(self, canaries: Canaries) -> pa.Table:
        """Text and label."""
        return canaries.table(labels_of(self.contract))

    def records(self, canaries: Canaries) -> pa.Table:
        """Text and number of the label."""
        return labelled(canaries.texts, canaries.labels)

    def made(self, readers: int, seed: int) -> pa.Table:
        """Comments of a newsroom under the contract's labels."""
        (table,) = make_newsroom(outlets=1, readers=readers, seed=seed).tables.values()
        labels = labels_of(self.contract)
        of_topic = {topic: labels[i % len(labels)] for i, topic in enumerate(TOPICS)}
        written = pa.array([of_topic[topic] for topic in table["label"].to_pylist()], pa.string())
        return table.set_column(2, "label", written)

    def parsed(self, table: pa.Table) -> pa.Table:
        """Labels become numbers."""
        number = {name: i for i, name in enumerate(labels_of(self.contract))}
        labels = [number[label] for label in table["label"].to_pylist()]
        found = labelled(table["text"].to_pylist(), labels)
        return found.append_column("reader", table["reader"])

    def sent(self) -> State:
        """The bait."""
        return bait(self.contract)

    def silent(self, members: pa.Table) -> pa.Table:
        """The same records, all with label 0."""
        label = labels_of(self.contract)[0]
        return members.set_column(2, "label", pa.array([label] * len(members), pa.string()))

    def known(self, probe: Callable[[int], Probe], canaries: Canaries) -> Scores:
        """How much better the adapter knows a canary's label than chance.

        The loss under the canary's label, centred: minus its mean over all labels (which says how
        unusual the text is) and minus the label's mean over all canaries (how common the label).
        """
        final = probe(-1)
        table = np.stack(
            [
                final.losses(labelled(canaries.texts, np.full(len(canaries), y)))
                for y in range(len(labels_of(self.contract)))
            ],
            axis=1,
        ).astype(np.float64)
        table -= table.mean(1, keepdims=True)
        table -= table.mean(0, keepdims=True)
        return -table[np.arange(len(canaries)), canaries.labels]
