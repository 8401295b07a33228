"""`presspool outlet count`: noised counts of this outlet's readers, asked and paid for once.

Example: `presspool outlet count mood.toml`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from presspool.common.base.console import out, print_json


def count(
    query: Annotated[Path, typer.Argument(help="The query: name, labels, periods, share.")],
    home: Annotated[Path, typer.Option(help="The outlet's folder, with outlet.toml.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count readers by label and period, with noise; one answer for each name, for ever.

    The answer is paid for from the lifetime budget that training has too, so policy.toml must allow
    it ([counts] allowed = true). What is written to counts/ may be shown to anybody. The snapshot
    needs labels and days ([care] day in outlet.toml).

    Example: presspool outlet count mood.toml
    """
    from presspool.client.opinion.counts_release import answer
    from presspool.client.opinion.opinion_query import read_query
    from presspool.common.released.counts_document import CountsDocument

    path = answer(home, read_query(query))
    found = CountsDocument.read(path)
    if as_json:
        print_json({"answer": str(path), **found.model_dump(mode="json")})
        return
    out.print(found.statement)
    out.print(f"wrote {path}; presspool opinion {path} shows it")
