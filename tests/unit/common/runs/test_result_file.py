"""`result.json` is checked on the way in and out, and replaced as a whole."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.instruments.full_disk import full_disk
from tests.fakes.made_results import a_run, measured

from presspool.common.base.errors import FolderError, InputError, StorageError
from presspool.common.runs.result_fields import shows_safely
from presspool.common.runs.result_file import parse_result, read_result, write_result
from presspool.common.runs.results import OutletResult, RoundResult, RunResult

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
            metrics=measured(
                accuracy=draw(SHARES),
                macro_f1=draw(SHARES),
                loss=draw(st.none() | st.floats(-1e9, 1e9)),
            ),
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
    again = parse_result(text)
    assert again == run
    assert parse_result(text.encode()) == run
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
        "measures",
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
        "metrics",
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


# --- wrong files ------------------------------------------------------------------------------


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
        (
            _changed("rounds", 1, "metrics", "accuracy", to="high"),
            ["rounds[1].metrics.accuracy", "number", "'high'"],
        ),
        (_changed("rounds", 1, "bytes_up", to=1.5), ["rounds[1].bytes_up", "1.5"]),
        (_changed("rounds", to={}), ["rounds", "{}"]),
        (_changed("outlets", 0, "unit", to="year"), ["outlets[0].unit", "'reader' or 'record'"]),
        (_changed("status", to="done"), ["status", "'running' or 'complete'", "'done'"]),
        (_changed("outlets", 0, "epsilons", to=1), ["outlets[0].epsilons", "no key of this name"]),
        (_changed("schema", to=3), ["schema", "expected 1 or 2", "version that wrote it"]),
        (_changed("schema", to=True), ["schema"]),
        (_changed("name", to="\x1b[31mred"), ["name", "control characters", r"\\x1b[31m"]),
        (_changed("rounds", 2, "epsilon", to=0.5), ["never falls"]),
        (_changed("contract", to=[]), ["contract"]),
        (_changed("contract", "key", to="\ud800"), ["UTF-8"]),
        (_changed("outlets", to=[]), ["outlets", "1 or more"]),
        (
            _changed("rounds", 1, "refused", "a\nb\x1b", to="x"),
            [r"rounds[1].refused['a\\nb\\x1b']"],
        ),
        (json.dumps({"schema": 1}), ["name", "expected this key"]),
        (json.dumps({"schema": 2}), ["name", "expected this key"]),
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
