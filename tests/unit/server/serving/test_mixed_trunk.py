"""Rows of many adapters in one pass get what each adapter's own model gives them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.fakes.served.made_adapters import made_adapter

import presspool
from presspool.common.contract.contract import parse_contract
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf
from presspool.server.serving.shelf.reading import Reader, Reading, ReadJob
from presspool.server.serving.shelf.served_adapter import spelt

TEXTS = ["minister says treaty", "goal in final", "the bank", "", "a goal " * 12]


def contract_of(body: dict[str, Any], method: str, **changes: Any) -> Any:
    head = {"method": "head"} if method == "head" else {**body["adapter"], "method": method}
    return parse_contract({**body, "adapter": head, **changes})


def asked(shelf: AdapterShelf, names: list[str], texts: list[str]) -> dict[str, Reading]:
    """All adapters at once."""
    jobs = {
        name: ReadJob(
            rows=len(texts),
            adapter=shelf.get(name),
            records=pa.table({"text": pa.array(texts, pa.large_string())}),
        )
        for name in names
    }
    Reader(shelf.trunk).run(list(jobs.values()))
    return {name: job.future.result(0) for name, job in jobs.items()}


@pytest.mark.parametrize("methods", [("ffa", "fedit", "head", "ffa"), ("bitfit", "dora", "head")])
def test_a_mixed_batch_answers_as_each_adapter_alone(
    tmp_path: Path, contract_body: dict[str, Any], methods: tuple[str, ...]
) -> None:
    paths = {
        f"{method}-{number}": made_adapter(
            tmp_path / f"{number}", contract_of(contract_body, method), seed=number, scale=0.5
        )
        for number, method in enumerate(methods)
    }
    shelf = AdapterShelf.of(list(paths.items()))
    found = asked(shelf, list(paths), TEXTS)
    for name, path in paths.items():
        expected = presspool.load(path).predict(TEXTS)
        assert [one.answer for one in found[name].said] == [one.answer for one in expected]
        for got, wanted in zip(found[name].said, expected, strict=True):
            assert dict(got.probabilities) == pytest.approx(dict(wanted.probabilities), abs=1e-5)
    assert {name for name in paths if shelf.get(name).alone is not None} == {
        name for name in paths if name.startswith(("bitfit", "dora"))
    }


def test_adapters_of_two_lengths_do_not_cut_each_others_texts(
    tmp_path: Path, contract_body: dict[str, Any]
) -> None:
    """They share a tokenizer, whose length is its own state: one loads while another answers."""
    lengths = {"short": 8, "long": 16}
    paths = []
    for name, length in lengths.items():
        task = {**contract_body["task"], "max_length": length}
        contract = contract_of(contract_body, "head", task=task)
        paths.append((name, made_adapter(tmp_path / name, contract)))
    shelf = AdapterShelf.of(paths)
    texts = ["goal in final " * 400] * 16

    def widths(name: str) -> set[int]:
        task = shelf.get(name).task
        return {len(row.ids) for _ in range(60) for row in spelt(task, texts)}

    with ThreadPoolExecutor(2) as pool:
        found = pool.map(widths, lengths)
        assert list(found) == [{length} for length in lengths.values()]
