"""The generated code of the wire is what the checked-in .proto files say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY

PLACES = (Path("presspool/common/proto"), Path("presspool/server/serving/rpc"))


def test_the_generated_code_is_fresh(tmp_path: Path) -> None:
    source = REPOSITORY / "src"
    found = [path for place in PLACES for path in sorted((source / place).glob("*.proto"))]
    files = [str(path.relative_to(source)) for path in found]
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
    made = [path for place in PLACES for path in sorted((tmp_path / place).iterdir())]
    assert len(made) == 3 * len(files) > 0
    for path in made:
        kept = source / path.relative_to(tmp_path)
        assert path.read_text() == kept.read_text(), "run `make proto`"
