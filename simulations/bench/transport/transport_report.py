"""What `presspool bench transport` measured, as Markdown for the documentation.

Example: `print(section(bench))`.
"""

from __future__ import annotations

from presspool.simulations.bench.transport.transport_results import (
    TransportBench,
    TransportMeasurement,
    quartiles,
)


def section(bench: TransportBench) -> str:
    """The measurements as Markdown: the machine, the loads, the targets."""
    return "\n\n".join(
        [
            "## The transport",
            "Seconds of a whole round on one machine, nothing trained: the adapter goes down to "
            "every outlet and an update of the same size comes up from each. Ours: the real "
            "coordinator and agents over mutual TLS, updates on its disk, admitted and "
            "averaged. Stock: a SuperLink with TLS and SuperNodes, nothing checked or averaged. "
            "They take turns in one run; the ratio is the median over turns. Memory is the "
            "coordinator's peak above what it holds "
            "with the adapter ready; adapters are in arrays of 1 MB.",
            _arrivals(bench.large),
            "\n".join(f"- {key}: {value}" for key, value in bench.machine.items()),
            _loads([bench.small, bench.large, bench.many]),
            _claims(bench),
        ]
    )


def _loads(found: list[TransportMeasurement]) -> str:
    lines = [
        "| outlets | MB each way | ours: median (quartiles) | rounds | stock: median (quartiles) "
        "| rounds | stock ÷ ours | memory, MB |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in found:
        theirs, ratio = ("–", "–") if not one.stock else (_spread(one.stock), f"{one.speed_up:.1f}")
        lines.append(
            f"| {one.load.outlets} | {one.load.megabytes} | {_spread(one.ours)} | {len(one.ours)} "
            f"| {theirs} | {len(one.stock)} | {ratio} | {one.peak_bytes / 1e6:.0f} |"
        )
    return "\n".join(lines)


def _arrivals(large: TransportMeasurement) -> str:
    if not large.stock:
        return "Stock Flower took no part."
    ours, theirs = large.arrivals
    return (
        f"Of a round with {large.load.megabytes} MB, from the moment that the first outlet has its "
        f"answer until the coordinator has all of them: ours {ours:.2f} s, kept on both sides' "
        f"disks with digest and signature checked; stock {theirs:.2f} s, kept in memory."
    )


def _spread(seconds: list[float]) -> str:
    low, middle, high = quartiles(seconds)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def _claims(bench: TransportBench) -> str:
    lines = ["### Targets", "", "| | measured | target | |", "| --- | ---: | ---: | --- |"]
    for claim in bench.claims():
        way = "at least" if claim.at_least else "at most"
        met = "met" if claim.met else "not met"
        lines.append(f"| {claim.text} | {claim.value:.2f} | {way} {claim.bound:.2f} | {met} |")
    return "\n".join(lines)
