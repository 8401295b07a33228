"""What `presspool bench simulation` measured, as Markdown for the documentation.

Example: `print(simulation_section(figures))`.
"""

from __future__ import annotations

import statistics

from presspool.simulations.bench.simulators.simulator_bench import (
    CONTESTANTS,
    OURS,
    SimulationFigures,
)
from presspool.simulations.bench.transport.transport_results import quartiles


def simulation_section(found: SimulationFigures) -> str:
    """The figures as a section of a page."""
    sizes, (before, after) = found.sizes, found.load
    return f"""## Simulations

Written by `presspool bench simulation`: a round of {sizes.clients} clients with
{sizes.records} records of {sizes.tokens} tokens each, MiniLM with LoRA on q and v and a head of
8 labels, one step a client, clipped and noised for each client. Contestants take turns, each on
one core with one thread, all loaded before; the first round, in which we prove the engine, is not
counted. Ratios are taken turn by turn. Seconds are wall-clock, median and quartiles, on
{found.cores} cores whose load over a minute was {before:.1f} before and {after:.1f} after; work
is processor seconds of all of a contestant's processes.

| | turns | first round, s | seconds a round | ÷ ours | work, s | ÷ ours | memory, MB |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{_rows(found)}

What each does in a round:

{_words(found)}

### Targets

| | measured | target | |
| --- | ---: | ---: | --- |
{_targets(found)}"""


def _rows(found: SimulationFigures) -> str:
    lines = []
    for name, turns in found.turns.items():
        low, middle, high = quartiles([turn.seconds for turn in turns])
        work = statistics.median(turn.work for turn in turns)
        memory = max(turn.resident for turn in turns) / 1e6
        lines.append(
            f"| {name} | {len(turns)} | {found.first[name]:.1f} | "
            f"{middle:.2f} ({low:.2f} to {high:.2f}) | "
            f"{_times(found, name, 'seconds')} | {work:.2f} | {_times(found, name, 'work')} | "
            f"{memory:.0f} |"
        )
    return "\n".join(lines)


def _times(found: SimulationFigures, name: str, what: str) -> str:
    if not found.turns.get(OURS):
        return "–"
    return f"{statistics.median(found.times(name, what)):.2f}"


def _words(found: SimulationFigures) -> str:
    lines = [f"- {name}: {CONTESTANTS[name].what}." for name in found.turns]
    lines += [f"- {name} took no part. {why}." for name, why in found.absent.items()]
    return "\n".join(lines)


def _targets(found: SimulationFigures) -> str:
    return "\n".join(
        f"| {c.text} | {c.value:.3f} | at {'least' if c.at_least else 'most'} {c.bound:.2f} | "
        f"{'met' if c.met else 'not met'} |"
        for c in found.claims()
    )
