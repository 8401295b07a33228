"""Runs that a person of the outlet has approved or declined, and those that wait for it.

A folder beside the policy. The contract of a waiting run is kept as `<digest>.json`, so that a
person can read what the coordinator asks for; an approval is a file `<digest>.approved` that says
who approved and when (`presspool.common.wire.approval`; an empty one approves as well), and a run
that was declined has such a file `<digest>.declined`.

Invariants:
    * A run is approved by its contract's digest: another word in it is another run.
    * The newest word of the outlet's people counts; where a kill leaves both, it is declined.
    * What waits is bounded, so that a coordinator cannot fill the disk.

Example:
    >>> import tempfile
    >>> approvals = Approvals(Path(tempfile.mkdtemp()))
    >>> run = "sha256:" + "0" * 64
    >>> approvals.approve(run, by="A. Editor").by
    'A. Editor'
    >>> approvals.approved(run)
    True
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from presspool.common.base.errors import InputError
from presspool.common.base.files import private_folder, replace_file
from presspool.common.contract.contract import Contract
from presspool.common.ledger.log import utc_today
from presspool.common.wire.approval import LONGEST_NAME, Approval

FOLDER = "approvals"  # beside the policy
MOST_WAITING = 64
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Approvals:
    """The folder; made when something is first written to it."""

    folder: Path

    def approved(self, run: str) -> bool:
        """Whether a person approved the run with this digest."""
        return self._path(run, "approved").is_file()

    def declined(self, run: str) -> bool:
        """Whether a person declined the run with this digest."""
        return self._path(run, "declined").is_file()

    def approve(self, run: str, *, by: str = "") -> Approval:
        """Approve a run; takes back that it was declined.

        Args:
            run: digest of its contract.
            by: who approves; kept for the outlet's own reports, never sent.

        Raises:
            InputError: not a digest, or a name that cannot be shown.
            StorageError: the disk refuses.
        """
        said = self._write(run, "approved", by)
        self._path(run, "declined").unlink(missing_ok=True)
        return said

    def decline(self, run: str, *, by: str = "") -> Approval:
        """Decline a run; takes back an approval. Arguments and errors as for `approve`."""
        said = self._write(run, "declined", by)
        self._path(run, "approved").unlink(missing_ok=True)
        return said

    def ask(self, contract: Contract) -> None:
        """Keep the contract of a run that waits; beyond `MOST_WAITING` it is not kept."""
        path = self._made(contract.digest, "json")
        if not path.exists() and len(self.waiting()) < MOST_WAITING:
            replace_file(path, contract.canonical())

    def kept(self, run: str) -> Path:
        """Where the contract of a run that waits is."""
        return self._path(run, "json")

    def waiting(self) -> list[str]:
        """Digests of the runs that wait for a person."""
        asked = sorted(f"sha256:{path.stem}" for path in self.folder.glob("*.json"))
        unheard = (run for run in asked if _DIGEST.fullmatch(run) and not self.approved(run))
        return [run for run in unheard if not self.declined(run)]

    def all_declined(self) -> list[str]:
        """Digests of the runs that were declined."""
        found = sorted(f"sha256:{path.stem}" for path in self.folder.glob("*.declined"))
        return [run for run in found if _DIGEST.fullmatch(run)]

    def _write(self, run: str, word: str, by: str) -> Approval:
        said = Approval(run=run, by=by, day=utc_today().isoformat())
        if Approval.decode(run, said.encode()) != said:
            raise InputError(
                "name",
                where="--by",
                got=ascii(by),
                expected=f"one line of at most {LONGEST_NAME} characters",
            )
        replace_file(self._made(run, word), said.encode())
        return said

    def _made(self, run: str, ending: str) -> Path:
        path = self._path(run, ending)
        private_folder(self.folder)
        return path

    def _path(self, run: str, ending: str) -> Path:
        if not _DIGEST.fullmatch(run):
            raise InputError(
                "not a run's digest",
                where="RUN",
                expected="sha256: and 64 hexadecimal digits",
                got=ascii(run),
            )
        return self.folder / f"{run.removeprefix('sha256:')}.{ending}"
