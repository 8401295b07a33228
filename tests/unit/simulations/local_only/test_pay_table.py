"""The table "does it pay to join?": signs, whose rows, and what is said of an interval."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from presspool.simulations.experiments.arms import Arm, Kind, Trial
from presspool.simulations.experiments.pools import EVERYBODY, Pool
from presspool.simulations.experiments.tidy import Judged
from presspool.simulations.local_only.pay_table import PayTable, pay_table

READERS = {"a": 900, "b": 100, "the-oldermoor-courier-and-advertiser": 50}


def judged(kind: Kind, figures: Any, outlet: list[str], task: str, size: Any = 1.0) -> Judged:
    pool = Pool(
        name="two",
        folder=Path("none"),
        readers=READERS,
        records={},
        labels=(),
        max_length=8,
        task={"kind": task},
    )
    trial = Trial(pool=pool, arm=Arm(name=kind, kind=kind, recipe={}), epsilon=3.0, seed=1, jobs={})
    scores = np.asarray(figures, float)
    return Judged(
        trial=trial, pooled=scores, own=scores, outlet=np.array(outlet), seconds=0.0, size=size
    )


def table(together: Any, alone: dict[str, Any], outlet: list[str], task: str, **more: Any) -> Any:
    models = {name: np.asarray(figures, float) for name, figures in alone.items()}
    own = np.mean(list(models.values()), axis=0)
    for name, figures in models.items():
        mine = np.array(outlet) == name
        own[mine] = figures[mine]
    return pay_table(
        judged("federated", together, outlet, task, **more),
        judged("local", own, outlet, task, **more),
        models,
        deterministic=False,
    )


def test_every_outlet_on_its_own_rows_and_the_mean_counts_them_the_same() -> None:
    outlet = ["a"] * 60 + ["b"] * 20 + [EVERYBODY] * 20
    together = np.ones(100)
    alone = {"a": np.arange(100) % 2, "b": np.zeros(100)}
    found: PayTable = table(together, alone, outlet, "classification")
    assert [(row.rows, row.alone, row.verdict) for row in found.rows] == [
        (60, 0.5, "yes"),
        (20, 0.0, "yes"),
        (80, pytest.approx(0.25), "yes"),
    ]
    worse = table(np.zeros(100), {"a": together, "b": together}, outlet, "classification")
    assert {row.verdict for row in worse.rows} == {"no"}
    assert [row.difference.mean for row in worse.rows] == pytest.approx([-1.0] * 3)


def test_without_a_column_of_outlets_all_rows_count_for_everybody() -> None:
    rng = np.random.default_rng(3)
    same = (rng.random(50) < 0.5).astype(float)
    found = table(same, {"a": same, "b": same}, [EVERYBODY] * 50, "classification")
    assert [(row.rows, row.own, row.verdict) for row in found.rows] == [
        (50, False, "not clear")
    ] * 3


def test_fewer_nats_are_better_and_records_weigh_as_their_tokens() -> None:
    outlet, size = ["a", "a", "b", "b"] * 10, np.array([1.0, 9.0, 5.0, 5.0] * 10)
    together, alone = np.full(40, 2.0), np.array([1.0, 3.0, 2.5, 2.5] * 10)
    found = table(together, {"a": alone, "b": alone}, outlet, "generation", size=size)
    assert found.rows[0].alone == pytest.approx(0.1 * 1.0 + 0.9 * 3.0)
    assert found.rows[0].difference.mean == pytest.approx(0.8)
    assert found.rows[1].verdict == "yes"
    assert "lower is better" in said(found)


def test_an_unprotected_run_says_so() -> None:
    made = table(
        np.ones(4), {"a": np.ones(4), "b": np.ones(4)}, ["a", "a", "b", "b"], "classification"
    )
    found = PayTable(**{**vars(made), "epsilon": math.inf, "deterministic": True})
    assert "unprotected, reproducible noise: not private" in said(found)
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["epsilon"] is None


def test_no_name_is_folded_on_a_narrow_screen() -> None:
    name = "the-oldermoor-courier-and-advertiser"
    found = table(np.ones(4), {name: np.ones(4)}, [name] * 4, "classification")
    found = PayTable(**{**vars(found), "rows": found.rows[:1]})
    assert name in said(found, width=50)


def said(found: PayTable, width: int = 120) -> str:
    text = io.StringIO()
    found.render(Console(file=text, width=width))
    return text.getvalue()
