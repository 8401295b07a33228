"""What methods cost, for people: on a screen, and as a section of a documentation page.

Example: `render(found, 0.002, out)`; `write_section(page, SECTION, markdown(found, 0.002))`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from presspool.simulations.planning.method_costs import MethodCost

SECTION = "methods"
_HEADINGS = ("method", "adapter", "head", "bytes a round", "noise on products", "on features")


def render(found: Sequence[MethodCost], noise: float, console: Console) -> None:
    """Print methods that can train as a table, and why the others cannot."""
    table = Table(*_HEADINGS)
    for row in _rows(found):
        table.add_row(*row)
    console.print(table)
    console.print(_said(noise), soft_wrap=True)
    for cost in found:
        if cost.refused:
            console.print(f"{cost.name}: refused: {cost.refused}", markup=False, soft_wrap=True)


def markdown(found: Sequence[MethodCost], noise: float) -> str:
    """Both lists as tables."""
    lines = [" | ".join(_HEADINGS), " | ".join(["---", *["---:"] * (len(_HEADINGS) - 1)])]
    lines += [" | ".join(row) for row in _rows(found)]
    refused = [f"`{cost.name}` | {cost.refused}" for cost in found if cost.refused]
    reasons = ["refused | why", "--- | ---", *refused]
    tables = ["\n".join(f"| {line} |" for line in table) for table in (lines, reasons)]
    return "\n\n".join([tables[0], f"{_said(noise)}", tables[1]])


def _said(noise: float) -> str:
    return f"Noise: of standard deviation {noise:.3g} on each number of the adapter, over the run."


def _rows(found: Sequence[MethodCost]) -> Iterator[tuple[str, ...]]:
    for cost in found:
        if cost.refused:
            continue
        sizes, noises = cost.parameters or {}, (cost.product_noise, cost.feature_noise)
        yield (
            cost.name,
            *(f"{sizes.get(group, 0):,}" for group in ("adapter", "head")),
            f"{cost.bytes:,}",
            *("" if noise is None else f"{noise:.2g}" for noise in noises),
        )
