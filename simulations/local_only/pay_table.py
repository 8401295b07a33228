"""The table "does it pay to join?": for each outlet its model alone, the run's, and the difference.

The interval of a difference is that of `tidy`: both models are judged on the same held-out records,
which are drawn again and again. Each model was trained once, so it says nothing about how another
draw of the noise would have come out; the notes say so.

Example: `pay_table(together, alone, {"north-post": figures}).render(console)`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from presspool.common.base.numbers import bound
from presspool.simulations.experiments.tidy import Estimate, Floats, Judged, difference

_OTHER_COLUMNS = 75  # characters

NOTES = (
    "alone: trained on the outlet's own readers only, with the run's budget, steps and noise.",
    "rows: held-out rows that both models are judged on, the outlet's own where the file says "
    "whose they are, else all.",
    "difference: together less alone, positive where together is better; 95 % interval over the "
    "held-out rows, the same rows for both. Each model was trained once.",
    "A model alone is for this comparison: whoever hands it on pays its ε as well.",
)


@dataclass(frozen=True, kw_only=True)
class PayRow:
    """One outlet, or the mean over all.

    Attributes:
        outlet: its name.
        readers: declared for it.
        rows: held-out rows that its models are judged on.
        own: whether these are rows of its own.
        alone: figure of its own model.
        together: figure of the run's model.
        difference: by how much together is better.
    """

    outlet: str
    readers: int
    rows: int
    own: bool
    alone: float
    together: float
    difference: Estimate

    @property
    def verdict(self) -> str:
        """Whether it pays, as far as the interval says."""
        if self.difference.above_zero:
            return "yes"
        return "no" if self.difference.high < 0 else "not clear"


@dataclass(frozen=True, kw_only=True)
class PayTable:
    """A run beside its outlets' own models.

    Attributes:
        run: the run's name.
        epsilon: of each model; infinite without noise.
        deterministic: whether the noise could be reproduced, so that nothing is private.
        measure: name of the figure.
        title: the figure for people.
        higher_is_better: its direction.
        rows: by outlet, in the contract's order; last the mean, every outlet counting the same.
    """

    run: str
    epsilon: float
    deterministic: bool
    measure: str
    title: str
    higher_is_better: bool
    rows: tuple[PayRow, ...]

    def to_json(self) -> dict[str, Any]:
        """For machines; ε is null where nothing is protected."""
        rows = [{**asdict(row), "pays": row.verdict} for row in self.rows]
        body = {key: value for key, value in vars(self).items() if key != "rows"}
        epsilon = None if math.isinf(self.epsilon) else self.epsilon
        return {**body, "epsilon": epsilon, "outlets": rows[:-1], "mean": rows[-1]}

    def render(self, console: Console) -> None:
        """Print it, and what must be known to read it rightly."""
        claim = "unprotected" if math.isinf(self.epsilon) else f"ε {bound(self.epsilon)} each"
        claim += ", reproducible noise: not private" if self.deterministic else ""
        direction = "" if self.higher_is_better else " (lower is better)"
        console.print(
            f"Does it pay to join? {self.run}: {self.title}{direction}, {claim}", soft_wrap=True
        )
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("outlet", overflow="fold")
        for heading in ("readers", "rows", "alone", "together", "difference, 95 %", "pays"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in self.rows:
            found = row.difference
            table.add_row(
                row.outlet,
                f"{row.readers:,}",
                f"{row.rows:,}{'' if row.own else ' all'}",
                f"{row.alone:.3f}",
                f"{row.together:.3f}",
                f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]",
                row.verdict,
            )
        whole = max(len(row.outlet) for row in self.rows) + _OTHER_COLUMNS
        table.width = whole if whole > console.width else None  # no name is folded
        console.print(table, crop=False)
        for note in NOTES:
            console.print(f"• {note}", markup=False, soft_wrap=True)


def pay_table(
    together: Judged, alone: Judged, models: Mapping[str, Floats], *, deterministic: bool
) -> PayTable:
    """Compare.

    Args:
        together: the run's model on every held-out record.
        alone: the outlets' models, as an arm of an experiment.
        models: outlet to its own model's figure of every held-out record, (records,).
        deterministic: whether the noise could be reproduced.
    """
    trial, outlet = together.trial, together.outlet
    readers = trial.pool.readers
    rows = []
    for name, figures in models.items():
        mine = outlet == name
        own = bool(mine.any())
        chosen = mine if own else np.ones_like(mine)
        model = replace(alone, pooled=figures, own=figures)
        rows.append(_row(name, readers[name], _of(together, chosen), _of(model, chosen), own=own))
    known = np.isin(outlet, list(models))
    own = bool(known.any())
    chosen = known if own else np.ones_like(known)
    whole = sum(readers.values())
    rows.append(_row("mean", whole, _of(together, chosen), _of(alone, chosen), own=own))
    return PayTable(
        run=trial.pool.name,
        epsilon=trial.epsilon,
        deterministic=deterministic,
        measure=trial.measure.name,
        title=trial.measure.title,
        higher_is_better=trial.measure.higher_is_better,
        rows=tuple(rows),
    )


def _of(judged: Judged, chosen: NDArray[np.bool_]) -> Judged:
    """The same on some of the records."""
    size = judged.size[chosen] if isinstance(judged.size, np.ndarray) else judged.size
    return replace(
        judged,
        pooled=judged.pooled[chosen],
        own=judged.own[chosen],
        outlet=judged.outlet[chosen],
        size=size,
    )


def _row(name: str, readers: int, together: Judged, alone: Judged, *, own: bool) -> PayRow:
    figure = "own" if own else "pooled"
    return PayRow(
        outlet=name,
        readers=readers,
        rows=len(together.outlet),
        own=own,
        alone=alone.mean(figure),
        together=together.mean(figure),
        difference=difference([together], [alone], figure),
    )
