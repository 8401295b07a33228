"""Whom a round may draw: everybody in the snapshot who was not erased, read anew and noted.

Invariants:
    * An erased reader is in no round that is begun later. Where erased readers cannot be told apart
      from the others, nobody is trained on: the outlet sends pure noise, as with empty data.
    * A round is noted before it is trained, and after that the exclusions are read once more. So
      `presspool outlet erase`, which excludes first and looks then, either sees the round or is
      seen by it.
    * Nothing here stops a round or changes its budget. Each round does the same work, whoever is
      erased: all ids are hashed and all tags written.

Example: `eligible(SuppressionList(folder), snapshot, contract).readers` is how many there are.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from presspool.client.data.readers import Readers, nobody, read_readers
from presspool.client.data.snapshots import manifest_of
from presspool.client.data.suppression_list import SuppressionList
from presspool.common.base.errors import DataError, PressPoolError
from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import task_of
from presspool.common.data.tables import Columns

log = logging.getLogger(__name__)


def eligible(suppression: SuppressionList, snapshot: Path, contract: Contract) -> Readers:
    """The readers whom a round may draw, read now and noted; never raises.

    Args:
        suppression: who was erased.
        snapshot: the outlet's data, as `presspool.client.data.snapshots` froze it.
        contract: of the run.
    """
    try:
        excluded = suppression.excluded()
        while True:  # again only where somebody is erased meanwhile
            readers, tags = _read(suppression, snapshot, contract, excluded)
            _note(suppression, contract.digest, tags)
            before, excluded = excluded, suppression.excluded()
            if excluded == before:
                return readers
    except PressPoolError as error:
        log.error(
            "NOBODY IS TRAINED ON, pure noise is sent, and it is paid for, because erased readers "
            "cannot be told apart from the others: %s",
            error,
        )
        return nobody(task_of(contract))
    except Exception:  # nothing stops an admitted run
        log.exception("erased readers cannot be told apart from the others: nobody is trained on")
        return nobody(task_of(contract))


def _read(
    suppression: SuppressionList,
    snapshot: Path,
    contract: Contract,
    excluded: frozenset[bytes],
) -> tuple[Readers, list[bytes]]:
    kept: list[bytes] = []

    def choose(ids: pa.Array) -> NDArray[np.bool_]:
        try:
            tags = suppression.tags(ids.to_pylist())
        except Exception:
            if excluded:
                raise
            log.exception("nobody is erased here, and who is eligible cannot be noted")
            return np.ones(len(ids), np.bool_)
        mask = [tag not in excluded for tag in tags]
        kept.extend(tag for tag, keep in zip(tags, mask, strict=True) if keep)
        return np.array(mask, np.bool_)

    task = task_of(contract)
    try:
        manifest_of(snapshot)
    except DataError as error:  # a raw file, say, in which one record could move another
        log.error("NOBODY IS TRAINED ON, pure noise is sent, and it is paid for: %s", error)
        choose(pa.array([], pa.large_string()))
        return nobody(task), kept
    readers = read_readers(snapshot, columns=Columns(), task=task, strict=False, choose=choose)
    return readers, kept


def _note(suppression: SuppressionList, run: str, tags: list[bytes]) -> None:
    try:
        suppression.note(run, tags)
    except Exception:
        log.exception("who is eligible cannot be noted; `outlet erase` will say so of this run")
