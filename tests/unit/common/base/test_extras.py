"""Without an extra: what it is for says so at once, and everything else works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY

BLOCKED = """
import sys
sys.modules.update(dict.fromkeys({packages!r}))
from presspool.cli import main
main()
"""
SWEPT = ("examples/run.toml", "--grid", "examples/sweep.toml")


def presspool(*arguments: str | Path, without: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a Python that has not these packages."""
    program = BLOCKED.format(packages=without.split())
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("extra", "package", "arguments"),
    [
        ("plots", "matplotlib", ["bench", "engine", "--repeats", "1", "--out"]),
        ("plots", "matplotlib", ["experiment", "agnews", "--data", "nowhere", "--out"]),
        ("sweep", "optuna", ["sweep", *SWEPT, "--out"]),
        ("mlflow", "mlflow", ["simulate", SWEPT[0], "--track", "mlflow", "--out"]),
        ("wandb", "wandb", ["sweep", *SWEPT, "--track", "wandb", "--out"]),
    ],
)
def test_a_command_that_needs_the_extra_says_so_before_it_works(
    tmp_path: Path, extra: str, package: str, arguments: list[str]
) -> None:
    found = presspool(*arguments, tmp_path / "out", without=package)
    assert found.returncode == 2, found.stderr
    assert f"expected the extra `{extra}`" in found.stderr
    assert f"pip install 'presspool[{extra}]'" in found.stderr
    assert "Traceback" not in found.stderr
    assert not (tmp_path / "out").exists()


def test_help_is_there_without_any_extra() -> None:
    found = presspool(
        "--help",
        without="fastapi gguf matplotlib mlflow optuna prometheus_client psycopg rouge_score "
        "sacrebleu starlette tensorboard uvicorn wandb weasyprint",
    )
    assert found.returncode == 0, found.stderr
