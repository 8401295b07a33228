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

from presspool.client.readers import Columns
from presspool.common.contract import Name, validate
from presspool.common.errors import InputError


class ColumnNames(BaseModel):
    """Which columns of the data hold reader, text and label."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reader: str = "reader"
    text: str = "text"
    label: str = "label"

    def columns(self) -> Columns:
        """The mapping that `read_readers` takes."""
        return Columns(reader=self.reader, text=self.text, label=self.label)


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
    columns: ColumnNames = ColumnNames()
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
    settings = validate(OutletSettings, body, where=str(path))
    return settings.model_copy(update={"data": path.parent / settings.data})
