"""What is imported is declared in `pyproject.toml`, where it is used; what is declared is used."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY

PACKAGES = ("client", "common", "server", "simulations", "src/presspool")
# Who may import what an extra has.
USERS = {
    "client/data/query_sources.py": "data",
    "common/audit/cli/ui_cli.py": "serve",
    "common/audit/dashboard": "serve",
    "common/audit/pages/report_page.py": "pdf",
    "common/data/checked_patterns.py": "redact",
    "common/data/personal_data.py": "redact",
    "common/data/proper_names.py": "redact",
    "common/models/gguf_conversion.py": "llm",
    "common/released/explained_answers.py": "gate",
    "common/released/exports/gguf_file.py": "llm",
    "common/released/exports/onnx_graph.py": "export",
    "common/tasks/scores/entity_metrics.py": "tagging",
    "common/tasks/scores/text_metrics.py": "llm",
    "server/gate/checks/fairness.py": "gate",
    "server/gate/checks/toxicity.py": "gate",
    "server/registry/model_signature.py": "registry",
    "server/rounds/trackers/mlflow_tracker.py": "mlflow",
    "server/rounds/trackers/tensorboard_tracker.py": "tensorboard",
    "server/rounds/trackers/wandb_tracker.py": "wandb",
    "server/serving": "serve",
    "server/serving/tracing.py": "otel",
    "simulations/bench/served/plain_port.py": "serve",
    "simulations/grids/own_ray.py": "ray",
    "simulations/grids/ray_cluster.py": "ray",
    "simulations/grids/ray_grid.py": "ray",
    "simulations/pictures.py": "dev",
    "simulations/plots.py": "plots",
    "simulations/sweeps/point_search.py": "sweep",
}
# What `presspool bench simulation` installs into environments of their own, and who may import it.
ROOMS = {"simulations/bench/simulators/rooms": {"nvflare", "pfl"}}
# Declared, and loaded by another package that does not require it, or not this one.
LOADED_BY_OTHERS = {
    "click": "typer, which requires no newest one",
    "psycopg": "SQLAlchemy, from the database's URL",
    "pyopenssl": "model-signing, which does not say so",
    "s3fs": "fsspec, from the registry's URL",
}

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
DISTRIBUTIONS = packages_distributions()


def one_spelling(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: list[str]) -> set[str]:
    return {one_spelling(re.split(r"[^\w.-]", text)[0]) for text in requirements}


def files(*folders: str) -> list[Path]:
    # `src/presspool` holds links to the other four, which are not followed.
    return [file for folder in folders for file in sorted((REPOSITORY / folder).rglob("*.py"))]


def foreign(file: Path) -> Iterator[set[str]]:
    """For each import of neither Python's nor our own, the distributions that provide it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found = [node.module]
        for top in {name.partition(".")[0] for name in found}:
            if top not in {*sys.stdlib_module_names, "presspool", "tests"}:
                yield {one_spelling(name) for name in DISTRIBUTIONS.get(top, [top])}


def declared(file: Path) -> set[str]:
    """The distributions that a file may import."""
    path = file.relative_to(REPOSITORY)
    extras = [e for user, e in USERS.items() if path.is_relative_to(user)]
    rooms = (own for room, own in ROOMS.items() if path.is_relative_to(room))
    own = names(PROJECT["dependencies"]).union(*rooms)
    return own.union(*(names(EXTRAS[extra]) for extra in extras))


@pytest.mark.parametrize("folder", PACKAGES)
def test_what_is_imported_is_declared(folder: str) -> None:
    missing = [
        f"{file.relative_to(REPOSITORY)}: {' or '.join(sorted(providers))}"
        for file in files(folder)
        for providers in foreign(file)
        if not providers & declared(file)
    ]
    assert missing == []


def test_what_tests_import_is_declared() -> None:
    known = names(PROJECT["dependencies"]).union(*map(names, EXTRAS.values()))
    imported = [(file.name, p) for file in files("tests") for p in foreign(file)]
    assert [(file, p) for file, p in imported if not p & known] == []


def test_what_is_declared_is_used() -> None:
    imported = set().union(*(p for file in files(*PACKAGES) for p in foreign(file)))
    wanted = [PROJECT["dependencies"], *(e for name, e in EXTRAS.items() if name != "dev")]
    assert set().union(*map(names, wanted)) - imported == set(LOADED_BY_OTHERS)


def test_a_development_install_has_every_extra() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    (installed,) = re.findall(r"installed-dev: .*\n\t.*--editable '\.\[(.*)\]'", makefile)
    assert installed.split(",") == sorted(EXTRAS)


def test_everything_declared_is_pinned_once() -> None:
    """`constraints.txt` names each distribution once, and every one that we name ourselves."""
    pins = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").split()
    pinned = [one_spelling(pin.partition("==")[0]) for pin in pins]
    assert len(pinned) == len(set(pinned))
    assert names(PROJECT["dependencies"]).union(*map(names, EXTRAS.values())) <= set(pinned)


def test_flower_s_private_parts_are_touched_in_one_file() -> None:
    """A benchmark of Flower's own code may look at it."""
    public = re.compile(r"flwr\.(app|clientapp|serverapp)(\.|$)")
    touched = {
        str(file.relative_to(REPOSITORY))
        for file in files(*PACKAGES)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        for name in imported(node)
        if name.split(".")[0] == "flwr" and not public.match(name)
    }
    stranger = {name for name in touched if not name.startswith("simulations/bench/")}
    assert stranger == {"common/wire/flower.py"}


def imported(node: ast.AST) -> list[str]:
    """The modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []
