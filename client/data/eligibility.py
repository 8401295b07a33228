"""Whom a round may draw: everybody in the data who was not erased, read anew and noted.

Invariants:
    * An erased reader is in no round that is begun later. Where erased readers cannot be told apart
      from the others, nobody is trained on: the outlet sends pure noise, as with empty data.
    * A round is noted before it is trained, and after that the exclusions are read once more. So
      `presspool outlet erase`, which excludes first and looks then, either sees the round or is
      seen by it.
    * Nothing here stops a round or changes its budget. Each round does the same work, whoever is
      erased: all ids are hashed and all tags written.

Example: `eligible(SuppressionList(folder), settings, contract).readers` is how many there are.
"""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from presspool.client.data.readers import Readers, nobody, read_readers
from presspool.client.data.suppression_list import SuppressionList
from presspool.client.identity.settings import OutletSettings
from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import task_of

log = logging.getLogger(__name__)


def eligible(suppression: SuppressionList, settings: OutletSettings, contract: Contract) -> Readers:
    """The readers whom a round may draw, read now and noted; never raises."""
    try:
        excluded = suppression.excluded()
        while True:  # again only where somebody is erased meanwhile
            readers, tags = _read(suppression, settings, contract, excluded)
            _note(suppression, contract.digest, tags)
            before, excluded = excluded, suppression.excluded()
            if excluded == before:
                return readers
    except Exception:  # nothing stops an admitted run
        log.exception("erased readers cannot be told apart from the others: nobody is trained on")
        return nobody(task_of(contract))


def _read(
    suppression: SuppressionList,
    settings: OutletSettings,
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

    readers = read_readers(
        settings.data,
        columns=settings.columns,
        task=task_of(contract),
        strict=False,
        choose=choose,
    )
    return readers, kept


def _note(suppression: SuppressionList, run: str, tags: list[bytes]) -> None:
    try:
        suppression.note(run, tags)
    except Exception:
        log.exception("who is eligible cannot be noted; `outlet erase` will say so of this run")
