"""`outlet.toml`: what only the outlet itself decides about its node.

::

    name = "daily-bugle"
    data = "readers.parquet"          # relative to this file

    [columns]                         # only where they differ from these
    reader = "reader"
    text = "text"
    label = "label"

`deterministic` is a local switch for tests and simulations: noise that can be drawn again protects
nobody, and everything made with it is labelled so.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from presspool.common.contract import Name, validate
from presspool.common.errors import ContractError, InputError
from presspool.common.tables import Columns


class OutletSettings(BaseModel):
    """One outlet's own settings.

    Attributes:
        name: the outlet, as contracts call it.
        data: its readers' records.
        columns: how its columns are called.
        deterministic: seed of reproducible, hence non-private, noise; None for real noise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    data: Path
    columns: Columns = Columns()
    deterministic: int | None = None


def read_settings(path: Path) -> OutletSettings:
    """Read `outlet.toml`; a relative data path is taken from the file's own folder.

    Raises:
        InputError: missing, not TOML, or a wrong or unknown key.
    """
    try:
        body = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            "cannot read the outlet's settings", where=str(path), got=str(error),
            advice="see `presspool outlet --help` for an example",
        ) from None  # fmt: skip
    try:
        settings = validate(OutletSettings, body, where=str(path))
    except ContractError as error:  # no contract is at fault, and the coordinator is told a code
        raise InputError(
            error.what, where=error.where, expected=error.expected, got=error.got,
            advice=error.advice,
        ) from None  # fmt: skip
    return settings.model_copy(update={"data": path.parent / settings.data})
