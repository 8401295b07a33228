"""The folder that one run lives in: what lies where, and whose run it is.

::

    contract.json            the frozen contract, canonical JSON; its hash is the run's identity
    setup.json               what stands outside the contract: evaluation data, non-private switches
    outlets/NAME.toml        a simulation's outlets
    outlets/NAME.parquet     their parts of a split data set, until the run is complete
    checkpoint.safetensors   the coordinator's state after the last whole round
    compute.json             what computing the rounds took at the coordinator
    result.json, report.html, adapter/, events/

Invariants:
    * A folder belongs to one contract and one setup for ever; anything else is refused.
    * One process at a time works on a run here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from presspool.common.base.errors import ContractError, FolderError, StorageError
from presspool.common.base.files import replace_file
from presspool.common.base.locks import locked
from presspool.common.contract.contract import Contract, parse_contract


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a run needs besides its contract.

    Attributes:
        evaluation: public held-out file, or None.
        columns: column of a task's record to what the file calls it.
        deterministic: seed of reproducible noise in a simulation (nothing is private then).
        clock: digest of the clock that a simulation goes by; None, and no key, without one.
    """

    evaluation: str | None = None
    columns: Mapping[str, str] = field(default_factory=lambda: {"text": "text", "label": "label"})
    deterministic: int | None = None
    clock: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Flat: columns stand beside the other keys."""
        return {
            "evaluation": self.evaluation,
            **self.columns,
            "deterministic": self.deterministic,
            **({"clock": self.clock} if self.clock is not None else {}),
        }

    @classmethod
    def of_json(cls, said: Mapping[str, Any]) -> Setup:
        """The inverse; raises `TypeError` where a column has no name."""
        body = cls().to_json() | dict(said)
        own = {key: body.pop(key, None) for key in ("evaluation", "deterministic", "clock")}
        if not all(isinstance(name, str) for name in body.values()):
            raise TypeError(f"columns {body}")
        return cls(**own, columns=body)


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def contract_file(self) -> Path:
        """The frozen contract."""
        return self.path / "contract.json"

    @property
    def setup_file(self) -> Path:
        """What stands outside the contract."""
        return self.path / "setup.json"

    @property
    def outlets(self) -> Path:
        """A simulation's outlets."""
        return self.path / "outlets"

    @property
    def checkpoint(self) -> Path:
        """The coordinator's state."""
        return self.path / "checkpoint.safetensors"

    @property
    def adapter(self) -> Path:
        """The released adapter, in PEFT's format."""
        return self.path / "adapter"

    @property
    def events(self) -> Path:
        """TensorBoard's event files."""
        return self.path / "events"

    @property
    def report(self) -> Path:
        """The page about this run."""
        return self.path / "report.html"

    @contextmanager
    def claim(self, contract: Contract, setup: Setup, *, resume: bool) -> Iterator[None]:
        """Claim the folder for a run, or recognise the run that is to be continued.

        What is written inside the `with` belongs to the run's preparation: if it fails, nothing
        of it stays, nor the folder and those above it where they were not there before.

        Raises:
            FolderError: it holds something else, or there is nothing to continue.
            StorageError: the disk refuses.
        """
        if resume:
            self._recognise(contract, setup)
            yield
            return
        with self._writing():
            self._require_empty()
            made = [path for path in (self.path, *self.path.parents) if not path.exists()]
        try:
            with self._writing():
                self.path.mkdir(parents=True, exist_ok=True)
                yield
                replace_file(self.setup_file, json.dumps(setup.to_json(), indent=1).encode())
                replace_file(self.contract_file, contract.canonical())
        except BaseException:
            self._clear(made)
            raise

    def alone(self) -> AbstractContextManager[object]:
        """Hold a folder that was claimed; the system lets go of it when this process dies.

        Raises:
            FolderError: another process works on the run.
        """
        busy = FolderError(
            "another process works on this run",
            where=str(self.path),
            advice="wait for it, or end it and type the same again",
        )
        return locked(self.contract_file, busy=busy)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                "cannot write",
                where=str(self.path),
                got=error.strerror,
                advice="choose another --out",
            ) from None

    def _clear(self, made: list[Path]) -> None:
        """Take back a failed claim: the folder's content, then the folders that it made."""
        with suppress(OSError):
            for child in self.path.iterdir():
                shutil.rmtree(child, ignore_errors=True) if child.is_dir() else child.unlink()
            for folder in made:
                folder.rmdir()

    def _recognise(self, contract: Contract, setup: Setup) -> None:
        if not self.contract_file.exists():
            raise FolderError(
                "nothing to resume",
                where=str(self.path),
                expected="a folder that holds a run",
                advice="leave out --resume",
            )
        for what, expected, got in (
            ("contract", contract.digest, self.read_contract().digest),
            ("setup", setup, self.read_setup()),
        ):
            if expected != got:
                raise FolderError(
                    f"the folder holds a run with another {what}",
                    where=str(self.path),
                    expected=expected,
                    got=got,
                    advice="choose another --out, or resume with the run.toml and options that "
                    "started it",
                )

    def read_contract(self) -> Contract:
        """The folder's frozen contract.

        Raises:
            FolderError: there is none, or it is not valid.
        """
        try:
            return parse_contract(json.loads(self.contract_file.read_bytes()))
        except (OSError, ValueError, TypeError, ContractError) as error:
            raise FolderError(
                "not a run folder",
                where=str(self.path),
                expected="a valid contract.json",
                got=str(error),
            ) from None

    def read_setup(self) -> Setup:
        """What the folder's run needs besides its contract.

        Raises:
            FolderError: there is none, or it is not valid.
        """
        try:
            body: dict[str, Any] = json.loads(self.setup_file.read_bytes())
            return Setup.of_json(body)
        except (OSError, ValueError, TypeError) as error:
            raise FolderError(
                "not a run folder",
                where=str(self.path),
                expected="a valid setup.json",
                got=str(error),
            ) from None

    def _require_empty(self) -> None:
        if (self.path.is_dir() and any(self.path.iterdir())) or self.path.is_file():
            holds = "another run" if self.contract_file.exists() else "other files"
            raise FolderError(
                f"the output folder already holds {holds}",
                where=str(self.path),
                expected="a new or empty folder",
                advice="choose another --out, or continue that run with --resume",
            )
