"""A result is possible, or is not made; and what it reached is never oversold."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError
from tests.fakes.made_results import a_round, a_run, an_outlet

from presspool.common.base.errors import InputError
from presspool.common.runs.old_results import METRICS
from presspool.common.runs.result_file import parse_result
from presspool.common.runs.results import (
    Caution,
)
from presspool.common.runs.virtual_round import VirtualRound
from presspool.common.tasks.scores.answer_figures import (
    Abstention,
    AnswerFigures,
    LabelFigures,
    SureBin,
)

# --- what a result may claim ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epsilon", "unit", "deterministic", "cautions"),
    [
        (2.0, "reader", False, ()),
        (2.0, "record", False, (Caution.RECORD,)),
        (2.0, "reader", True, (Caution.SIMULATION,)),
        (2.0, "record", True, (Caution.RECORD, Caution.SIMULATION)),
        (None, "reader", False, (Caution.UNPROTECTED,)),
        (None, "record", True, (Caution.UNPROTECTED, Caution.SIMULATION)),
    ],
)
def test_only_secret_noise_at_reader_level_is_private(
    epsilon: float | None, unit: str, deterministic: bool, cautions: tuple[Caution, ...]
) -> None:
    outlet = an_outlet("north", epsilon=epsilon, unit=unit)
    run = a_run(outlets=(outlet,), rounds=(a_round(epsilon=epsilon),), deterministic=deterministic)
    assert run.cautions == cautions
    assert run.private == (not cautions)


def test_one_unprotected_outlet_or_round_makes_the_run_unprotected() -> None:
    mixed = a_run(outlets=(an_outlet("north"), an_outlet("south", epsilon=None)))
    assert (mixed.epsilon, mixed.delta, mixed.worst_case) == (None, None, None)
    late = a_run(rounds=(a_round(0), a_round(1, epsilon=None)))
    assert not late.private
    assert late.epsilon is None


def test_a_reader_of_all_outlets_pays_the_exact_sum() -> None:
    outlets = tuple(an_outlet(f"o{n}", epsilon=0.1, delta=1e-6) for n in range(3))
    run = a_run(outlets=outlets, rounds=(a_round(),))
    assert run.worst_case == (Decimal("0.3"), Decimal("0.000003"))  # floats give 0.30000000000004
    assert run.epsilon == 0.1


def test_totals_and_final_round() -> None:
    run = a_run()
    assert (run.bytes_up, run.bytes_down, run.final.round) == (30, 60, 2)
    with pytest.raises(InputError, match="no round yet"):
        _ = a_run(rounds=(), status="running").final


def test_a_result_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        a_run().deterministic = True  # type: ignore[misc]


# --- wrong values -----------------------------------------------------------------------------


def figures(**changes: Any) -> AnswerFigures:
    """Two labels, one answer of each."""
    body: dict[str, Any] = {
        "labels": (
            LabelFigures(label="a", records=1, answers=1, right=1),
            LabelFigures(label="b", records=1, answers=1, right=1),
        ),
        "bins": (SureBin(answers=2, sure=0.75, right=1.0),),
        "ece": 0.25,
        "abstention": Abstention(wanted=0.9, up_to=0.5, records=1, answered=1, right=1),
    }
    return AnswerFigures(**(body | changes))


def test_figures_by_label_come_back_and_are_no_key_where_there_are_none() -> None:
    for found in (figures(), figures(abstention=None)):
        text = a_run(figures=found).to_json()
        assert parse_result(text.encode()).figures == found
        spoilt = text.replace('"answers": 1', '"answers": true', 1)
        with pytest.raises(InputError):
            parse_result(spoilt.encode())
        with pytest.raises(InputError):
            parse_result(text.replace('"ece": 0.25', '"ece": 0.25, "more": 1', 1).encode())
    assert "figures" not in json.loads(a_run().to_json())


def virtual(**changes: Any) -> VirtualRound:
    """Two tasks, one of them late."""
    body = {
        "begun": 0.0,
        "ended": 9.0,
        "asked": 2,
        "answered": 1,
        "late": 1,
        "failed": 0,
        "away": 0,
    }
    return VirtualRound(**(body | changes))


IMPOSSIBLE: dict[str, Callable[[], object]] = {
    "a round that ends before it begins": lambda: virtual(begun=10.0),
    "more answered than asked": lambda: virtual(answered=2),
    "a round that nobody was asked in": lambda: virtual(tries=0),
    "accuracy NaN": lambda: a_round(metrics={"accuracy": float("nan")}),
    "an infinite loss": lambda: a_round(metrics={"loss": float("inf")}),
    "a metric that nobody described": lambda: a_run(measures=METRICS[:2]),
    "a described metric that a round lacks": lambda: a_run(
        rounds=(a_round(metrics={"accuracy": 0.5}),)
    ),
    "no primary metric": lambda: a_run(measures=METRICS[1:]),
    "two primary metrics": lambda: a_run(measures=[replace(m, primary=True) for m in METRICS]),
    "a metric described twice": lambda: a_run(measures=(*METRICS, METRICS[1])),
    "a title that drives a terminal": lambda: a_run(
        measures=(replace(METRICS[0], title="\x1b[2J"), *METRICS[1:])
    ),
    "a name that is none": lambda: a_run(measures=(replace(METRICS[0], name="a b"), *METRICS[1:])),
    "infinite ε is written as null": lambda: a_round(epsilon=float("inf")),
    "negative bytes": lambda: a_round(1, bytes_up=-1),
    "bytes before training": lambda: a_round(0, bytes_down=5),
    "a boolean is no number": lambda: a_round(metrics={"accuracy": True}),
    "an admitted outlet twice": lambda: a_round(1, outlets=("north", "north")),
    "no readers": lambda: an_outlet("north", population=0),
    "ε without δ": lambda: an_outlet("north", delta=None),
    "δ of 1": lambda: an_outlet("north", delta=1.0),
    "an unknown unit": lambda: an_outlet("north", unit="household"),
    "a terminal escape": lambda: an_outlet("north\x1b[2J"),
    "a reversed line": lambda: a_run(name="\u202egnp.exe"),
    "a second line": lambda: a_run(statement="private\nnot really"),
    "no outlet": lambda: a_run(outlets=(), rounds=(a_round(),)),
    "two units": lambda: a_run(outlets=(an_outlet("north"), an_outlet("south", unit="record"))),
    "the same outlet twice": lambda: a_run(outlets=(an_outlet("north"), an_outlet("north"))),
    "a missing round": lambda: a_run(rounds=(a_round(0), a_round(2))),
    "complete without a round": lambda: a_run(rounds=()),
    "a stranger in a round": lambda: a_run(rounds=(a_round(0), a_round(1, outlets=("west",)))),
    "ε that shrinks": lambda: a_run(rounds=(a_round(0, epsilon=2.0), a_round(1))),
    "ε after unprotected": lambda: a_run(rounds=(a_round(0, epsilon=None), a_round(1))),
    "a digest without its name": lambda: a_run(contract_digest="0a" * 32),
    "a label with more right answers than answers": lambda: a_run(
        figures=figures(labels=(LabelFigures(label="a", records=9, answers=1, right=2),))
    ),
    "a label that drives a terminal": lambda: a_run(
        figures=figures(
            labels=(LabelFigures(label="\x1b[2J", records=1, answers=1, right=1),),
        )
    ),
    "a bin without answers": lambda: a_run(
        figures=figures(bins=(SureBin(answers=0, sure=0.5, right=0.5),))
    ),
    "more than sure": lambda: a_run(
        figures=figures(bins=(SureBin(answers=1, sure=1.5, right=0.5),))
    ),
    "a calibration error that is none": lambda: a_run(figures=figures(ece=float("nan"))),
    "more answered than records": lambda: a_run(
        figures=figures(
            abstention=Abstention(wanted=0.9, up_to=0.5, records=3, answered=4, right=1)
        )
    ),
    "a contract that JSON lacks": lambda: a_run(contract={"privacy": {"epsilon": float("inf")}}),
}


@pytest.mark.parametrize("build", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_an_impossible_result_cannot_be_built(build: Callable[[], object]) -> None:
    with pytest.raises(ValidationError):
        build()
