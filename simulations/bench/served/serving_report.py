"""What `presspool bench serving` measured, as Markdown for the documentation.

Example: `print(serving_section(figures))`.
"""

from __future__ import annotations

from presspool.simulations.bench.served.serving_bench import EIGHT, ONE, ServingFigures
from presspool.simulations.bench.transport.transport_results import quartiles

_CALLED = {
    "model": "FastAPI, `model(**tokenizer(text))`",
    "pipeline": "FastAPI, a pipeline of transformers",
}


def serving_section(found: ServingFigures) -> str:
    """The figures as a section of a page."""
    asked = found.asked
    lines = [
        f"Written by `presspool bench serving`: {found.base}, texts of {asked.words} words, "
        f"{asked.callers} callers at once by `wrk`, {asked.turns} turns of {asked.seconds:g} s "
        f"each; every process on {found.cores} cores with {asked.threads} thread(s) of torch, on a "
        f"machine whose load over a minute was {found.load[0]:.1f} before and {found.load[1]:.1f} "
        "after. The plain ways have the adapter merged. Calls a second and ratios of one turn: "
        "median and quartiles. At half of capacity calls come by chance (Poisson) and count from "
        "when they were due.",
        _rates(found),
        _half(found),
    ]
    return "\n\n".join(["## Serving", *lines, _aims(found)])


def _rates(found: ServingFigures) -> str:
    lines = [
        "| | calls a second | median, ms | one adapter of ours ÷ it |",
        "| --- |" + " ---: |" * 3,
    ]
    for name, loads in found.fastest.items():
        middle = sorted(1000 * one.median for one in loads)[len(loads) // 2]
        ratio = "" if name == ONE else _spread(found.ratios(ONE, name), 2)
        rate = _spread([one.rate for one in loads], 0)
        lines.append(f"| {_CALLED.get(name, f'ours, {name}')} | {rate} | {middle:.0f} | {ratio} |")
    return "\n".join(lines)


def _half(found: ServingFigures) -> str:
    rate = _spread([one.rate for one in found.half], 0)
    median, p99 = (
        _spread([1000 * getattr(one, name) for one in found.half], 0) for name in ("median", "p99")
    )
    told = f"Ours, {EIGHT}, at half of capacity: {rate} calls a second; median {median} ms, "
    told += f"p99 {p99} ms."
    if found.memory:
        calls, last = found.memory[-1]
        told += f" After {calls:,} more calls the process holds {last:.0f} MB."
    return told


def _spread(values: list[float], digits: int) -> str:
    low, middle, high = quartiles(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _aims(found: ServingFigures) -> str:
    rows = ["| aimed at | measured | |", "| --- | ---: | --- |"]
    for one in found.claims():
        way = "at least" if one.at_least else "at most"
        met = "met" if one.met else "**missed**"
        rows.append(f"| {one.text}: {way} {one.bound:g} | {one.value:.2f} | {met} |")
    return "\n".join(rows)
