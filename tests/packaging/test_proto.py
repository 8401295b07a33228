"""The generated code of the wire is what the checked-in .proto files say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY

PROTO = Path("presspool/common/proto")


def test_the_generated_code_is_fresh(tmp_path: Path) -> None:
    source = REPOSITORY / "src"
    files = sorted(str(path.relative_to(source)) for path in (source / PROTO).glob("*.proto"))
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            "-I",
            str(source),
            f"--python_out={tmp_path}",
            f"--pyi_out={tmp_path}",
            f"--grpc_python_out={tmp_path}",
            *files,
        ],
        check=True,
        cwd=source,
    )
    made = sorted((tmp_path / PROTO).iterdir())
    assert len(made) == 3 * len(files) > 0
    for path in made:
        assert path.read_text() == (source / PROTO / path.name).read_text(), "run `make proto`"
