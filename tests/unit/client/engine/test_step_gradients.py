"""One step's sample: what fails is left out whole, and nobody else changes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from presspool.client.engine.step_gradients import StepGradients, add_rows


def test_rows_are_what_they_were_where_an_addition_fails() -> None:
    """A batch that is done again record by record must not find its first half there already."""
    rows = [torch.ones(3, 2), torch.ones(3, 4)]
    gradients = [torch.full((3, 2), 5.0), torch.full((3, 3), 5.0)]  # the second has another shape
    with pytest.raises((RuntimeError, IndexError)):
        add_rows(rows, gradients, np.array([0, 0, 2]))
    assert all(bool((total == 1).all()) for total in rows)


def test_a_readers_records_are_added_one_after_another() -> None:
    rows = [torch.zeros(3, 1)]
    add_rows(rows, [torch.tensor([[1e8], [1.0], [-1e8], [7.0]])], np.array([1, 1, 1, 2]))
    assert rows[0].flatten().tolist() == [0.0, 0.0, 7.0]  # (1e8 + 1) - 1e8 in float32


def test_a_record_whose_text_its_task_cannot_make_loses_itself_alone() -> None:
    def texts(table: pa.Table) -> pa.Array:
        if "broken" in table["text"].to_pylist():
            raise ValueError("no text")
        return table["text"].combine_chunks()

    step = StepGradients.__new__(StepGradients)
    step._trunk = SimpleNamespace(task=SimpleNamespace(texts=texts))  # type: ignore[assignment]
    found = step._texts(pa.table({"text": ["a", "broken", "b"]}))
    assert found == ["a", "", "b"]
    assert step._length("") == 0
