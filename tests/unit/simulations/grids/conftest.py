"""Outlets for tests of grids."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.grids.grid_parts import OUTLETS, write_settings
from tests.fakes.made_runs import write_run

from presspool.common.contract.contract import Contract, parse_contract


@pytest.fixture(scope="module")
def contract_here(contract_body: dict[str, Any]) -> Contract:
    return parse_contract(contract_body)


@pytest.fixture(scope="module")
def outlets(
    tmp_path_factory: pytest.TempPathFactory, contract_body: dict[str, Any]
) -> dict[str, Path]:
    """Settings of the contract's outlets, and of one that the contract does not know."""
    folder = tmp_path_factory.mktemp("outlets")
    write_run(folder, contract_body)
    shutil.copy(folder / "data" / "north-post.parquet", folder / "data" / "stranger.parquet")
    return {name: write_settings(folder, name) for name in (*OUTLETS, "stranger")}
