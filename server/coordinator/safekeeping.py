"""A coordinator's home as one file, and a home made from it.

The file is a tar (mode 0600) of settings, keys, certificates (viewers' too) and runs, and of the
database where that is SQLite: copied by SQLite's own online backup, so that the coordinator may be
running. Of PostgreSQL it holds nothing: `pg_dump` is the way.

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

from presspool.common.base.archives import pack, unpack
from presspool.common.base.errors import FolderError
from presspool.server.coordinator.coordinator_folder import DATABASE, SETTINGS, CoordinatorFolder

KIND: Final = "presspool-coordinator-backup/1"
_PARTS = (SETTINGS, "keys", "certificates", "runs")


def backup(home: Path, file: Path) -> bool:
    """Write a coordinator's home to a new file.

    Returns:
        Whether the database is in it; else it has to be saved where it is.

    Raises:
        InputError: no coordinator's home.
        FolderError: there is something at `file`, or the database is a file outside the home.
        StorageError: the disk refuses.
    """
    url = make_url(CoordinatorFolder.read(home).database)
    embedded = url.get_backend_name() == "sqlite"
    path = home / DATABASE
    if embedded and Path(url.database or "").absolute() != path.absolute():
        raise FolderError(
            "the database is a file outside the home",
            where=str(home / SETTINGS),
            expected=str(path),
            got=url.database,
            advice="stop the coordinator, move it there, and remove the line `database`",
        )
    with pack(file, KIND) as archive:
        if embedded:
            archive.add_database(path, DATABASE)
        for name in _PARTS:
            archive.add(home / name, name)
    return embedded


def restore(file: Path, home: Path) -> CoordinatorFolder:
    """Make a coordinator's home from a backup.

    Raises:
        InputError: not such a backup.
        FolderError: there is something at `home`.
        StorageError: the disk refuses.
    """
    with unpack(file, KIND, home, known=(*_PARTS, DATABASE)) as draft:
        (draft / "runs").mkdir(exist_ok=True)
        CoordinatorFolder.read(draft)
    return CoordinatorFolder.read(home)
