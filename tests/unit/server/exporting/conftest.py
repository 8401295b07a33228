"""Three small adapters that trained, made once: labels with LoRA, a head alone, a writer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.served.made_adapters import made_adapter

from presspool.common.base.console import progress
from presspool.common.contract.contract import parse_contract
from presspool.common.models.base_model import resolve
from presspool.common.released.adapter_folder import AdapterFolder, read_adapter
from presspool.common.released.exports.export_formats import FORMATS
from presspool.server.exporting.exporting import Export, ExportPlan, export

Make = Callable[..., AdapterFolder]
Exporting = Callable[..., Export]


@pytest.fixture
def make(
    tmp_path: Path,
    contract_body: dict[str, Any],
    writing_body: Callable[[str], dict[str, Any]],
) -> Make:
    """A function from a method, or a writer's format, to an adapter of it."""

    def made(what: str, scale: float = 0.5, **task: Any) -> AdapterFolder:
        body = {**contract_body, "task": {**contract_body["task"], **task}}
        if what in ("text", "chat", "prompt"):
            body = writing_body(what)
            body["model"] |= resolve(body["model"]["id"], weights=None, tokenizer=None).pins
        else:
            body["adapter"] = {**body["adapter"], "method": what}
        return read_adapter(made_adapter(tmp_path / what, parse_contract(body), scale=scale))

    return made


@pytest.fixture
def exported(tmp_path: Path) -> Exporting:
    """A function that exports an adapter below the test's folder."""

    def run(adapter: AdapterFolder, form: str, **asked: Any) -> Export:
        to = tmp_path / "exports" / f"{adapter.path.name}-{form}"
        with progress("texts", total=200) as advance:
            return export(ExportPlan(adapter=adapter, form=FORMATS[form], to=to, **asked), advance)

    return run
