"""The links are links, and a wheel holds every module, template and marker."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.conftest import REPOSITORY

PACKAGES = ("client", "common", "server", "simulations")


def test_the_four_packages_are_links() -> None:
    for name in PACKAGES:
        link = REPOSITORY / "src" / "presspool" / name
        assert link.is_symlink(), f"{link} is not a link"
        assert link.resolve() == (REPOSITORY / name).resolve()


def test_the_wheel_holds_every_file(tmp_path: Path) -> None:
    source = tmp_path / "source"
    subprocess.run(
        ["git", "clone", "--quiet", "--no-hardlinks", str(REPOSITORY), str(source)],
        check=True,
        capture_output=True,
    )
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"presspool/{name}/{file.relative_to(source / name)}"
        for name in PACKAGES
        for file in (source / name).rglob("*")
        if file.suffix in {".py", ".html", ".toml"}
    } | {"presspool/__init__.py", "presspool/cli.py", "presspool/py.typed"}
    assert wanted <= held, f"missing: {sorted(wanted - held)}"
    assert not [name for name in held if name.split("/")[0] in PACKAGES]
