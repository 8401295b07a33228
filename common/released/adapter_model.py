"""A released adapter at work: `presspool.load(FOLDER).predict(texts)`.

The base model is found by the hashes in the adapter's contract, and answers are computed as a run's
evaluation computes them.

Example: `presspool.load("runs/demo/run").predict(["Cup final"])[0].answer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
from safetensors import SafetensorError
from torch import nn

from presspool.common.base.errors import DataError, FolderError
from presspool.common.contract.contract import Contract
from presspool.common.models.activation_cache import ActivationCache
from presspool.common.models.adapted_outputs import AdaptedOutputs, Prediction
from presspool.common.models.models import HeadedModel, base, restored
from presspool.common.released.adapter_folder import AdapterFolder, read_adapter
from presspool.common.tasks.records import turns
from presspool.common.tasks.task import Judged, Task

Asked = str | Sequence[Mapping[str, str]]
"""A text, a prompt or a question; or the turns of a chat, {role, content} each."""


def put_on(fresh: HeadedModel, folder: AdapterFolder) -> nn.Module:
    """The adapter of a checked folder on a base of its contract's, which is used up.

    Raises:
        FolderError: the weights are of another method than the contract's.
    """
    try:
        return restored(fresh, folder.contract, folder.path)
    except (ValueError, SafetensorError) as error:
        raise FolderError(
            "weights that do not fit their contract", where=str(folder.path), got=error
        ) from None


class AdapterModel:
    """A base model with a released adapter in place.

    Args:
        folder: the adapter's, checked.

    Raises:
        ModelError: the base model is missing or is not the one that the adapter was trained on.
        FolderError: the weights are of another method than the contract's.
    """

    def __init__(self, folder: AdapterFolder) -> None:
        self._folder = folder
        model = put_on(base(folder.contract), folder)
        # Texts that come once need not be kept; equal ones of a batch are run once all the same.
        self._outputs = AdaptedOutputs(
            model,
            folder.contract,
            ActivationCache(capacity=0),
            unsure_up_to=folder.unsure_up_to,
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """The adapter of a folder, or of a complete run's; raises also as `read_adapter`."""
        return cls(read_adapter(path))

    @property
    def adapter(self) -> str:
        """`sha256:` of the weights, which statement and privacy card name."""
        return self._folder.adapter

    @property
    def statement(self) -> str:
        """The adapter's privacy in one line."""
        return self._folder.statement

    @property
    def overrides(self) -> tuple[str, ...]:
        """Who let it into use without its release gate; said wherever its privacy is."""
        return self._folder.overrides

    @property
    def contract(self) -> Contract:
        """Of the run that made it."""
        return self._folder.contract

    @property
    def task(self) -> Task[Any]:
        """What it does."""
        return self._outputs.task

    @property
    def network(self) -> nn.Module:
        """Base model and adapter, for those who look inside; not to be changed."""
        return self._outputs.model

    def predict(self, texts: Sequence[Asked]) -> list[Prediction]:
        """The answer to each text, in their order.

        Args:
            texts: what a record of the task holds; of a chat its turns, or a question alone.

        Raises:
            DataError: one that cannot be answered, by its number from 1.
        """
        if isinstance(texts, str):
            raise DataError("predict", expected="a list of texts", got="one text")
        said = [self._spelt(text) for text in texts]
        rows = {self.task.inputs[0]: pa.array(said, pa.large_string())}
        why: list[str | None] = self.task.unanswerable(rows).to_pylist()
        for number, fault in enumerate(why, start=1):
            if fault is not None:
                raise DataError(
                    fault, where=f"text {number}", expected="a text that can be answered"
                )
        return self.answers(pa.table(rows)) if said else []

    def answers(self, records: pa.Table) -> list[Prediction]:
        """The answer to each of some records, of which the task's `inputs` are there."""
        return self._outputs.predictions(records)

    def judged(self, records: pa.Table) -> Judged:
        """What the task's metrics need of each of some public records, with all its columns."""
        return self._outputs.judged(records)

    def _spelt(self, asked: Asked) -> str:
        """As a column holds it."""
        if not isinstance(asked, str):
            return turns.chat([dict(turn) for turn in asked])
        if self.task.inputs[0] == "messages":
            return turns.chat([{"role": "user", "content": asked}])
        return asked
