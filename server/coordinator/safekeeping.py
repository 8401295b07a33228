"""A coordinator's home as one file, and a home made from it.

The file is a tar (mode 0600) of settings, keys, certificates (viewers' too) and runs, and of the
database where that is SQLite: copied by SQLite's own online backup, so that the coordinator may be
running. Of PostgreSQL it holds nothing: `pg_dump` is the way. Whatever a home calls its SQLite
file, in a backup it is `coordinator.db`, and the settings name none: the home that is made from it
finds its own, and never the one that it came from.

Invariants:
    * The database is copied before the runs' folders: what these say is never older than what the
      consortium log says, so a restored run goes on and never tells a round a second time.
    * A home is made whole or not at all, and never over another one.

Example: `backup(Path("coordinator"), Path("pool.backup"))`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from presspool.common.base.archives import pack, unpack
from presspool.common.base.errors import FolderError, InputError
from presspool.server.coordinator.coordinator_folder import (
    DATABASE,
    SETTINGS,
    CoordinatorFolder,
    settings_in,
)

KIND: Final = "presspool-coordinator-backup/1"
_FOLDERS = ("keys", "certificates", "runs")


def backup(home: Path, file: Path) -> bool:
    """Write a coordinator's home to a new file.

    Returns:
        Whether the database is in it; else it has to be saved where it is.

    Raises:
        InputError: no coordinator's home.
        FolderError: there is something at `file`, or the database is no file in the home.
        StorageError: the disk refuses.
    """
    path = _embedded(CoordinatorFolder.read(home).database)
    inside = path is None or path.parent.resolve().is_relative_to(home.resolve())
    if path is not None and not (inside and path.is_file()):
        raise FolderError(
            "the database is not there, or outside the home",
            where=str(home / SETTINGS),
            expected=f"a file in {home}",
            got=path,
            advice="stop the coordinator, move it there, and remove the line `database`",
        )
    settings = settings_in(home)
    with pack(file, KIND) as archive:
        if path is not None:
            archive.add_database(path, DATABASE)
            settings = settings.model_copy(update={"database": None})
        archive.add_bytes(settings.toml, SETTINGS)
        for name in _FOLDERS:
            archive.add_folder(home / name, name)
    return path is not None


def restore(file: Path, home: Path) -> CoordinatorFolder:
    """Make a coordinator's home from a backup.

    Raises:
        InputError: not such a backup, or one whose settings name an SQLite file.
        FolderError: there is something at `home`.
        StorageError: the disk refuses.
    """
    with unpack(file, KIND, home, files=(SETTINGS, DATABASE), folders=_FOLDERS) as draft:
        (draft / "runs").mkdir(exist_ok=True)
        CoordinatorFolder.read(draft)
        database = settings_in(draft).database
        if database and (path := _embedded(database)) is not None:
            raise InputError(
                "the settings name a database that may be another home's",
                where=f"{file} {SETTINGS} database",
                expected=f"no such line: the database of a backup is {DATABASE}",
                got=path,
                advice="make the backup anew where it came from",
            )
    return CoordinatorFolder.read(home)


def _embedded(database: str) -> Path | None:
    """The file of an SQLite database; None for a server's."""
    try:
        url = make_url(database)
    except ArgumentError as error:
        raise InputError("database URL", where=f"{SETTINGS} database", got=str(error)) from None
    return Path(url.database or "") if url.get_backend_name() == "sqlite" else None
