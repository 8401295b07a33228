"""Measurements of `presspool bench engine`, and what they say about the engine's targets.

Invariants:
- Ratios are taken turn by turn and then summed up by their median, so that a slow minute of the
  machine, which falls on a whole turn, cancels out.
- Nothing is asserted about times; `claims` says beside each target whether it was met.

Example:
    >>> steps = [Timing(seconds=s, cpu_seconds=s) for s in (1.0, 1.2, 1.1)]
    >>> EngineMeasurement(timings=steps, peak_bytes=10, trainable=5).median_seconds
    1.1
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from presspool.simulations.bench.claims import Claim
from presspool.simulations.bench.engine_flops import peak_of, step_flops
from presspool.simulations.bench.engine_rows import ROWS, Row
from presspool.simulations.bench.engine_steps import RECORDS_PER_READER

BASELINE = "peft"
_BOUNDS = {
    "minilm-qv": 1.00,
    "minilm-all": 0.92,
    "minilm-qv-mixed": 1.00,
    "minilm-all-mixed": 0.95,
    "smollm2-qv": 1.00,
}


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One step: wall-clock seconds, and CPU seconds over all threads."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class EngineMeasurement:
    """One contestant on one row.

    Attributes:
        timings: the steps, in the order of the turns.
        peak_bytes: peak memory above that of a process which has imported its libraries.
        trainable: trained numbers.
    """

    timings: Sequence[Timing]
    peak_bytes: int
    trainable: int

    @property
    def median_seconds(self) -> float:
        """Median wall-clock seconds a step."""
        return statistics.median(t.seconds for t in self.timings)

    @property
    def spread_seconds(self) -> float:
        """Distance between the quartiles of the seconds a step."""
        return _spread([t.seconds for t in self.timings])

    def ratio(self, other: Self) -> tuple[float, float]:
        """Median and quartile distance of this one's seconds by the other's, turn by turn."""
        pairs = zip(self.timings, other.timings, strict=True)
        ratios = [mine.seconds / theirs.seconds for mine, theirs in pairs]
        return statistics.median(ratios), _spread(ratios)

    def cpu_ratio(self, other: Self) -> float:
        """As `ratio`, by CPU seconds, which a busy machine disturbs less."""
        pairs = zip(self.timings, other.timings, strict=True)
        return statistics.median(mine.cpu_seconds / theirs.cpu_seconds for mine, theirs in pairs)


def _spread(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return high - low


@dataclass(frozen=True, kw_only=True)
class EngineBench:
    """All measurements of one run of the command.

    Attributes:
        machine: what it ran on, for people.
        measured: row name to contestant name to measurement.
    """

    machine: dict[str, str]
    measured: dict[str, dict[str, EngineMeasurement]]

    def row(self, name: str) -> Row:
        """A measured row, with the records that it had."""
        return ROWS[name].on("cuda" if self.on_card else "cpu")

    @property
    def on_card(self) -> bool:
        """Whether a graphics processor was measured."""
        return self.machine["graphics processor"] != "not used"

    def share_of_peak(self, name: str, one: EngineMeasurement) -> float | None:
        """Of the card's bf16 peak, what a contestant used for the row; None: peak not known."""
        peak = peak_of(self.machine["graphics processor"])
        if peak is None:
            return None
        return step_flops(self.row(name), one.trainable) / (one.median_seconds * peak)

    def claims(self) -> list[Claim]:
        """The engine's targets, as far as the measured rows tell."""
        return [claim for row in self.measured for claim in self._claims_of(row)]

    def _claims_of(self, row: str) -> Iterator[Claim]:
        found, title = self.measured[row], self.row(row).title
        ours, peft = found["ours-reader"], found[BASELINE]
        bound = _BOUNDS.get(row)
        if bound is not None:
            text = f"{title}: reader-level ÷ non-private PEFT"
            yield Claim(text=text, value=ours.ratio(peft)[0], bound=bound)
        text = f"{title}: reader-level ÷ our own non-private"
        yield Claim(text=text, value=ours.ratio(found["ours-nonprivate"])[0], bound=1.03)
        text = f"{title}: reader-level ÷ record-level"
        yield Claim(text=text, value=ours.ratio(found["ours-record"])[0], bound=1.03)
        text = f"{title}: reader-level ÷ Opacus hooks"
        yield Claim(text=text, value=ours.ratio(found["opacus-hooks"])[0], bound=1.0)
        readers = self.row(row).records // RECORDS_PER_READER
        allowed = 1.05 * peft.peak_bytes + 4 * readers * ours.trainable
        text = f"{title}: peak memory ÷ (1.05 × PEFT + readers × trained × 4 bytes)"
        yield Claim(text=text, value=ours.peak_bytes / allowed, bound=1.0)

    def to_json(self) -> dict[str, Any]:
        """Everything measured and derived, as plain values."""
        rows = {
            row: {
                name: asdict(one)
                | {
                    "median_seconds": one.median_seconds,
                    "spread_seconds": one.spread_seconds,
                    "ratio": one.ratio(found[BASELINE])[0],
                    "ratio_spread": one.ratio(found[BASELINE])[1],
                    "cpu_ratio": one.cpu_ratio(found[BASELINE]),
                    "samples_per_second": self.row(row).records / one.median_seconds,
                    "tokens_per_second": sum(self.row(row).lengths) / one.median_seconds,
                    "share_of_peak": self.share_of_peak(row, one),
                }
                for name, one in found.items()
            }
            for row, found in self.measured.items()
        }
        claims = [asdict(claim) | {"met": claim.met} for claim in self.claims()]
        return {"machine": self.machine, "rows": rows, "claims": claims}
