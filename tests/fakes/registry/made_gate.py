"""Runs that the release gate lets pass: a real adapter on a small base, card, ledgers and attack.

Example: `desk = trained(tmp_path / "a", contract)`, then `judged(made, desk, policy).passed`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from tests.conftest import made_rows
from tests.fakes.made_evidence import Desk, make_desk
from tests.fakes.registry.made_registry import MOVE, MadeRegistry, write_card
from tests.fakes.served.made_adapters import made_adapter
from tests.fakes.served.trained_adapters import trained_adapter

from presspool.common.audit.cards.card import EMPIRICAL_FILE
from presspool.common.contract.contract import Contract
from presspool.common.released.adapter_folder import read_adapter
from presspool.common.runs.result_file import read_result, write_result
from presspool.server.gate import gate_judging
from presspool.server.gate.gate_case import Check
from presspool.server.gate.gate_judging import FullReport, Handed
from presspool.server.registry.intake import read_run
from presspool.server.registry.stage_records import Shelved

MEASURED: Mapping[str, Any] = {}  # by an attack that found nothing wrong: `measured_card`
ROOMY = {  # what a made desk's ledgers have room for
    "privacy": {
        "noise_multiplier": 1.5,
        "clip": 1.0,
        "records_per_reader": 2,
        "sampling_rate": 0.1,
    }
}
ARM = {"any_mechanism": 0.4, "this_mechanism": 0.7, "fired": True}


def attacked(contract: Contract, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """As much of `attack.json` as is read, of an attack that found nothing wrong."""
    said = {
        "format": "presspool-attack/1",
        "contract": contract.digest,
        "outlet": "north-post",
        "updates": ARM,
        "adapter": {**ARM, "fired": False},
        "confidence": 0.95,
        "reproducible": False,
    }
    return said | dict(changes or {})


def measured_card(contract: Contract) -> dict[str, Any]:
    """`empirical.json`, as an attack leaves it in the run's folder."""
    return {
        "status": "measured",
        "contract": contract.digest,
        "attack": "600 planted canary readers",
        "confidence": 0.95,
        "interval": [0.7, 3.0],
        "claimed": contract.trust.epsilon(contract),
        "control": "without noise 90 % of the canaries are found",
        "sentence": "With 95 % confidence leakage is at least ε ≥ 0.70.",
    }


def trained(
    folder: Path,
    contract: Contract,
    *,
    seed: int = 5,
    scale: float = 2.0,
    empirical: Mapping[str, Any] | None = MEASURED,
    approver: str = "A. Editor",
    learnt: tuple[pa.Table, int] | None = None,
) -> Desk:
    """A desk whose run has an adapter with real weights, and a card without a blank.

    Args:
        folder: the desk's.
        contract: of its run.
        seed: (with `scale`) of drawn weights.
        empirical: what an attack left; None for nothing.
        approver: as the card names one.
        learnt: rows on which the weights were trained instead, and for how many steps.
    """
    desk = make_desk(folder, contract)
    shutil.rmtree(desk.adapter)
    if learnt is None:
        made_adapter(desk.adapter, contract, seed=seed, scale=scale)
    else:
        trained_adapter(desk.adapter, contract, learnt[0], steps=learnt[1], rate=0.02)
    folder_of = read_adapter(desk.adapter)
    digest = folder_of.adapter.removeprefix("sha256:")
    result = read_result(desk.run)
    last = replace(result.final, metrics={**result.final.metrics, "accuracy": 0.8, "loss": 1.2})
    changed: Any = {"adapter_sha256": digest, "statement": folder_of.statement}
    write_result(desk.run, replace(result, rounds=(*result.rounds[:-1], last), **changed))
    if empirical is not None:
        said = measured_card(contract) if empirical is MEASURED else empirical
        (desk.run / EMPIRICAL_FILE).write_text(json.dumps(said), encoding="utf-8")
    fields = desk.fields.read_text(encoding="utf-8").replace('"A. Editor"', f'"{approver}"')
    desk.fields.write_text(fields, encoding="utf-8")
    write_card(desk)
    return desk


def public_rows(file: Path, rows: int = 300) -> Path:
    """Rows that belong to nobody, in the words of the tiny base."""
    lines = [json.dumps(row) for row in made_rows("public", rows)][:rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def added(made: MadeRegistry, desk: Desk, language: str | None = None) -> Shelved:
    """The desk's run as a candidate."""
    run = read_run(desk.run, language=language, task=None, ledgers={})
    return made.open().add(run, made.keys, MOVE)


def handed(
    desk: Desk,
    policy: str = "",
    *,
    attack: Mapping[str, Any] | None = None,
    ledgers: Sequence[Path] | None = None,
) -> Handed:
    """What is brought to the gate, as files on the desk."""
    (desk.folder / "release.toml").write_text(policy, encoding="utf-8")
    body = json.dumps(attack or attacked(desk.contract))
    (desk.folder / "attack.json").write_text(body, encoding="utf-8")
    return Handed(
        policy=desk.folder / "release.toml",
        ledgers=desk.exports if ledgers is None else ledgers,
        attack=desk.folder / "attack.json",
    )


def judged(
    made: MadeRegistry,
    which: str,
    brought: Handed,
    checks: Sequence[Check] = gate_judging.CHECKS,
) -> FullReport:
    """The gate's report on an adapter of the registry."""
    opened = made.open()
    with gate_judging.opened(opened, opened.shelves.find(which), brought) as case:
        found = gate_judging.findings(case, checks=checks)
        return gate_judging.report(case, found)
