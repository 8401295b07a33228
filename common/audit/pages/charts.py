"""How a result's figures look as small line and bar drawings.

A drawing is plain geometry in SVG user units; the report's template turns it into SVG, so that
escaping, colours and dark mode stay in one place. Each chart is drawn once for a wide column and
once for a phone, because text that shrinks with its `viewBox` cannot be read.

Invariants:
    * Every tick label carries its unit, or the axis title does.
    * Coordinates have one decimal: a report of a hundred rounds stays small.

Example:
    >>> from presspool.common.base.numbers import percent_tick
    >>> axis = nice_axis(0.31, 0.64, count=4, label=percent_tick, title="accuracy")
    >>> [tick.label for tick in axis.ticks]
    ['30%', '40%', '50%', '60%', '70%']
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

WIDE, NARROW = 720, 360
_LABELLED = 60  # rounds beyond this get one path instead of one hoverable mark each


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A labelled place on an axis, in the axis's own values."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What one side of a chart shows, from `low` to `high`."""

    low: float
    high: float
    ticks: tuple[Tick, ...]
    title: str

    def along(self, value: float, start: float, end: float) -> float:
        """Where this value stands between two coordinates."""
        return start + (value - self.low) / (self.high - self.low) * (end - start)


def nice_axis(
    low: float, high: float, *, count: int, label: Callable[[float], str], title: str
) -> Axis:
    """An axis over [low, high] whose ticks are about `count` steps of 1, 2 or 5 times 10^k."""
    span = high - low if high - low > 1e-9 * max(abs(low), 1e-290) else 1.0  # no step below floats
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(power * m for m in (1, 2, 5, 10) if span / (power * m) <= count + 1e-9)
    first, last = math.floor(low / step + 1e-9), math.ceil((low + span) / step - 1e-9)
    ticks = tuple(Tick(at=n * step, label=label(n * step)) for n in range(first, last + 1))
    return Axis(low=first * step, high=last * step, ticks=ticks, title=title)


def round_axis(first: int, last: int, *, count: int, pad: float = 0.0) -> Axis:
    """The rounds from `first` to `last`, with whole numbers as ticks."""
    step = next(
        10**k * m for k in range(10) for m in (1, 2, 5) if (last - first) / (10**k * m) <= count
    )
    numbers = range(-(-first // step) * step, last + 1, step)
    ticks = tuple(Tick(at=number, label=str(number)) for number in numbers)
    high = max(last, first + 1) if pad == 0 else last
    return Axis(low=first - pad, high=high + pad, ticks=ticks, title="round")


def day_axis(first: date, last: date, *, count: int) -> Axis:
    """The days from `first` to `last` as ordinals; ticks at days, months or years that fit."""
    last = max(last, first + timedelta(days=1))
    days = (last - first).days
    for step in (1, 2, 7, 14):
        if days / step <= count:
            shown = [first + timedelta(days=n) for n in range(0, days + 1, step)]
            break
    else:
        shown = _months(first, last, count)
    form = (
        "{0:%Y}"
        if all((d.month, d.day) == (1, 1) for d in shown)
        else ("{0:%b %Y}" if all(d.day == 1 for d in shown) else "{0.day} {0:%b}")
    )
    ticks = tuple(Tick(at=d.toordinal(), label=form.format(d)) for d in shown)
    return Axis(low=first.toordinal(), high=last.toordinal(), ticks=ticks, title="day")


def _months(first: date, last: date, count: int) -> list[date]:
    """Firsts of months inside the span, few enough."""
    months = range(first.year * 12 + first.month, last.year * 12 + last.month)
    for step in (1, 2, 3, 6, *(12 * 10**k * m for k in range(4) for m in (1, 2, 5))):
        found = [date(n // 12, n % 12 + 1, 1) for n in months if n % step == 0]
        if len(found) <= count:
            return found
    return []


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A placed text, dot or path; `style` is a class of the report's style sheet."""

    style: str
    x: float = 0.0
    y: float = 0.0
    text: str = ""
    path: str = ""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A chart in user units: the size, the plot's box, ticks and marks at their places."""

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    x_title: str
    y_title: str
    x_ticks: tuple[Mark, ...]
    y_ticks: tuple[Mark, ...]
    paths: tuple[Mark, ...] = ()
    dots: tuple[Mark, ...] = ()
    texts: tuple[Mark, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points of one measure, each with the text that a pointer shows; `end` labels the last.

    A `stepped` line keeps each value until the next point: nothing was between them.
    """

    style: str
    name: str
    points: tuple[tuple[float, float], ...]
    texts: tuple[str, ...]
    end: str = ""
    stepped: bool = False


class _Frame:
    """Places values in a box of the given width; shared by both kinds of chart."""

    def __init__(self, width: int, x: Axis, y: Axis, *, right: float) -> None:
        self.width, self.height = width, 260 if width > NARROW else 230
        self.left, self.right = 46.0, width - right
        self.top, self.bottom = 30.0, self.height - 42.0
        self.x_axis, self.y_axis = x, y

    def x(self, value: float) -> float:
        return round(self.x_axis.along(value, self.left, self.right), 1)

    def y(self, value: float) -> float:
        return round(self.y_axis.along(value, self.bottom, self.top), 1)

    def drawing(self, **marks: tuple[Mark, ...]) -> Drawing:
        x_ticks = (Mark(style="x", x=self.x(t.at), text=t.label) for t in self.x_axis.ticks)
        y_ticks = (Mark(style="y", y=self.y(t.at), text=t.label) for t in self.y_axis.ticks)
        return Drawing(
            width=self.width,
            height=self.height,
            left=self.left,
            right=self.right,
            top=self.top,
            bottom=self.bottom,
            x_title=self.x_axis.title,
            y_title=self.y_axis.title,
            x_ticks=tuple(x_ticks),
            y_ticks=tuple(y_ticks),
            **marks,
        )


def line_chart(
    lines: Sequence[Series], *, x: Axis, y: Axis, width: int, level: float | None = None
) -> Drawing:
    """Lines with dots and their last values; `level` draws a dotted line across."""
    frame = _Frame(width, x, y, right=56)
    paths, dots = [], []
    if level is not None:
        across = f"M{frame.left} {frame.y(level)}H{frame.right}"
        paths.append(Mark(style="level", path=across))
    for line in lines:
        places = [(frame.x(a), frame.y(b)) for a, b in line.points]
        (a, b), *rest = places
        drawn = [f"H{x:g}V{y:g}" if line.stepped else f"L{x:g} {y:g}" for x, y in rest]
        paths.append(Mark(style=line.style, path=f"M{a:g} {b:g}{''.join(drawn)}"))
        marked = list(zip(places, line.texts, strict=True))
        dots += [
            Mark(style=line.style, x=a, y=b, text=text)
            for (a, b), text in (marked if len(marked) <= _LABELLED else marked[-1:])
        ]
    return frame.drawing(paths=tuple(paths), dots=tuple(dots), texts=_ends(lines, frame))


@dataclass(frozen=True, kw_only=True)
class Between:
    """A value with the two that it lies between, and the text that a pointer shows."""

    x: float
    value: float
    low: float
    high: float
    text: str


def band_chart(runs: Sequence[Sequence[Between]], *, x: Axis, y: Axis, width: int) -> Drawing:
    """Lines with a band around each; between two runs nothing is known, and nothing drawn."""
    frame = _Frame(width, x, y, right=16)
    paths, dots = [], []
    for run in runs:
        top = [f"{frame.x(p.x):g} {frame.y(p.high):g}" for p in run]
        bottom = [f"{frame.x(p.x):g} {frame.y(p.low):g}" for p in reversed(run)]
        paths.append(Mark(style="band", path=f"M{'L'.join([*top, *bottom])}Z"))
        line = "L".join(f"{frame.x(p.x):g} {frame.y(p.value):g}" for p in run)
        paths.append(Mark(style="main", path=f"M{line}"))
        dots += [Mark(style="main", x=frame.x(p.x), y=frame.y(p.value), text=p.text) for p in run]
        dots += [  # an error bar's ends, so that a run of one point shows its band as well
            Mark(style="second", x=frame.x(p.x), y=frame.y(end), text=p.text)
            for p in (run if len(run) == 1 else ())
            for end in (p.low, p.high)
        ]
    return frame.drawing(paths=tuple(paths), dots=tuple(dots))


def scatter_chart(groups: Sequence[Series], *, x: Axis, y: Axis, width: int) -> Drawing:
    """Dots that no line joins; what stands first lies below."""
    frame = _Frame(width, x, y, right=24)
    dots = [
        Mark(style=group.style, x=frame.x(a), y=frame.y(b), text=text)
        for group in groups
        for (a, b), text in zip(group.points, group.texts, strict=True)
    ]
    return frame.drawing(dots=tuple(dots))


def _ends(lines: Sequence[Series], frame: _Frame) -> tuple[Mark, ...]:
    """Labels at the lines' ends, pushed apart so that no two overlap."""
    placed: list[Mark] = []
    for line in sorted(lines, key=lambda line: -line.points[-1][1]):
        height = frame.y(line.points[-1][1])
        free = max(height, placed[-1].y + 15) if placed else height
        x = frame.x(line.points[-1][0]) + 9
        placed.append(Mark(style=line.style, x=x, y=free, text=line.end))
    return tuple(placed)


def bar_chart(stacks: Sequence[Series], *, x: Axis, y: Axis, width: int) -> Drawing:
    """Bars stacked in the order given, one pile for each x value."""
    frame = _Frame(width, x, y, right=8)
    band = frame.x(x.low + 1) - frame.left
    half = min(14.0, (0.36 if band > 6 else 0.5) * band)  # thinner gaps would only shimmer
    base: dict[float, float] = {}
    paths: list[Mark] = []
    for stack in stacks:
        bars = []
        for (at, value), text in zip(stack.points, stack.texts, strict=True):
            low = base.get(at, 0.0)
            base[at] = low + value
            top, foot = frame.y(low + value), frame.y(low)
            box = f"M{frame.x(at) - half:.1f} {foot:g}V{top:g}h{2 * half:.1f}V{foot:g}z"
            bars.append(Mark(style=stack.style, path=box, text=text))
        joined = Mark(style=stack.style, path="".join(bar.path for bar in bars))
        paths += bars if len(bars) <= _LABELLED else [joined]
    return frame.drawing(paths=tuple(paths))
