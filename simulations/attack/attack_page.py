"""`attack.html`: the verdict, and how well each attack tells canaries in from canaries out.

A curve without noise far above the diagonal shows that the attack sees a leak where there is one;
the curve under the plan should lie close to it. Canaries and made readers alone: a result on real
readers is never printed here (`presspool.simulations.attack.attack_report`).

Example: `render(found)` is one self-contained page.
"""

from __future__ import annotations

from presspool.common.audit.pages import charts
from presspool.common.audit.pages.charts import Drawing, Series
from presspool.common.audit.pages.panels import Chart, Panel
from presspool.common.audit.pages.run_report import environment
from presspool.common.base.numbers import percent, percent_tick
from presspool.simulations.attack.findings import Attack, Found
from presspool.simulations.attack.roc import FALSE_POSITIVES, Separation

CHANCE = Series(style="level", name="chance", points=((0.0, 0.0), (1.0, 1.0)), texts=("", ""))


def render(found: Attack) -> str:
    """The page."""
    return _PAGE.render(
        found=found,
        updates=panel(found.updates),
        adapter=panel(found.adapter),
        at=percent_tick(FALSE_POSITIVES),
    )


def panel(found: Found) -> Panel:
    """What one attack found under the plan and without noise, as two curves and a sentence."""
    control, plan = found.control, found.separation
    power = (
        "so it would have seen a leak"
        if found.fired
        else "too little for a verdict: its silence means nothing"
    )
    sentence = (
        f"Without noise the attack finds {percent(control.tpr)} of the canaries that were "
        f"in, at {percent_tick(FALSE_POSITIVES)} false positives, {power}. Under the plan "
        f"it finds {percent(plan.tpr)}, and {found.guesses.right} of its "
        f"{found.guesses.made} guesses were right."
    )
    lines = [_line("main", "without noise", control), _line("second", "under the plan", plan)]

    def draw(width: int) -> Drawing:
        x, y = (
            charts.nice_axis(0, 1, count=5, label=percent_tick, title=title)
            for title in ("canaries left out that are taken for in", "canaries in that are found")
        )
        return charts.line_chart([CHANCE, *lines], x=x, y=y, width=width)

    return Panel(
        sentence=sentence,
        chart=Chart(
            alt=f"ROC curves of the attack. {sentence}",
            wide=draw(charts.WIDE),
            narrow=draw(charts.NARROW),
            legend=tuple((line.style, line.name) for line in (*lines, CHANCE)),
        ),
    )


def _line(style: str, name: str, found: Separation) -> Series:
    texts = tuple(
        f"{name}: {percent(tpr)} found at {percent(fpr)} false positives"
        for fpr, tpr in found.curve
    )
    return Series(style=style, name=name, points=found.curve, texts=texts)


_PAGE = environment("presspool.simulations.attack").get_template("attack.html")
