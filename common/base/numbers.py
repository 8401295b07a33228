"""How figures are written, wherever a person reads them: shares, ε and δ, bytes, moments.

Invariant: a printed bound (ε, δ) is rounded up, never down.

Example:
    >>> bound(2.9914), bound(0.00001), percent(0.6449), byte_text(1_530_000)
    ('3.00', '1e-5', '64.5%', '1.5 MB')
"""

import time
from decimal import ROUND_CEILING, Context, Decimal

_UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0))


def moment(seconds: float | None = None) -> str:
    """Seconds since 1970 as a moment in UTC; now, if not given.

    Example:
        >>> moment(1_900_000_000)
        '2030-03-17T17:46:40Z'
    """
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def percent(value: float | None) -> str:
    """A share with one decimal; an en dash where nothing was measured."""
    return "–" if value is None else f"{100 * value:.1f}%"


def percent_tick(value: float) -> str:
    """A share without decimals, for axes."""
    return f"{100 * value:.0f}%"


def decimal_text(value: float | None) -> str:
    """A plain measured number, of a large one four digits; an en dash where there is none.

    Example:
        >>> [decimal_text(value) for value in (0.25, 12.3456, 984.959, 3797.186, None)]
        ['0.250', '12.346', '985.0', '3,797', '–']
    """
    if value is None:
        return "–"
    return f"{value:,.{3 if abs(value) < 100 else 1 if abs(value) < 1000 else 0}f}"


def bound(value: float | Decimal) -> str:
    """An ε or δ, rounded up: a promise must not look stronger than it is."""
    exact = value if isinstance(value, Decimal) else Decimal(repr(value))
    if exact == 0:
        return "0"
    if exact >= Decimal("0.01"):
        return f"{exact.quantize(Decimal('0.01'), ROUND_CEILING):,}"
    mantissa, exponent = f"{Context(prec=2, rounding=ROUND_CEILING).plus(exact):.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def plain(value: float) -> str:
    """As `%g`, with the exponent that `bound` writes; for an ε or δ as it was declared."""
    return f"{value:g}".replace("e-0", "e-")


def byte_unit(largest: float) -> tuple[str, float]:
    """The decimal unit in which this many bytes read well, and its size in bytes."""
    return next((unit for unit in _UNITS if largest >= unit[1]), _UNITS[-1])


def byte_text(count: float) -> str:
    """Bytes in a decimal unit."""
    name, size = byte_unit(count)
    return f"{count:.0f} B" if size == 1 else f"{count / size:.1f} {name}"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 59.95:  # 60.0 s is a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
