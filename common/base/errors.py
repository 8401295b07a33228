"""One tree for every error a person can meet; each says what, where, expected, got, what to do.

::

    PressPoolError                 exit code 1: the work failed
    ├── InputError                 exit code 2: wrong usage or bad input
    │   ├── ContractError          run.toml or a contract
    │   │   └── VersionError       a contract of a newer PressPool
    │   ├── DataError              readers' or evaluation data
    │   ├── ModelError             base model or tokenizer not to be had, or not the pinned one
    │   ├── EngineError            a model whose per-reader gradients we cannot prove right
    │   ├── FolderError            an output folder that holds something else
    │   │   └── BusyError          another program has it at this moment: try again
    │   └── CardError              a privacy card with a blank field
    ├── StorageError               exit code 2: disk full or not writable; nothing was lost
    ├── LinkError                  the other side cannot be reached, or is not who it should be
    ├── AdmissionError             the coordinator refuses an update or a call; has a fixed code
    ├── GuardError                 the outlet refuses a task; carries a fixed code
    │   └── NotNowError            quiet hours, or an approval that is missing: ask again later
    ├── QuorumError                too few admitted updates for the round
    ├── EvidenceError              a note, proof, ledger entry or export is malformed or false
    │   └── OtherFileError         exit code 2: no evidence at all, but a file of another kind
    ├── LedgerError                the outlet's ledger refuses; nothing was spent
    │   ├── LedgerBusyError        another process keeps it locked: try again
    │   ├── BudgetError            a reservation that does not fit under a cap
    │   └── RollbackError          the ledger contradicts a head that was remembered or witnessed
    ├── PlanError                  code asked for more than the privacy plan allows
    └── SelfTestError              the privacy engine failed its own proof; nothing was trained

A value that quotes others cannot pass for a row of the message: its further lines are moved in.
The screen and the log spell out what a terminal would obey (`presspool.common.base.console`).

Texts of `DataError` and of Python's own exceptions may quote readers' data, so they stay at the
outlet: only `AdmissionError.code` and the words in `presspool.common.wire.update` ever travel.

Example:
    >>> raise ContractError("sampling rate", where="run.toml [privacy] sampling_rate",
    ...                     expected="0 < q <= 1", got=1.5, advice="lower it")
    Traceback (most recent call last):
    ...
    presspool.common.base.errors.ContractError: run.toml [privacy] sampling_rate: sampling rate:
      expected 0 < q <= 1
      got      1.5
      to do    lower it
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from presspool.common.base.foreign_text import indented


class PressPoolError(Exception):
    """Base of all errors that PressPool raises on purpose.

    Args:
        what: the fault, in a few words.
        where: file and key, command-line option, module or outlet concerned.
        expected: what would have been right.
        got: what was found.
        advice: what the person at the keyboard can do now.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        expected: object = None,
        got: object = None,
        advice: str = "",
    ) -> None:
        self.what, self.where, self.advice = what, where, advice
        self.expected, self.got = expected, got
        rows = [("expected", expected), ("got", got), ("to do", advice or None)]
        lines = [f"  {name:<8} {indented(str(v), 11)}" for name, v in rows if v is not None]
        head = indented(f"{where}: {what}" if where else what, 11)
        super().__init__("\n".join([head + (":" if lines else ""), *lines]))

    @property
    def parts(self) -> dict[str, Any]:
        """Everything but what happened, for an error that says it in its own words."""
        return {name: getattr(self, name) for name in ("where", "expected", "got", "advice")}


class InputError(PressPoolError):
    """Wrong usage or bad input."""

    exit_code = 2


@contextmanager
def asked_wrongly(*kinds: type[PressPoolError]) -> Iterator[None]:
    """Whatever of just these kinds is raised inside is the fault of what was typed."""
    try:
        yield
    except kinds as error:
        if type(error) not in kinds:
            raise
        raise InputError(error.what, **error.parts) from None


class ContractError(InputError):
    """A run.toml or contract that says something impossible or unknown."""


class VersionError(ContractError):
    """A contract of a newer PressPool than this one."""


class DataError(InputError):
    """Readers' or evaluation data that cannot be used; for the operator's screen only."""


class ModelError(InputError):
    """A base model or tokenizer that is missing or is not the pinned one."""


class EngineError(InputError):
    """A model for which exact per-reader gradients cannot be guaranteed."""


class FolderError(InputError):
    """An output folder that already holds another run, or none to resume."""


class BusyError(FolderError):
    """Another program has the place at this moment; nothing is decided by that."""


class CardError(InputError):
    """A privacy card that says nothing where something must stand.

    Attributes:
        fields: paths of the fields at fault.
    """

    def __init__(self, what: str, *, fields: tuple[str, ...], **parts: object) -> None:
        self.fields = fields
        super().__init__(what, **parts)  # type: ignore[arg-type]


class StorageError(PressPoolError):
    """The disk refused a write; what was there before is still whole."""

    exit_code = 2


class LinkError(PressPoolError):
    """The other side cannot be reached just now, or is not who it should be."""


class AdmissionError(PressPoolError):
    """One outlet's update or call is refused.

    Attributes:
        code: a word of one of three fixed lists: `UPDATE_REFUSALS` (an update's content, in
            `presspool.server.rounds.admission`), `CALL_REFUSALS` (a call of the Pool service, in
            `presspool.common.wire.envelope`), `ENROLMENT_REFUSALS` (a caller, in
            `presspool.common.wire.enrolment`).
    """

    def __init__(self, code: str, what: str, **parts: object) -> None:
        self.code = code
        super().__init__(what, **parts)  # type: ignore[arg-type]


class GuardError(PressPoolError):
    """The outlet refuses a task by its own rules; nothing was trained for it.

    Attributes:
        code: a word of the fixed list `presspool.common.wire.update.FAILURES`; all that travels.
    """

    def __init__(self, code: str, what: str, **parts: object) -> None:
        self.code = code
        super().__init__(what, **parts)  # type: ignore[arg-type]


class NotNowError(GuardError):
    """A task that this outlet may take later, if its coordinator asks again."""


class QuorumError(PressPoolError):
    """Fewer admitted updates than the contract's quorum."""


class EvidenceError(PressPoolError):
    """A signed note, Merkle proof, ledger entry or export that is malformed or does not hold.

    Attributes:
        entry: index of the first bad entry, where one can be named.
    """

    def __init__(self, what: str, *, entry: int | None = None, **parts: object) -> None:
        self.entry = entry
        super().__init__(what, **parts)  # type: ignore[arg-type]


class OtherFileError(EvidenceError):
    """A file that is no evidence, true or false: another was named."""

    exit_code = 2


class LedgerError(PressPoolError):
    """The outlet's ledger refuses an entry, or cannot be opened; nothing was spent."""


class LedgerBusyError(LedgerError):
    """Another process keeps the ledger locked; nothing is decided by that."""


class BudgetError(LedgerError):
    """A reservation that does not fit under one of the outlet's caps.

    Attributes:
        reason: a word of the fixed list `presspool.common.ledger.entries.REASONS`.
        charge: what was asked for, in `presspool.common.accounting.events.UNIT`s.
        free: what the refusing cap has left, in the same units.
    """

    def __init__(self, what: str, *, reason: str, charge: int, free: int, **parts: object) -> None:
        self.reason, self.charge, self.free = reason, charge, free
        super().__init__(what, **parts)  # type: ignore[arg-type]


class RollbackError(LedgerError):
    """The ledger is shorter than, or contradicts, a head that was remembered or witnessed."""


class PlanError(PressPoolError):
    """Code asked for more steps, or other noise, than the frozen privacy plan allows."""


class SelfTestError(PressPoolError):
    """The engine could not prove on synthetic data that it clips, noises and trains."""
