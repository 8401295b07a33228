"""A tokenizer that this process has lost is found where the outlet's policy says it lies.

A coordinator may offer contracts of other names for the same base model until its caches hold none
of the run's own. The run's next round must count the records that it would have counted.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.instruments.detectors import Bench, ask, task_of, write_data, write_outlet
from tests.fakes.made_outlets import RealOutlet, make_real, pin_of, policy_body

from presspool.client import client_app
from presspool.common.contract.contract import parse_contract
from presspool.common.models import models
from presspool.common.wire.update import pack_task, unpack_update


@pytest.fixture(scope="module")
def bench(contract_body: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A contract whose base model is called what is no place anywhere."""
    made = Bench.of(parse_contract(contract_body), tmp_path_factory.mktemp("bench"))
    named = made.contract.replace(model={"id": "coordinator/some-name"})
    return dataclasses.replace(made, contract=named)


def _outlet(bench: Bench, folder: Path, pin: dict[str, Any]) -> RealOutlet:
    plain = write_outlet(bench, write_data(bench, bench.readers))
    folder.mkdir()
    settings = folder / "outlet.toml"
    settings.write_text(plain.read_text(encoding="utf-8"), encoding="utf-8")
    real = make_real(settings, bench.contract, trial=True)
    real.allow(policy_body(bench.contract, base_models=[pin]))
    return real


def test_a_tokenizer_that_caches_lost_is_found_where_the_policy_says(
    bench: Bench,
    contract_body: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pin = pin_of(Bench.of(parse_contract(contract_body), tmp_path / "known").contract)
    deltas = []
    for name in ("undisturbed", "disturbed"):
        real = _outlet(bench, tmp_path / name, pin)
        client_app._compute.activations.forget(client_app._compute.activations.texts)
        if name == "disturbed":  # the model stays, as the newest that was proved
            models.tokenizer.cache_clear()
            models.is_paired.cache_clear()
        with caplog.at_level(logging.WARNING):
            reply = ask(real.settings, pack_task(task_of(bench)), loopback=True)
        assert reply.has_content()
        deltas.append({n: a.tobytes() for n, a in unpack_update(reply.content).delta.items()})
    assert "left out" not in caplog.text
    assert deltas[0] == deltas[1]
