"""The coordinator's state after a whole round, in one file that is replaced atomically.

The file is a safetensors file: as tensors the adapter's state and the moments of the server's
optimiser; in its metadata the contract's digest, what the rounds so far measured, and a checksum of
it all (safetensors has none of its own, and a flipped bit would otherwise be trained on). A crash
leaves the last whole round; continuing from it gives the same adapter as never having stopped,
because outlets keep nothing between rounds.

Example: `save(path, RoundCheckpoint(...))`; `load(path, digest=contract.digest)`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from presspool.common.base.errors import FolderError
from presspool.common.base.files import replace_file
from presspool.common.base.validation import unread
from presspool.common.models import adapters
from presspool.common.models.adapters import State
from presspool.common.runs.old_results import upgraded_round
from presspool.common.runs.results import RoundResult
from presspool.common.wire.update import RecordState, array_record

_STATE, _MOMENTS = "state/", "moments/"
_ROUNDS = TypeAdapter(tuple[RoundResult, ...])


@dataclass(frozen=True, kw_only=True)
class RoundCheckpoint:
    """The state between two rounds.

    Attributes:
        contract: digest of the contract.
        rounds: results of the rounds so far, round 0 (before training) first.
        state: the adapter after them.
        moments: what the server's optimiser remembers.
        kept: what a gathering needs of what came before it (`Gathering.kept`).
    """

    contract: str
    rounds: tuple[RoundResult, ...]
    state: State
    moments: State = field(default_factory=dict)
    kept: bytes = b""


def save(path: Path, checkpoint: RoundCheckpoint) -> None:
    """Write the checkpoint over the one before.

    Raises:
        StorageError: the disk refuses; the checkpoint before is still whole.
    """
    metadata = {
        "contract": checkpoint.contract,
        "rounds": _ROUNDS.dump_json(checkpoint.rounds).decode(),
    }
    if checkpoint.kept:
        metadata["kept"] = checkpoint.kept.hex()
    tensors = {
        **{f"{_STATE}{name}": array for name, array in checkpoint.state.items()},
        **{f"{_MOMENTS}{name}": array for name, array in checkpoint.moments.items()},
    }
    metadata["checksum"] = _checksum(metadata, tensors)
    replace_file(path, to_bytes(tensors, metadata=metadata))


def load(path: Path, *, digest: str) -> RoundCheckpoint | None:
    """The checkpoint at `path`, or None where the first round has not finished.

    Raises:
        FolderError: it is damaged or belongs to another contract.
    """
    if not path.exists():
        return None
    try:
        with safe_open(str(path), framework="np") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata["checksum"] != _checksum(metadata, tensors):
            raise ValueError("not what was saved")
        rounds, kept = _rounds(metadata["rounds"]), bytes.fromhex(metadata.get("kept", ""))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise FolderError(
            "damaged checkpoint",
            where=str(path),
            got=unread(error),
            advice="start the run again in a new folder",
        ) from None
    if metadata["contract"] != digest:
        raise FolderError(
            "the checkpoint is of another contract",
            where=str(path),
            expected=digest,
            got=metadata["contract"],
        )
    return RoundCheckpoint(
        contract=digest,
        rounds=rounds,
        state=RecordState(array_record(_part(tensors, _STATE))),
        moments=_part(tensors, _MOMENTS),
        kept=kept,
    )


def _rounds(text: str) -> tuple[RoundResult, ...]:
    """The rounds as they were written, by this version or by one before it."""
    return _ROUNDS.validate_json(json.dumps([upgraded_round(one) for one in json.loads(text)]))


def _part(tensors: adapters.State, prefix: str) -> dict[str, NDArray[np.float32]]:
    return {n.removeprefix(prefix): a for n, a in tensors.items() if n.startswith(prefix)}


def _checksum(metadata: Mapping[str, str], tensors: adapters.State) -> str:
    said = f"{metadata['contract']}\0{metadata['rounds']}\0{adapters.digest(tensors)}"
    said += f"\0{metadata['kept']}" if "kept" in metadata else ""
    return hashlib.sha256(said.encode()).hexdigest()
