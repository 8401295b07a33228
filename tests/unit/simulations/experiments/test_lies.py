"""Outlets that lie in experiments: what they send, that honest ones are untouched, and one run."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file
from tests.conftest import made_rows

from presspool.common.models.adapters import State, norm
from presspool.common.runs.result_file import read_result
from presspool.common.wire.update import unpack_update
from presspool.simulations.experiments import arms, jobs, lies
from presspool.simulations.experiments.arms import Arm
from presspool.simulations.experiments.jobs import run_job
from presspool.simulations.experiments.pools import Pool, Record, flipped, write_pool
from presspool.simulations.grids.local_grid import LocalGrid

HONEST: list[State] = [
    {"w": np.array([1.0, 2.0], np.float32)},
    {"w": np.array([3.0, 2.0], np.float32)},
]
OWN: State = {"w": np.array([1.0, -1.0], np.float32)}


@pytest.mark.parametrize(
    ("attack", "sent"),
    [
        ("sign flip", [-1.0, 1.0]),
        ("scaled", [-1000.0, 1000.0]),
        ("a little", [2.0 - 1.5, 2.0]),  # mean (2, 2), standard deviation (1, 0)
        ("inner product", [-20.0, -20.0]),
    ],
)
def test_an_attack_is_the_one_of_its_paper(attack: str, sent: list[float]) -> None:
    assert lies.ATTACKS[attack](HONEST, OWN)["w"].tolist() == sent


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    records = [
        Record(
            outlet=f"o{n % 5}", reader=f"r{n}", text=row["text"], label=row["label"], test=n > 59
        )
        for n, row in enumerate(made_rows("east-star", 70))
    ]
    labels = tuple(sorted({record.label for record in records}))
    return write_pool(records, tmp_path / "pool", name="five", labels=labels, max_length=12)


def job_of(pool: Pool, contract_body: dict[str, Any], **federation: object) -> jobs.Job:
    recipe = {
        "model": contract_body["model"],
        "adapter": contract_body["adapter"],
        "federation": {"rounds": 1, "local_steps": 1, "update_norm_cap": 5.0, **federation},
        "privacy": {"clip": 1.0, "sampling_rate": 0.5},
        "optimizer": {"learning_rate": 1.0},
    }
    arm = Arm(name=f"rule-{len(federation)}", kind="federated", recipe=recipe, seeds=(1,))
    (job,) = arms.declare(pool, arm, math.inf, 1).jobs.values()
    return job


@pytest.mark.parametrize("attack", sorted(lies.ATTACKS))
def test_only_what_liars_send_is_changed_and_it_passes_the_cap(
    pool: Pool, contract_body: dict[str, Any], tmp_path: Path, attack: str, monkeypatch: Any
) -> None:
    seen: dict[str, list[State]] = {}
    real = LocalGrid.send_and_receive

    def noted(self: Any, messages: Any, **more: Any) -> Any:
        replies = list(real(self, messages, **more))
        for reply in replies:
            update = unpack_update(reply.content)
            seen.setdefault(update.outlet, []).append(
                {name: array.copy() for name, array in update.delta.items()}
            )
        return replies

    monkeypatch.setattr(LocalGrid, "send_and_receive", noted)
    told: dict[str, State] = {}
    whole = lies.LyingGrid.send_and_receive

    def lied(self: Any, messages: Any, **more: Any) -> Any:
        replies = list(whole(self, messages, **more))
        told.update({u.outlet: u.delta for u in (unpack_update(r.content) for r in replies)})
        return replies

    monkeypatch.setattr(lies.LyingGrid, "send_and_receive", lied)
    run_job(
        job_of(replace(pool, attack=attack, liars=("o3", "o4")), contract_body), tmp_path / "jobs"
    )
    changed = {
        name for name, (own,) in seen.items() if any((own[k] != told[name][k]).any() for k in own)
    }
    assert changed == {"o3", "o4"}
    assert all(norm(told[name]) <= 5.0 for name in told)
    done = read_result(next((tmp_path / "jobs").iterdir())).rounds[1]
    assert sorted(done.outlets) == ["o0", "o1", "o2", "o3", "o4"]  # nothing was refused


def test_a_robust_rule_stands_between_liars_and_the_adapter(
    pool: Pool, contract_body: dict[str, Any], tmp_path: Path
) -> None:
    lying = replace(pool, attack="scaled", liars=("o4",))
    moved = []
    for at, (which, federation) in enumerate(
        [(pool, {}), (lying, {}), (lying, {"robust": "median", "attackers": 1})]
    ):
        job = job_of(which, contract_body, **federation)
        folder = tmp_path / str(at)
        run_job(job, folder)
        (file,) = folder.rglob("adapter_model.safetensors")
        moved.append(load_file(file))
    clean, fooled, stood = moved
    far = [
        math.sqrt(sum(float(((a[name] - clean[name]) ** 2).sum()) for name in clean))
        for a in (fooled, stood)
    ]
    assert far[0] > 3 * far[1]


def test_liars_labels_are_turned_round_and_nobody_elses(pool: Pool) -> None:
    before = {o: pq.read_table(pool.folder / f"{o}.parquet") for o in pool.readers}
    turn = dict(zip(pool.labels, pool.labels[::-1], strict=True))
    flipped(pool, ("o1",), turn)
    after = {o: pq.read_table(pool.folder / f"{o}.parquet") for o in pool.readers}
    assert [o for o in after if not after[o].equals(before[o])] == ["o1"]
    assert after["o1"]["label"].to_pylist() == [
        turn[label] for label in before["o1"]["label"].to_pylist()
    ]
    assert after["o1"].drop(["label"]).equals(before["o1"].drop(["label"]))
