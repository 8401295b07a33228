"""A run's cost model for people: what it comes to, and the points that it stands on.

Example: `render(what_if(contract), out)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from presspool.common.base.console import out, print_json, progress
from presspool.common.base.numbers import byte_text, duration, percent
from presspool.simulations.planning.linear_fit import LinearFit
from presspool.simulations.planning.what_if import OUTLETS, Prices, WhatIf, pieces_of_work, what_if

if TYPE_CHECKING:
    from presspool.common.runs.run_file import RunFile


def show(run: RunFile, *, outlets: int | None, prices: Prices, as_json: bool) -> None:
    """Measure a run's cost model and print it."""
    from presspool.common.runs.run_file import freeze

    contract = freeze(run.contract, fetch=True)
    with progress("points measured", total=pieces_of_work()) as advance:
        found = what_if(contract, outlets=outlets or OUTLETS, prices=prices, on_point=advance)
    print_json(found.to_json()) if as_json else render(found, out)


def render(found: WhatIf, console: Console) -> None:
    """Print the cost model for people."""
    console.print(
        f"What if {found.outlets:,} outlets, {found.asked:,} of them in a round, ran it for "
        f"{found.rounds:,} rounds?",
        style="bold",
        soft_wrap=True,
    )
    table = Table("", "a round", "the run")
    for says, each, whole in _rows(found):
        table.add_row(says, each, whole)
    console.print(table)
    for what, price in found.money.items():
        console.print(f"money, {what}: {price:,.2f}")
    if found.money:
        console.print(f"money, together: {sum(found.money.values()):,.2f}")
    _render_fits(found, console)


def _rows(found: WhatIf) -> list[tuple[str, str, str]]:
    asked, rounds = found.asked, found.rounds
    step = found.step.at(found.readers)
    return [
        (
            f"down to an outlet ({byte_text(found.bytes_contract)} of it the contract)",
            byte_text(found.bytes_down),
            byte_text(found.bytes_down * rounds),
        ),
        ("up from an outlet", byte_text(found.bytes_up), byte_text(found.bytes_up * rounds)),
        ("moved at the coordinator", byte_text(found.traffic / rounds), byte_text(found.traffic)),
        (
            "coordinator's processor",
            duration(found.coordinator.at(asked)),
            duration(found.seconds_of_coordinator),
        ),
        ("coordinator's memory, at most", byte_text(found.memory_of_coordinator), "the same"),
        (
            f"an outlet's processor ({found.readers:.1f} readers a step)",
            duration(step * found.steps),
            duration(found.seconds_of_outlet),
        ),
    ]


def _render_fits(found: WhatIf, console: Console) -> None:
    console.print("\nMeasured here, and what the line through it says:", style="bold")
    table = Table("", "at", "measured", "line", "off by")
    for title, fit, written in _fits(found):
        for x, y in fit.points:
            off = percent(abs(fit.at(x) - y) / y if y else None)
            table.add_row(title, f"{x:g}", written(y), written(fit.at(x)), off)
            title = ""  # noqa: PLW2901  once for each fit
    console.print(table)
    beyond = found.asked / found.coordinator.points[-1][0]
    console.print(
        f"{found.asked:,} answers are {beyond:,.0f} times the most that were measured: an "
        "extrapolation. Processor seconds are of this machine. Not in it: database, network, TLS, "
        "and people.",
        soft_wrap=True,
    )


def _fits(found: WhatIf) -> list[tuple[str, LinearFit, Callable[[float], str]]]:
    return [
        ("coordinator's seconds by outlets", found.coordinator, _seconds),
        ("coordinator's memory by outlets", found.memory, byte_text),
        ("an outlet's first step by readers", found.first_step, _seconds),
        ("its later steps by readers", found.step, _seconds),
    ]


def _seconds(value: float) -> str:
    return f"{value:.4f} s"
