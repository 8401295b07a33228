"""What `presspool bench secagg` measured, as Markdown for the documentation.

Example: `print(sums_section(figures))`.
"""

from __future__ import annotations

import statistics

from presspool.simulations.bench.sums.secagg_bench import FLOWER, SumFigures
from presspool.simulations.bench.transport.transport_results import quartiles


def sums_section(found: SumFigures) -> str:
    """The figures as a section of a page."""
    sizes = found.sizes
    return f"""## Secure sums

Written by `presspool bench secagg`: {sizes.outlets} outlets and {sizes.parameters:,} integers, all
parties one after the other in one process, {sizes.turns} turns each, contestants in turns. Work is
processor seconds of all outlets and the coordinator together, median and quartiles; the seconds
beside it are wall-clock on {found.cores} cores whose load over a minute was {found.load[0]:.1f}
before and {found.load[1]:.1f} after. Dropouts come between shares and inputs, where they cost most.
The plain sum is of all outlets' float32 vectors. The exchange of keys, once a run, took
{found.keys:.2f} s of work. {FLOWER} is its own parts for shares, masks and unmasking, all outlets
paired with all. Where outlets drop out, fewer vectors travel than with the plain sum.

| | work, s | above plain, s | seconds, median | bytes ÷ plain | all bytes, MB |
| --- | ---: | ---: | ---: | ---: | ---: |
{_rows(found)}

### Targets

| | measured | at most | |
| --- | ---: | ---: | --- |
{_targets(found)}"""


def _rows(found: SumFigures) -> str:
    return "\n".join(
        f"| {name} | {_median_and_quartiles(cost.work)} | "
        f"{statistics.median(found.above(name)):.2f} | {statistics.median(cost.seconds):.2f} | "
        f"{found.ratio(name):.3f} | {cost.bytes / 1e6:.1f} |"
        for name, cost in found.costs.items()
    )


def _median_and_quartiles(seconds: list[float]) -> str:
    low, middle, high = quartiles(seconds)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def _targets(found: SumFigures) -> str:
    return "\n".join(
        f"| {c.text} | {c.value:.2f} | {c.bound:.2f} | {'met' if c.met else 'not met'} |"
        for c in found.claims()
    )
