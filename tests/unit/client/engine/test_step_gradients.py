"""One step's sample: what fails is left out whole, and nobody else changes."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

from presspool.client.engine.compute import Compute
from presspool.client.engine.step_gradients import StepGradients, add_rows
from presspool.common.contract.contract import parse_contract
from presspool.common.models.models import build


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


def test_a_text_at_which_the_base_models_tokenizer_fails_loses_itself_alone(
    contract_body: dict[str, Any], tiny_llama: Path, tmp_path: Path
) -> None:
    """A panic is no Exception; an id that the model does not know would end a GPU's process."""
    folder = shutil.copytree(tiny_llama, tmp_path / "base")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    slow = Split(Regex("(a+)+$"), "isolated")  # gives up where no end follows the last a
    tokenizer.pre_tokenizer = Sequence([slow, ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.add_tokens([AddedToken("zyzzyva", normalized=False)])
    tokenizer.save(str(folder / "tokenizer.json"))
    adapter = {"rank": 2, "alpha": 4, "targets": ["q_proj"]}
    made = {"task": {"kind": "generation", "max_length": 64}, "adapter": adapter}
    contract = parse_contract(contract_body | made | {"model": {"id": str(folder)}})
    step = StepGradients.__new__(StepGradients)
    step._compute = Compute(device="cpu")
    step._trunk = step._compute.trunk(build(contract), contract)
    texts = [f"\0{text}" for text in ("goal", "a" * 40 + "b", "a zyzzyva", "a goal")]
    assert [bool(step._length(text)) for text in texts] == [True, False, False, True]
