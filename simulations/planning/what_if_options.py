"""The options of `presspool simulate --what-if`, as typer reads them; nothing heavy is imported.

Example: `def simulate(what_if: WhatIfOption = False, price_gb: PriceGb = None) -> None: ...`.
"""

from __future__ import annotations

from typing import Annotated

import typer

from presspool.common.base.errors import InputError

WhatIfOption = Annotated[
    bool,
    typer.Option(
        "--what-if",
        help="Train nothing: say what the run would cost with --outlets of them (10,000), from "
        "a few measured points.",
    ),
]
PriceCpuHour = Annotated[
    float | None, typer.Option(min=0, help="With --what-if: of an hour of one core.")
]
PriceGb = Annotated[float | None, typer.Option(min=0, help="With --what-if: of 10⁹ bytes moved.")]


def require_one_kind(
    *, local_only: bool, prepare_only: bool, what_if: bool, prices: tuple[float | None, ...]
) -> None:
    """Raise `InputError` where a command asks for two things, or for the price of nothing."""
    if local_only + prepare_only + what_if > 1:
        kinds = "--local-only, --prepare-only and --what-if"
        raise InputError(f"more than one of {kinds}", advice="leave all but one of them out")
    if not what_if and any(price is not None for price in prices):
        raise InputError("a price of a run that is run", advice="add --what-if, or leave it out")
