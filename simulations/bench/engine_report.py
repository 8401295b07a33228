"""What `presspool bench engine` measured, as a drawing and as Markdown for the documentation.

Example: `draw(bench, Path("engine.svg"))`; `section(bench)` is the text.
"""

from collections.abc import Sequence
from pathlib import Path

from presspool.simulations.bench.engine_results import BASELINE, EngineBench, EngineMeasurement
from presspool.simulations.bench.engine_rows import ROWS, Row
from presspool.simulations.bench.engine_steps import CONTESTANTS, RECORDS_PER_READER
from presspool.simulations.plots import new_figure, save

TITLES = {
    "peft": "PEFT, non-private",
    "ours-nonprivate": "PressPool, non-private",
    "opacus-hooks": "Opacus hooks, record-level",
    "opacus-ghost": "Opacus ghost clipping, record-level",
    "ours-record": "PressPool, record-level",
    "ours-reader": "PressPool, reader-level",
}
_COLOURS = ("#9aa0a6", "#c8b273", "#7aa6c2", "#35627f", "#a3c28f", "#2f7d3b")


def draw(bench: EngineBench, path: Path) -> None:
    """Bars of each contestant's time by that of non-private PEFT, with quartiles, as SVG."""
    figure = new_figure(9, 4.5)
    axes = figure.subplots()
    width = 0.8 / len(CONTESTANTS)
    for place, name in enumerate(CONTESTANTS):
        ratios = [found[name].ratio(found[BASELINE]) for found in bench.measured.values()]
        axes.bar(
            [row + (place - 2.5) * width for row in range(len(ratios))],
            [ratio for ratio, _ in ratios],
            width=width,
            yerr=[spread / 2 for _, spread in ratios],
            color=_COLOURS[place],
            label=TITLES[name],
        )
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(bench.measured)), [ROWS[row].title for row in bench.measured])
    axes.set_ylabel("seconds a step ÷ non-private PEFT")
    axes.legend(fontsize="small", ncols=2)
    save(figure, path)


def section(bench: EngineBench) -> str:
    """The measurements as Markdown: the machine, one table a row, the targets."""
    device = "GPU" if bench.on_card else "CPU"
    alone = [f", {ROWS[row].title}" for row in bench.measured] if len(bench.measured) == 1 else []
    parts = [
        f"## The training engine on a {device}{''.join(alone)}",
        "Seconds of a full step: forward, backward, clipping, noise, SGD update. The contestants "
        "take turns; ± is the distance between the quartiles. Memory is the peak of model, "
        "activations and gradients above the imported libraries. Reader-level groups "
        f"{RECORDS_PER_READER} records a reader.",
        "\n".join(f"- {key}: {value}" for key, value in bench.machine.items()),
    ]
    for name, found in bench.measured.items():
        parts.append(_table(bench, name, found))
    parts.append(_claims(bench))
    return "\n\n".join(parts)


def _table(bench: EngineBench, name: str, found: dict[str, EngineMeasurement]) -> str:
    row = bench.row(name)
    heads = ["", "÷ PEFT", "÷ PEFT, CPU time", "seconds a step", "records/s", "tokens/s", "peak MB"]
    heads += ["share of the card's peak"] if bench.on_card else []
    cells = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for contestant, one in found.items():
        cells.append([TITLES[contestant], *_figures(row, one, found[BASELINE])])
        if bench.on_card:
            share = bench.share_of_peak(name, one)
            cells[-1].append("unknown" if share is None else f"{share:.1%}")
    title = f"### {row.title}, {row.records} × {_span(row.lengths)} tokens"
    lines = (f"| {' | '.join(line)} |".replace("|  |", "| |") for line in cells)
    return "\n".join([title, "", *lines])


def _figures(row: Row, one: EngineMeasurement, baseline: EngineMeasurement) -> list[str]:
    ratio, spread = one.ratio(baseline)
    rate = row.records / one.median_seconds
    return [
        f"{ratio:.3f} ± {spread:.3f}",
        f"{one.cpu_ratio(baseline):.3f}",
        f"{one.median_seconds:.4f} ± {one.spread_seconds:.4f}",
        f"{rate:.1f}",
        f"{rate * sum(row.lengths) / row.records:.0f}",
        f"{one.peak_bytes / 1e6:.0f}",
    ]


def _span(lengths: Sequence[int]) -> str:
    least, most = min(lengths), max(lengths)
    return str(most) if least == most else f"{least} to {most}"


def _claims(bench: EngineBench) -> str:
    lines = ["### Targets", "", "| | measured | at most | |", "| --- | ---: | ---: | --- |"]
    lines += [
        f"| {c.text} | {c.value:.3f} | {c.bound:.2f} | {'met' if c.met else 'not met'} |"
        for c in bench.claims()
    ]
    return "\n".join(lines)
