"""A comparison of trust models for people: a table, a sentence, and a plot.

Example: `render(found, out)`; `draw(found, Path("plan"))` writes `plan.svg` and `plan.png` there.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from presspool.common.base.numbers import bound, byte_text, percent, percent_tick
from presspool.common.runs.recipe import ADAPTER_PAYS
from presspool.simulations.planning.trust_comparison import TrustComparison, TrustSide
from presspool.simulations.plots import bars, new_figure, save

_COLOURS = {"local": "#9aa0a6", "pooled": "#2f7d3b"}


def render(found: TrustComparison, console: Console) -> None:
    """Print the comparison for people."""
    pool, plan, cohort = found.pool, found.pool.plan, found.pool.cohort
    console.print(found.name, style="bold", markup=False, soft_wrap=True)
    console.print(
        f"{cohort.outlets} outlets, {cohort.readers:,} readers; q = {plan.sampling_rate:g}, "
        f"{plan.steps} steps, δ = {plan.delta:g}\n"
        f"pooled: at most {cohort.colluders} working with the coordinator and {cohort.dropouts} "
        f"missing from a step, {cohort.threshold} to agree on who is left, sums of "
        f"{pool.ring_bits} bits",
        soft_wrap=True,
    )
    table = Table("", *found.sides)
    for says, values in _rows(found):
        table.add_row(says, *values)
    console.print(table)
    console.print(found.verdict, markup=False, soft_wrap=True)


def _rows(found: TrustComparison) -> list[tuple[str, list[str]]]:
    sides = list(found.sides.values())
    rows = [("noise multiplier σ", [f"{side.noise_multiplier:.3f}" for side in sides])]
    rows += [
        (f"noise share of the {group}", [percent(side.noise_share[group]) for side in sides])
        for group in sides[0].noise_share
    ]
    if sides[0].adapter_pays is not None:
        says = f"adapter helps (tried above {percent(ADAPTER_PAYS)}: never)"
        rows.append((says, ["may" if s.adapter_pays else "probably not" for s in sides]))
    for says, figure in _CLAIMS.items():
        rows.append((says, [_bound(figure(side)) for side in sides]))
    rows.append(("bytes an outlet and round", [byte_text(side.vector_bytes) for side in sides]))
    return rows


_CLAIMS: Mapping[str, Callable[[TrustSide], float | None]] = {
    "ε of a reader": lambda side: side.epsilon,
    "… if all others collude": lambda side: side.epsilon_alone,
    "… at two outlets": lambda side: side.epsilon_two,
    "… at every outlet": lambda side: side.epsilon_every,
    "… by a loss distribution": lambda side: side.epsilon_loss,
}


def _bound(value: float | None) -> str:
    return "–" if value is None else bound(value)


def draw(found: TrustComparison, folder: Path) -> list[Path]:
    """Noise shares, and what the claims are worth, as SVG and PNG.

    Raises:
        InputError: Matplotlib is not installed.
    """
    figure = new_figure(9, 4)
    noise, claims = figure.subplots(1, 2, width_ratios=(2, 3))
    groups = list(found.sides["local"].noise_share)
    shares = {
        name: [side.noise_share[group] for group in groups] for name, side in found.sides.items()
    }
    bars(noise, groups, shares, written=percent, colours=_COLOURS)
    noise.set_title("noise by signal, over the run", fontsize="medium")
    noise.yaxis.set_major_formatter(lambda share, _: percent_tick(share))
    if found.sides["local"].adapter_pays is not None:
        place = groups.index("adapter")
        noise.hlines(ADAPTER_PAYS, place - 0.45, place + 0.45, "black", "dashed", linewidth=0.8)
        noise.set_xlabel("dashed: below it an adapter probably helps", fontsize="small")
    told = list(_CLAIMS)[: 4 if found.pool.cohort.outlets > 1 else 2]
    worth = {
        name: [_CLAIMS[says](side) or 0.0 for says in told] for name, side in found.sides.items()
    }
    names = [textwrap.fill(says.removeprefix("… "), 13) for says in told]
    bars(claims, names, worth, written=bound, colours=_COLOURS)
    claims.set_yscale("log")
    claims.set_title("ε on a log scale: more is worse", fontsize="medium")
    claims.legend(loc="upper left", frameon=False)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"plan.{kind}" for kind in ("svg", "png")]
    for path in paths:
        save(figure, path)
    return paths
