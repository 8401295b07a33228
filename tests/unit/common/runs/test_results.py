"""`result.json` is checked on the way in and out, replaced as a whole, and never oversold."""

import dataclasses
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.fakes.instruments.full_disk import full_disk

from presspool.common.base.errors import FolderError, InputError, StorageError
from presspool.common.runs.results import (
    Caution,
    OutletResult,
    RoundResult,
    RunResult,
    read_result,
    shows_safely,
    write_result,
)


def a_round(number: int = 0, **changes: Any) -> RoundResult:
    body: dict[str, Any] = {
        "round": number,
        "accuracy": 0.5,
        "macro_f1": 0.4,
        "loss": 1.2,
        "bytes_up": 10 * number,
        "bytes_down": 20 * number,
        "seconds": 1.5,
        "epsilon": 1.0 * number,
        "outlets": ("north", "south") if number else (),
        "refused": {},
    }
    return RoundResult(**(body | changes))


def an_outlet(name: str, **changes: Any) -> OutletResult:
    body: dict[str, Any] = {
        "name": name,
        "population": 100,
        "weight": 0.5,
        "epsilon": 2.0,
        "delta": 1e-5,
        "unit": "reader",
        "steps": 20,
    }
    return OutletResult(**(body | changes))


def a_run(**changes: Any) -> RunResult:
    body: dict[str, Any] = {
        "name": "autumn",
        "contract_digest": "sha256:" + "0a" * 32,
        "status": "complete",
        "deterministic": False,
        "rounds": (a_round(0), a_round(1), a_round(2)),
        "outlets": (an_outlet("north"), an_outlet("south")),
        "adapter_sha256": "1b" * 32,
        "statement": "(2.00, 1e-5)-DP at reader level",
        "trust": "local",
        "accountant": "dp_accounting PLD 0.6",
        "seconds": 9.5,
        "versions": {"torch": "2.13.0"},
        "contract": {"schema": 1, "privacy": {"epsilon": 2, "targets": ["query", None, 0.5]}},
    }
    return RunResult(**(body | changes))


# --- round trip -------------------------------------------------------------------------------

LETTERS = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]).filter(shows_safely)
NAMES = st.text(LETTERS, min_size=1, max_size=12)
UNITS: st.SearchStrategy[Literal["reader", "record"]] = st.sampled_from(["reader", "record"])
DONE: st.SearchStrategy[bool] = st.booleans()
COUNTS = st.integers(0, 2**53 - 1)
AMOUNTS = st.floats(0, 1e12)
SHARES = st.none() | st.floats(0, 1)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(LETTERS, max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)


@st.composite
def runs(draw: st.DrawFn) -> RunResult:
    """Any valid result: unmeasured, unprotected, refused, running and empty ones included."""
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    unit: Literal["reader", "record"] = draw(UNITS)
    epsilons = [None, *map(float, range(5))] if draw(st.booleans()) else [1.5, 3.0]
    outlets = tuple(
        OutletResult(
            name=name,
            population=draw(st.integers(1, 10**9)),
            weight=draw(AMOUNTS),
            epsilon=draw(st.sampled_from(epsilons)),
            delta=draw(st.floats(1e-12, 0.5)),
            unit=unit,
            steps=draw(COUNTS),
        )
        for name in names
    )
    count = draw(st.integers(0, 5))
    amounts = sorted(draw(st.lists(AMOUNTS, min_size=count, max_size=count)))
    spent: list[float | None] = [*amounts]
    if draw(st.booleans()):
        spent = [0.0 if number == 0 else None for number in range(count)]
    rounds = tuple(
        RoundResult(
            round=number,
            accuracy=draw(SHARES),
            macro_f1=draw(SHARES),
            loss=draw(st.none() | st.floats(-1e9, 1e9)),
            bytes_up=draw(COUNTS) if number else 0,
            bytes_down=draw(COUNTS) if number else 0,
            seconds=draw(AMOUNTS),
            epsilon=epsilon,
            outlets=tuple(n for n in names if number and draw(st.booleans())),
            refused=draw(st.dictionaries(NAMES, NAMES, max_size=2)),
        )
        for number, epsilon in enumerate(spent)
    )
    return a_run(
        name=draw(NAMES),
        deterministic=draw(st.booleans()),
        rounds=rounds,
        outlets=outlets,
        status="complete" if len(rounds) > 0 and draw(DONE) else "running",
        adapter_sha256=draw(st.sampled_from([None, "c4" * 32])),
        seconds=draw(AMOUNTS),
        versions=draw(st.dictionaries(NAMES, NAMES, max_size=2)),
        contract=draw(st.dictionaries(NAMES, VALUES, max_size=4)),
    )


@settings(max_examples=150, deadline=None)
@given(runs())
def test_reading_back_gives_the_same_result(run: RunResult) -> None:
    text = run.to_json()
    again = RunResult.from_json(text)
    assert again == run
    assert RunResult.from_json(text.encode()) == run
    assert again.to_json() == text
    assert (again.cautions, again.worst_case) == (run.cautions, run.worst_case)


def test_the_file_has_exactly_the_promised_keys(tmp_path: Path) -> None:
    body = json.loads(write_result(tmp_path, a_run()).read_text("utf-8"))
    assert list(body) == [
        "schema",
        "name",
        "contract_digest",
        "status",
        "deterministic",
        "rounds",
        "outlets",
        "adapter_sha256",
        "statement",
        "trust",
        "accountant",
        "seconds",
        "versions",
        "contract",
    ]
    assert list(body["rounds"][0]) == [
        "round",
        "accuracy",
        "macro_f1",
        "loss",
        "bytes_up",
        "bytes_down",
        "seconds",
        "epsilon",
        "outlets",
        "refused",
    ]
    assert list(body["outlets"][0]) == [
        "name",
        "population",
        "weight",
        "epsilon",
        "delta",
        "unit",
        "steps",
    ]


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

IMPOSSIBLE: dict[str, Callable[[], object]] = {
    "accuracy above 1": lambda: a_round(accuracy=1.01),
    "accuracy NaN": lambda: a_round(accuracy=float("nan")),
    "infinite ε is written as null": lambda: a_round(epsilon=float("inf")),
    "negative bytes": lambda: a_round(1, bytes_up=-1),
    "bytes before training": lambda: a_round(0, bytes_down=5),
    "a boolean is no number": lambda: a_round(accuracy=True),
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
    "a contract that JSON lacks": lambda: a_run(contract={"privacy": {"epsilon": float("inf")}}),
}


@pytest.mark.parametrize("build", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_an_impossible_result_cannot_be_built(build: Callable[[], object]) -> None:
    with pytest.raises(ValidationError):
        build()


def _changed(*path: str | int, to: Any) -> str:
    body = json.loads(a_run().to_json())
    place = body
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = to
    return json.dumps(body)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (_changed("rounds", 1, "accuracy", to="high"), ["rounds[1].accuracy", "number", "'high'"]),
        (_changed("rounds", 1, "bytes_up", to=1.5), ["rounds[1].bytes_up", "1.5"]),
        (_changed("rounds", to={}), ["rounds", "{}"]),
        (_changed("outlets", 0, "unit", to="year"), ["outlets[0].unit", "'reader' or 'record'"]),
        (_changed("status", to="done"), ["status", "'running' or 'complete'", "'done'"]),
        (_changed("outlets", 0, "epsilons", to=1), ["outlets[0].epsilons", "no key of this name"]),
        (_changed("schema", to=2), ["schema", "expected 1", "version that wrote it"]),
        (_changed("schema", to=True), ["schema"]),
        (_changed("name", to="\x1b[31mred"), ["name", "control characters", r"\\x1b[31m"]),
        (_changed("rounds", 2, "epsilon", to=0.5), ["never falls"]),
        (_changed("contract", to=[]), ["contract"]),
        (_changed("contract", "key", to="\ud800"), ["UTF-8"]),
        (_changed("outlets", to=[]), ["outlets", "one or more"]),
        (
            _changed("rounds", 1, "refused", "a\nb\x1b", to="x"),
            [r"rounds[1].refused['a\\nb\\x1b']"],
        ),
        (json.dumps({"schema": 1}), ["name", "expected this key"]),
        ("[]", ["an object", "[]"]),
        ("", ["broken JSON"]),
        (a_run().to_json()[:-9], ["broken JSON"]),
        ('{"schema": 1, "schema": 1}', ["stands twice"]),
        ('{"schema": 1, "seconds": NaN}', ["NaN is not JSON"]),
        ("[" * 100_000, ["broken JSON"]),
        ('{"schema": 1, "seconds": ' + "9" * 5000 + "}", ["broken JSON"]),
    ],
)
def test_a_bad_file_is_told_by_file_key_expected_and_got(
    tmp_path: Path, text: str, told: list[str]
) -> None:
    (tmp_path / "result.json").write_text(text, "utf-8")
    with pytest.raises(InputError) as caught:
        read_result(tmp_path)
    message = str(caught.value)
    assert caught.value.exit_code == 2
    for part in [str(tmp_path / "result.json"), "to do", *told]:
        assert part.replace("\\\\", "\\") in message
    assert message.replace("\n", "").isprintable()  # whatever the file held
    assert max(map(len, message.splitlines())) < 300


def test_a_file_that_is_not_utf8_or_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(b'{"name": "caf\xe9"}')
    with pytest.raises(InputError, match="broken JSON"):
        read_result(tmp_path)
    with path.open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(InputError, match="too large"):
        read_result(tmp_path)


def test_a_folder_without_a_run_is_told_apart(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FolderError, match=r"expected a folder with a result\.json"):
            read_result(folder)


# --- writing ----------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_result_whole(tmp_path: Path) -> None:
    old = a_run(name="old")
    write_result(tmp_path, old)
    with full_disk(room=500), pytest.raises(StorageError, match="make room"):
        write_result(tmp_path, a_run(name="new"))
    assert read_result(tmp_path) == old
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_what_a_crash_left_behind_does_not_disturb(tmp_path: Path) -> None:
    write_result(tmp_path, a_run(name="old"))
    (tmp_path / ".result.json.tmp").write_text('{"half')
    assert read_result(tmp_path).name == "old"
    write_result(tmp_path, a_run(name="new"))
    assert read_result(tmp_path).name == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match=r"result\.json: cannot write") as caught:
        write_result(tmp_path / "file", a_run())
    assert caught.value.exit_code == 2
