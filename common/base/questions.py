"""Questions to the person at the keyboard, one at a time, each answer judged as it is typed.

Invariants:
    * A question stands on standard error, so that standard output stays the command's answer.
    * What is typed wrongly is said, and the same question comes again.
    * Ctrl-C and the end of the input are `Stopped`; who asks says what became of the answers.

Example: `ask("ε of everything", positive, default="8")`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from presspool.common.base.console import err
from presspool.common.base.errors import InputError
from presspool.common.base.foreign_text import visible

T = TypeVar("T")


class Stopped(Exception):  # noqa: N818  a person's wish, not a fault
    """The person answers no more."""


def at_a_terminal() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty()


def ask(question: str, read: Callable[[str], T], *, default: str | None = None) -> T:
    """What a person answers, once it makes sense.

    Args:
        question: without its mark.
        read: makes the value of the text; raises `InputError` for one that is none.
        default: the text for an empty answer; without one an empty answer is read like any other.

    Raises:
        Stopped: Ctrl-C, or no more input.
    """
    while True:
        shown = f" [{default}]" if default else ""
        err.print(f"{question}{shown}: ", end="")
        try:
            return read(_line() or default or "")
        except InputError as error:
            err.print(f"{error}", style="yellow")


def agreed(question: str, *, default: bool) -> bool:
    """Whether a person says yes; errors as for `ask`."""
    said = {"y": True, "yes": True, "n": False, "no": False}

    def read(text: str) -> bool:
        if text.lower() not in said:
            raise InputError("an answer", expected="y or n", got=visible(text))
        return said[text.lower()]

    return ask(f"{question} (y/n)", read, default="y" if default else "n")


def positive(text: str) -> float:
    """A number above nothing; raises `InputError` where it is none."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise InputError("a number", expected="one above 0", got=visible(text))
    return found


def _line() -> str:
    try:
        text = sys.stdin.readline()
    except KeyboardInterrupt:
        raise Stopped from None
    except UnicodeDecodeError:
        raise InputError("an answer", expected="text in UTF-8", got="other bytes") from None
    if not text:
        raise Stopped
    return text.strip()
