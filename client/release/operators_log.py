"""What the outlet's own log says of a task that was not trained: calm, plain, or with a traceback.

Waiting is one line. What the outlet, or a check of it, refused on purpose is a warning in the words
of its error. A traceback means a fault of the program, and nothing else has one.

Example: `OperatorsLog(log).untrained(error)`.
"""

from __future__ import annotations

import logging

from presspool.common.base.errors import (
    NotNowError,
    PlanError,
    PressPoolError,
    SelfTestError,
)

_FAULTS = (PlanError, SelfTestError)  # raised on purpose, of what can only be the program's fault


class OperatorsLog:
    """What is said of tasks that are begun, and of those that are not trained.

    Args:
        log: where to.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log, self._said = log, set[str]()

    def untrained(self, error: Exception) -> None:
        """Say why a task is not trained; called where the error is handled."""
        if isinstance(error, NotNowError):
            self._log.info("%s", _waits(error))
        elif isinstance(error, PressPoolError) and not isinstance(error, _FAULTS):
            self._log.warning(
                "nothing is trained, and only a code is sent to the coordinator: %s", error
            )
        else:
            self._log.exception(
                "a fault; nothing is trained, and only a code is sent to the coordinator"
            )

    def again(self, error: PressPoolError, seconds: float) -> None:
        """Say what is tried again: a failure each time, what a task waits for once."""
        if not isinstance(error, NotNowError):
            self._log.warning("%s; trying again in %.1f s", error, seconds)
        else:
            self._once(_waits(error))

    def training(self, task: str) -> None:
        """Say that a task is begun: once, however often it is put off."""
        self._once(f"{task}: training")

    def trained(self) -> None:
        """Something was answered: what waits from now on is said anew."""
        self._said.clear()

    def _once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._log.info("%s", line)


def _waits(error: NotNowError) -> str:
    """Why a task waits, and what a person can do about it, on one line."""
    to_do = f"; to do: {error.advice}" if error.advice else ""
    return f"{error.where} waits: {error.what}{to_do}"
