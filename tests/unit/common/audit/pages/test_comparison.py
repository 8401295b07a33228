"""Comparing runs: each figure with its privacy, and exactly the settings that differ."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.fakes.made_results import measured

from presspool.common.audit.pages.comparison import Comparison, compare, dotted_keys
from presspool.common.base.errors import FolderError, InputError
from presspool.common.runs.old_results import METRICS
from presspool.common.runs.result_file import write_result
from presspool.common.runs.results import OutletResult, PooledFigures, RoundResult, RunResult
from presspool.common.tasks.metric import Metric


def a_run(
    *,
    accuracy: float | None = 0.5,
    epsilon: float | None = 3.0,
    delta: float | None = 1e-5,
    unit: Any = "reader",
    contract: Any = None,
    **changes: Any,
) -> RunResult:
    rounds = tuple(
        RoundResult(
            round=number,
            metrics=measured(accuracy=accuracy, macro_f1=0.25, loss=1.125),
            bytes_up=1000 * number,
            bytes_down=500 * number,
            seconds=1.0,
            epsilon=epsilon and epsilon * number / 2,
            outlets=("north",) if number else (),
            refused={},
        )
        for number in range(3)
    )
    outlet = OutletResult(
        name="north", population=50, weight=1.0, epsilon=epsilon, delta=delta, unit=unit, steps=9
    )
    body: dict[str, Any] = {
        "name": "autumn",
        "contract_digest": "sha256:" + "0a" * 32,
        "status": "complete",
        "deterministic": False,
        "measures": METRICS,
        "rounds": rounds,
        "outlets": (outlet,),
        "adapter_sha256": None,
        "statement": "a statement",
        "trust": "local",
        "accountant": "dp_accounting",
        "seconds": 42.0,
        "versions": {},
        "contract": contract or {"seed": 1},
    }
    return RunResult(**(body | changes))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four runs: private, unprotected, at record level by a simulation, and one not begun."""
    write_result(tmp_path / "private", a_run())
    write_result(tmp_path / "open", a_run(epsilon=None, accuracy=0.75))
    write_result(tmp_path / "record", a_run(unit="record", deterministic=True))
    write_result(tmp_path / "begun", a_run(rounds=(), status="running"))
    return tmp_path


def printed(comparison: Comparison, width: int = 80, colour: bool = False) -> str:
    stream = io.StringIO()
    system: Any = "standard" if colour else None
    comparison.render(Console(file=stream, width=width, force_terminal=colour, color_system=system))
    return stream.getvalue()


def test_rows_carry_the_last_figures_in_the_order_given(root: Path) -> None:
    rows = compare([root / "open", root / "private", root / "begun"]).rows
    assert [row.folder for row in rows] == ["open", "private", "begun"]
    assert [row.metrics.get("accuracy") for row in rows] == [0.75, 0.5, None]
    assert [row.epsilon for row in rows] == [None, 3.0, 3.0]
    private = rows[1]
    assert private.metrics == {"accuracy": 0.5, "macro_f1": 0.25, "loss": 1.125}
    assert private.delta == 1e-5
    assert (private.bytes_total, private.seconds, private.rounds) == (4500, 42.0, 2)
    assert private.cautions == ()


def test_what_is_weaker_is_said_whole_even_on_a_narrow_terminal(root: Path) -> None:
    names = ["private", "open", "record", "begun"]
    text = printed(compare([root / name for name in names]))
    assert "…" not in text
    for said in ("unprotected", "record (weaker)", "not private", "ε 3.00, δ 1e-5", "running"):
        assert said in text
    assert "simulation, not a release" in text
    assert max(map(len, text.splitlines())) <= 80


def test_unprotected_is_red(root: Path) -> None:
    text = printed(compare([root / "private", root / "open"]), colour=True)
    assert "\x1b[1;31munprotected" in text


def test_runs_of_several_tasks_stand_side_by_side_each_with_what_it_measured(
    root: Path, tmp_path: Path
) -> None:
    perplexity = Metric(name="perplexity", title="Perplexity", higher_is_better=False, primary=True)
    run = a_run(status="running")
    start = dataclasses.replace(run.rounds[0], metrics={"perplexity": 54.5})
    write_result(
        tmp_path / "words", dataclasses.replace(run, measures=(perplexity,), rounds=(start,))
    )
    comparison = compare([root / "private", tmp_path / "words"])
    text = " ".join(printed(comparison, width=120).split())
    assert "run accuracy perplexity macro-F1 cross-entropy privacy" in text
    assert "private 50.0% – 25.0% 1.125" in text
    assert "words – 54.500 – –" in text
    narrow = printed(comparison, width=60)
    assert "…" not in narrow
    assert [name in narrow for name in ("private", "words", "cross-entropy")] == [True] * 3
    assert "Perplexity and cross-entropy: lower is better." in text
    body = json.loads(comparison.to_json())
    assert [one["name"] for one in body["measures"]] == [*run.rounds[1].metrics, "perplexity"]
    assert [one["metrics"] for one in body["runs"]] == [
        {"accuracy": 0.5, "macro_f1": 0.25, "loss": 1.125},
        {"perplexity": 54.5},
    ]


def test_notes_say_only_what_applies(root: Path, tmp_path: Path) -> None:
    write_result(tmp_path / "other", a_run(epsilon=None, accuracy=0.1))
    only_open = " ".join(compare([root / "open", tmp_path / "other"]).notes)
    assert "no bound holds" in only_open
    assert not any(word in only_open for word in ("record:", "reproducible", "pays the sum", "δ"))
    write_result(tmp_path / "looser", a_run(delta=1e-4))
    two = " ".join(compare([root / "private", tmp_path / "looser"]).notes)
    assert "pays the sum" in two
    assert "δ differs" in two
    assert "no bound holds" not in two


def test_a_run_whose_outlets_share_their_noise_is_said_to(root: Path, tmp_path: Path) -> None:
    """Its ε stands beside others that hold whatever the other outlets do."""
    shared = a_run(trust="pooled", pooled=PooledFigures(alone=14.7004, every=44.9))
    write_result(tmp_path / "shared", shared)
    notes = compare([root / "private", tmp_path / "shared"]).notes
    (note,) = [note for note in notes if note.startswith("shared: ")]
    assert "at most c of the K outlets work together with the coordinator" in note
    assert "ε 14.71" in note


def test_differences_are_the_contract_keys_whose_values_differ(tmp_path: Path) -> None:
    contracts: list[dict[str, Any]] = [
        {
            "seed": 1,
            "privacy": {"epsilon": 3, "clip": 1.0},
            "adapter": {"targets": ["q", "v"]},
            "outlets": [{"name": "NRC", "population": 9}, {"name": "Le Monde", "population": 5}],
        },
        {
            "seed": 1,
            "privacy": {"epsilon": "inf"},
            "adapter": {"targets": ["q"]},
            "outlets": [{"name": "Le Monde", "population": 6}, {"name": "NRC", "population": 9}],
        },
    ]
    for name, contract in zip("ab", contracts, strict=True):
        write_result(tmp_path / name, a_run(contract=contract))
    comparison = compare([tmp_path / "a", tmp_path / "b"])
    assert comparison.differs == {
        "privacy.epsilon": {"a": 3, "b": "inf"},
        "privacy.clip": {"a": 1.0},
        "adapter.targets": {"a": ["q", "v"], "b": ["q"]},
        'outlets."Le Monde".population': {"a": 5, "b": 6},
    }
    text = printed(comparison)
    assert "privacy.clip" in text
    assert '["q", "v"]' in text


def test_true_is_not_one_and_equal_contracts_are_said_to_be_so(tmp_path: Path) -> None:
    write_result(tmp_path / "a", a_run(contract={"x": True}))
    write_result(tmp_path / "b", a_run(contract={"x": 1}))
    assert compare([tmp_path / "a", tmp_path / "b"]).differs == {"x": {"a": True, "b": 1}}
    write_result(tmp_path / "b", a_run(contract={"x": True}))
    comparison = compare([tmp_path / "a", tmp_path / "b"])
    assert comparison.differs == {}
    assert "contracts of these runs are the same" in printed(comparison)


def test_the_json_is_for_machines(root: Path) -> None:
    body = json.loads(compare([root / "private", root / "open"]).to_json())
    assert body["runs"][1]["epsilon"] is None
    assert body["runs"][1]["cautions"] == ["unprotected"]
    assert body["runs"][0]["unit"] == "reader"
    assert body["differs"] == {}
    assert body["notes"]


def test_foreign_text_can_neither_style_nor_drive_the_terminal(tmp_path: Path) -> None:
    for name, said in (("[red]a", "\x1b[2Jone\u202e"), ("b", "[bold]two\x9b31m")):
        write_result(tmp_path / name, a_run(contract={"note": said, said: 1}))
    text = printed(compare([tmp_path / "[red]a", tmp_path / "b"]), width=120)
    assert "[red]a" in text
    assert "[bold]two" in text
    assert r"\u001b[2Jone\u202e" in text
    assert not {"\x1b", "\x9b", "\u202e"} & set(text)


def test_folders_of_the_same_name_go_by_their_paths(tmp_path: Path) -> None:
    folders = [tmp_path / "x" / "run", tmp_path / "y" / "run"]
    for folder in folders:
        write_result(folder, a_run())
    assert [row.folder for row in compare(folders).rows] == [str(f.resolve()) for f in folders]


def test_nothing_to_compare_and_missing_runs_are_told(root: Path) -> None:
    here = root / "private"
    for folders in ([], [here], [here, here], [here, root / "open" / ".." / "private"]):
        with pytest.raises(InputError, match="two or more run folders") as caught:
            compare(folders)
        assert caught.value.exit_code == 2
    with pytest.raises(FolderError, match="nowhere"):
        compare([here, root / "nowhere"])


@pytest.mark.parametrize(
    ("contract", "keys"),
    [
        ({"a": {"b": {"c": 1}}}, {"a.b.c": 1}),
        ({"a": {}}, {"a": {}}),
        ({"a.b": 1, "a": {"b": 2}}, {'"a.b"': 1, "a.b": 2}),
        ({"list": [1, {"name": "x"}]}, {"list": [1, {"name": "x"}]}),
        ({"o": [{"name": "x", "n": 1}]}, {"o.x.n": 1}),
        ({"o": [{"name": "x"}, {"name": "x"}]}, {"o": [{"name": "x"}, {"name": "x"}]}),
    ],
)
def test_dotted_keys_are_toml_keys_and_never_collide(
    contract: dict[str, Any], keys: dict[str, Any]
) -> None:
    assert dotted_keys(contract) == keys
