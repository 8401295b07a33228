r"""Sections of documentation pages that a command writes, between two HTML comments.

What stands around the section is written by people and stays as it is.

Example:
    >>> put_section("# Results\n", "outlets", "| a |")
    '# Results\n\n<!-- outlets: begin -->\n| a |\n<!-- outlets: end -->\n'
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from presspool.common.base.files import replace_file


def write_section(page: Path, name: str, text: str) -> None:
    """Put `text` into the page's section `name`, adding the section where it is missing.

    Raises:
        StorageError: the disk refuses; the page is unchanged.
    """
    before = page.read_text(encoding="utf-8") if page.exists() else ""
    page.parent.mkdir(parents=True, exist_ok=True)
    replace_file(page, put_section(before, name, text).encode())


def put_section(page: str, name: str, text: str) -> str:
    """The page with the section's content replaced, or appended where there is none."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    section = f"{begin}\n{text.strip()}\n{end}"
    if begin in page and end in page:
        head, _, rest = page.partition(begin)
        return head + section + rest.partition(end)[2]
    return f"{page.rstrip()}\n\n{section}\n".lstrip()


def commit() -> str:
    """The repository's commit, marked where the work tree has changes; "unknown" outside git."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()
