"""What an outlet keeps of its witness's work, below its home.

::

    witness/heads/           the head last cosigned for each log, and fork proofs
    witness/proofs/          for each round that may be trained: its entry of the consortium log,
                             as the extra data of a C2SP tlog-proof with its cosignatures
    witness/own.checkpoint   the highest signed head that this outlet's ledger is known to have had
    witness/contradiction.json   what proved that the coordinator contradicts itself

Invariant: `own.checkpoint` never gets smaller, and nothing here is overwritten by less.

Example: ``WitnessFolder.at(home).own_head()``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from presspool.common.base.files import private_folder
from presspool.common.pki.keys import write_secret
from presspool.common.transparency import notes
from presspool.common.transparency.checkpoints import Checkpoint, Proof, parse_proof
from presspool.common.transparency.contradictions import contradiction
from presspool.common.transparency.witness import Heads

WITNESS = "witness"


@dataclass(frozen=True, kw_only=True)
class WitnessFolder:
    """The folder; made, for its owner alone, when something is first written to it.

    Attributes:
        path: where it is.
    """

    path: Path

    @classmethod
    def at(cls, home: Path) -> Self:
        """The folder of an outlet's home."""
        return cls(path=home / WITNESS)

    @property
    def heads(self) -> Heads:
        """What the witness has cosigned; raises `StorageError` where the disk refuses."""
        private_folder(self.path)
        return Heads(private_folder(self.path / "heads"))

    def own_head(self) -> Checkpoint | None:
        """The highest head that this outlet's ledger is known to have had.

        Raises:
            EvidenceError: the file is damaged.
        """
        path = self.path / "own.checkpoint"
        if not path.exists():
            return None
        return Checkpoint.parse(notes.parse_note(path.read_bytes()).text)

    def keep_own(self, note: notes.Note) -> None:
        """Remember a head that the outlet's own key signed, if it is the highest."""
        known = self.own_head()
        if known is None or Checkpoint.parse(note.text).size > known.size:
            write_secret(private_folder(self.path) / "own.checkpoint", note.encode())

    def proof(self, contract: str, number: int) -> Proof | None:
        """The kept proof of a round's entry; raises `EvidenceError` where the file is damaged."""
        path = self._proof(contract, number)
        return parse_proof(path.read_bytes()) if path.exists() else None

    def keep_proof(self, contract: str, number: int, entry: bytes, proof: Proof) -> None:
        """Keep a round's entry and its proof in one file."""
        private_folder(self.path)
        private_folder(self.path / "proofs")
        write_secret(self._proof(contract, number), replace(proof, extra=entry).encode())

    @property
    def contradiction(self) -> Path:
        """Where the proof of the coordinator's contradiction is, if there is one."""
        return self.path / "contradiction.json"

    def contradicted(self, what: str, **evidence: Any) -> None:
        """Keep what proves that the coordinator contradicts itself; the first proof stays."""
        if not self.contradiction.exists():
            private_folder(self.path)
            write_secret(self.contradiction, contradiction(what, **evidence))

    def _proof(self, contract: str, number: int) -> Path:
        return self.path / "proofs" / f"{contract.removeprefix('sha256:')}.{number}.proof"
