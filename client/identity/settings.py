"""`outlet.toml`: what only the outlet itself decides about itself.

::

    name = "daily-bugle"              # only where it has not joined: a membership brings the name
    data = "readers.parquet"          # what `outlet import` reads; relative to this file, or a
                                      # table [data] (`presspool.client.identity.data_table`)
    policy = "policy.toml"            # both, or neither where an outlet is only simulated
    ledger = "ledger.db"
    work_mib = 4096                   # what unfinished work may take of the disk

    [columns]                         # only where they differ from these
    reader = "reader"
    text = "text"
    label = "label"

    [care]                            # what an import does besides: `CareTable`
    duplicates = "exact"

`deterministic` is a local switch for tests and simulations: noise that can be drawn again protects
nobody, and everything made with it is labelled so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, StrictInt, model_validator

from presspool.client.identity.care_table import CareTable
from presspool.client.identity.data_table import DataTable
from presspool.client.identity.identity import joined_as
from presspool.common.base.errors import InputError
from presspool.common.base.toml_values import read_toml
from presspool.common.base.validation import validate
from presspool.common.contract.contract_schema import Name
from presspool.common.data.remote_file import File, Place, RemoteFile
from presspool.common.data.tables import Columns, refuse_flat_columns
from presspool.common.ledger.entries import RandomId


class OutletSettings(BaseModel):
    """One outlet's own settings.

    Attributes:
        name: the outlet, as contracts call it; the membership's where it has joined.
        data: its readers' records: a real outlet imports them, a simulation reads them, by a URL
            where whoever reads them is elsewhere.
        columns: how that file's columns are called.
        care: what an import does to records besides judging them.
        deterministic: seed of reproducible, hence non-private, noise; None for real noise.
        policy: its rules (`presspool.client.consent.policy`).
        ledger: its budget ledger (`presspool.client.consent.budget`).
        dataset: random id of the data in the ledger; None for the ledger's only data set.
        task_megabytes: largest task that is taken; what declares more is not read.
        work_mib: MiB that the folder of unfinished work may take.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    data: Place | DataTable
    columns: Columns = Columns()
    care: CareTable = CareTable()
    deterministic: StrictInt | None = None
    policy: Path | None = None
    ledger: Path | None = None
    dataset: RandomId | None = None
    task_megabytes: Annotated[int, Field(strict=True, ge=1, le=2047)] = 512
    work_mib: Annotated[int, Field(ge=1, le=1 << 20, strict=True)] = 4096
    _home: Path = PrivateAttr(default=Path())

    @property
    def home(self) -> Path:
        """The folder of the file that these were read from."""
        return self._home

    @property
    def file(self) -> File:
        """The file of records; raises `InputError` where they lie in a database."""
        if isinstance(self.data, Path):
            return self.data
        if isinstance(self.data, str):
            return RemoteFile(self.data)
        raise InputError(
            "a simulation reads a file",
            where=f"{self.home / 'outlet.toml'} [data]",
            expected='data = "FILE"',
            got=self.data,
            advice="simulate on the snapshot that presspool outlet import makes",
        )

    def require_noise(self, *, loopback: bool) -> None:
        """Raise `InputError` for noise that can be drawn again and a coordinator elsewhere.

        Args:
            loopback: the coordinator is known to be on this machine.
        """
        if self.deterministic is not None and not loopback:
            raise InputError(
                "noise that can be drawn again protects nobody",
                where=f"{self.home / 'outlet.toml'} deterministic",
                expected="no such line, or a coordinator that is known to be on this machine",
                got=self.deterministic,
                advice="remove the line",
            )

    @model_validator(mode="after")
    def _both_or_neither(self) -> OutletSettings:
        if (self.policy is None) != (self.ledger is None):
            raise ValueError("policy and ledger: give both, or neither in a simulation")
        if self.policy is not None and isinstance(self.data, str):
            raise ValueError("data: a file's path or a table; a URL is a simulation's")
        return self


def read_settings(path: Path) -> OutletSettings:
    """Read `outlet.toml`; relative paths are taken from the file's own folder.

    Raises:
        InputError: missing, not TOML, a wrong or unknown key, or another name than the pool's.
    """
    body = read_toml(
        path,
        what="cannot read the outlet's settings",
        advice="presspool outlet init writes one; docs/guides/outlet.md shows an example",
    )
    refuse_flat_columns(body, where=str(path), fault=InputError)
    if (name := joined_as(path.parent)) is not None and body.setdefault("name", name) != name:
        raise InputError(
            "another outlet's settings",
            where=f"{path} name",
            expected=f"{name}, as the pool that this outlet has joined calls it",
            got=body["name"],
            advice="remove the line: the name comes from the membership",
        )
    if isinstance(body.get("data"), dict):
        body["data"] = validate(DataTable, body["data"], where=f"{path} [data]", fault=InputError)
    settings = validate(OutletSettings, body, where=str(path), fault=InputError)
    paths = {key: getattr(settings, key) for key in ("data", "policy", "ledger")}
    read = settings.model_copy(
        update={key: path.parent / v for key, v in paths.items() if isinstance(v, Path)}
    )
    read._home = path.parent
    return read
