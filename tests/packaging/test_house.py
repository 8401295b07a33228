"""The house's rules as far as a syntax tree shows them; `CONTRIBUTING.md` has them for people."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import PurePosixPath
from statistics import median
from typing import Any

import pytest
from tests.conftest import REPOSITORY

from presspool.common.base.registry import Registry
from presspool.common.contract import doors
from presspool.common.methods.method import Method
from presspool.common.tasks.task import Task
from presspool.common.trust.trust_model import TrustModel
from presspool.server.rounds.aggregators.aggregator import Aggregator
from presspool.server.rounds.trackers import TRACKERS
from presspool.server.rounds.trackers.tracker import Tracker
from presspool.simulations.grids import GRIDS
from presspool.simulations.grids.simulation_grid import SimulationGrid

SOURCE = ("client", "common", "server", "simulations", "src")
MOST_FILES, MOST_LINES, MEDIAN_LINES, MOST_TABLES, MOST_EQUAL = 16, 350, 10, 4, 5

# Names of fields' types in the privacy card, which its published JSON schema tells everybody.
TWICE = {
    "Checkpoint": "of the card's schema, and a log's",
    "Registry": "of the card's schema, and the doors'",
}

Code = list[tuple[int, str]]
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tracked() -> tuple[str, ...]:
    listed = subprocess.check_output(["git", "ls-files", *SOURCE, "tests"], cwd=REPOSITORY)
    return tuple(listed.decode().splitlines())


@cache
def modules() -> dict[str, ast.Module]:
    """The source's modules, without what protoc made."""
    paths = [path for path in tracked() if path.endswith(".py") and "_pb2" not in path]
    return {path: ast.parse(text(path)) for path in paths if path.split("/")[0] in SOURCE}


@cache
def text(path: str) -> str:
    return (REPOSITORY / path).read_text(encoding="utf-8")


def dotted(path: str) -> str:
    """The name by which a module, or a package's folder, is imported."""
    inside = path.removeprefix("src/presspool/").removesuffix(".py").removesuffix("/__init__")
    return f"presspool.{inside.strip('/').replace('/', '.')}"


def docstring(node: ast.AST) -> ast.stmt | None:
    named = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    found = isinstance(node, named) and ast.get_docstring(node) is not None
    return node.body[0] if found and isinstance(node, named) else None


def length(function: Function) -> int:
    """Lines from `def` to the end, without decorators and docstring."""
    said = docstring(function)
    words = (said.end_lineno or 0) - said.lineno + 1 if said else 0
    return (function.end_lineno or 0) - function.lineno + 1 - words


def code(path: str) -> Code:
    """Lines that do something, their spaces evened out: no prose, import or lone bracket."""
    left_out = set[int]()
    for node in ast.walk(modules()[path]):
        gone = node if isinstance(node, ast.Import | ast.ImportFrom) else docstring(node)
        if gone is not None:
            left_out.update(range(gone.lineno, (gone.end_lineno or 0) + 1))
    lines = ((at, " ".join(line.split())) for at, line in enumerate(text(path).splitlines(), 1))
    return [
        (at, line)
        for at, line in lines
        if at not in left_out and not line.startswith("#") and re.search(r"\w", line)
    ]


def imports(path: str) -> Iterator[str]:
    for node in ast.walk(modules()[path]):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_no_folder_holds_more_files_than_a_reader_can_look_over() -> None:
    folders = defaultdict(list)
    for path in tracked():
        folders[str(PurePosixPath(path).parent)].append(path)
    assert not {name: len(held) for name, held in folders.items() if len(held) > MOST_FILES}


def test_no_module_is_long() -> None:
    lines = {path: text(path).count("\n") for path in modules()}
    assert not {path: count for path, count in lines.items() if count > MOST_LINES}


def test_functions_are_short() -> None:
    nodes = (node for tree in modules().values() for node in ast.walk(tree))
    assert median(length(node) for node in nodes if isinstance(node, Function)) <= MEDIAN_LINES


def test_only_a_few_tables_are_kept_from_the_formatter() -> None:
    kept = re.compile(r"#\s*fmt:\s*(skip|off)")
    assert sum(len(kept.findall(text(path))) for path in modules()) <= MOST_TABLES


def test_a_module_s_name_stands_for_one_module() -> None:
    places = defaultdict(list)
    for path in modules():
        places[PurePosixPath(path).name].append(path)
    del places["__init__.py"]
    assert not {name: held for name, held in places.items() if len(held) > 1}


def test_a_class_s_name_stands_for_one_class() -> None:
    places = defaultdict(list)
    for path, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(path)
    assert {name for name, held in places.items() if len(held) > 1} == set(TWICE)


def test_every_package_says_what_it_holds() -> None:
    packages = {path: tree for path, tree in modules().items() if path.endswith("/__init__.py")}
    assert not [path for path, tree in packages.items() if not ast.get_docstring(tree)]
    folders = {str(PurePosixPath(path).parent) for path in modules()} - {"src"}
    assert not [name for name in folders if f"{name}/__init__.py" not in packages]


def test_nothing_is_written_twice() -> None:
    places = defaultdict(list)
    for path in modules():
        lines = code(path)
        for first in range(len(lines) - MOST_EQUAL):
            run = tuple(line for _, line in lines[first : first + MOST_EQUAL + 1])
            places[run].append(f"{path}:{lines[first][0]}")
    assert not [held for held in places.values() if len(held) > 1]


def test_who_asks_over_http_says_how_long_it_waits() -> None:
    """httpx2 by itself waits for five seconds, and a busy machine may answer later."""
    asking = re.compile(r"httpx2\.(Client|request|stream|get|put|post|delete)")
    calls = [
        (f"{path}:{node.lineno}", {word.arg for word in node.keywords})
        for path in tracked()
        if path.startswith("tests/") and path.endswith(".py")
        for node in ast.walk(ast.parse(text(path)))
        if isinstance(node, ast.Call) and asking.fullmatch(ast.unparse(node.func))
    ]
    assert len(calls) > 10
    assert not [place for place, words in calls if "timeout" not in words]


def tour() -> str:
    return (REPOSITORY / "docs" / "tour.md").read_text(encoding="utf-8")


def rooms() -> list[str]:
    """What the tour's numbered rows name first, in their order: a module, or a package's folder."""
    return re.findall(r"^\| \d \| \[`([^`]+)`\]", tour(), flags=re.MULTILINE)


def test_what_the_tour_names_is_there() -> None:
    linked = [f"docs/{path}" for path in re.findall(r"\]\(([^)#]+)", tour())]
    named = re.findall(r"`(\w+/[\w/]*(?:\.\w+)?)`", tour())
    assert len(linked) > 10 < len(named)
    assert not [path for path in linked + named if not (REPOSITORY / path).exists()]


def test_the_tour_names_every_room() -> None:
    files = [file for top in SOURCE for file in (REPOSITORY / top).glob("*/__init__.py")]
    rooms = {f"{file.parent.relative_to(REPOSITORY)}/" for file in files}
    assert len(rooms) > 40
    assert not {one for one in rooms if one not in tour()} - {"src/presspool/"}


def test_the_tour_s_rooms_lie_in_import_order() -> None:
    """Each is entered from one before it, and none looks back."""
    names = [dotted(room) for room in rooms()]
    assert len(names) == 7
    wanted = {
        room: {
            name
            for path in modules()
            if dotted(path) == room or dotted(path).startswith(f"{room}.")
            for name in imports(path)
        }
        for room in names
    }

    def enters(one: str, other: str) -> bool:
        return any(f"{name}.".startswith(f"{other}.") for name in wanted[one])

    for number, room in enumerate(names):
        assert number == 0 or any(enters(before, room) for before in names[:number]), room
        assert not [before for before in names[:number] if enters(room, before)], room
    assert [enters(one, next_) for one, next_ in pairwise(names[:3])] == [True, True]


@pytest.mark.parametrize(
    ("registry", "base"),
    [
        (doors.TASKS, Task),
        (doors.METHODS, Method),
        (doors.AGGREGATORS, Aggregator),
        (doors.TRUST_MODELS, TrustModel),
        (GRIDS, SimulationGrid),
        (TRACKERS, Tracker),
    ],
)
def test_behind_every_door_is_what_it_says(registry: Registry[Any], base: type) -> None:
    assert registry.names
    for name in registry.names:
        assert issubclass(registry[name], base), name
