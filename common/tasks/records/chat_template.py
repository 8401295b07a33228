r"""A base model's chat template: a program of the model's author, run within bounds.

transformers renders it, in jinja's sandbox: it reaches no file, module or network. Here is what a
sandbox does not see to.

Invariants:
    * What it makes of a chat depends on that chat alone: a template that names the clock or chance
      is refused, in whatever branch it does.
    * It makes at most `TIMES` as many characters as it was given, and `MOST` more.
    * It is tried on a made chat before any reader's, and refused if that takes longer than
      `SECONDS`. On readers' chats no clock decides: another machine would decide otherwise.

Not bounded: the time of a template that is slow on some chats only, and memory within one
expression. Whoever pins a base model trusts its author that far (docs/threat-model.md).

Example:
    >>> sorted(words_in("{{ strftime_now('%Y') }} {{ ['a', 'b'] | random }}") & NEVER_THE_SAME)
    ['random', 'strftime_now']
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from typing import Any

from presspool.common.base.errors import ModelError
from presspool.common.base.foreign_text import one_line
from presspool.common.tasks.records.turns import MOST_TURNS, Turn, exchange

NEVER_THE_SAME = frozenset({"strftime_now", "random", "lipsum"})
"""What transformers and jinja give a template that answers otherwise each time."""
TIMES, MOST = 4, 50_000
SECONDS = 10.0


class ChatTemplate:
    """A tokenizer's template; `turns.Template`.

    Args:
        tokenizer: gives it; only asked once there is a chat.
    """

    def __init__(self, tokenizer: Callable[[], Any]) -> None:
        self._tokenizer = tokenizer

    def __call__(self, said: list[Turn], asks: bool) -> str:
        """The model's text of a chat.

        Args:
            said: the turns.
            asks: whether the next is the assistant's to write.

        Raises:
            ModelError: a template that no run can use.
            Exception: whatever the template raises at a chat that it does not take.
        """
        return self._render(self._tried, said, asks)

    @staticmethod
    def _render(tokenizer: Any, said: list[Turn], asks: bool) -> str:
        made: str = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=asks)
        if len(made) > MOST + TIMES * sum(len(turn["content"]) for turn in said):
            raise ValueError("the template makes far more of a chat than it was given")
        return made

    @cached_property
    def _tried(self) -> Any:
        """The tokenizer, its template read and tried.

        Raises:
            ModelError: it has none, it names what is never the same, or it fails or lasts.
        """
        tokenizer = self._tokenizer()
        if not tokenizer.chat_template:
            raise _unusable("a base model without a chat template", "none")
        try:
            if found := words_in(tokenizer.get_chat_template()) & NEVER_THE_SAME:
                what = "a chat template that reads the clock, or draws lots"
                raise _unusable(what, ", ".join(sorted(found)))
            made = exchange("news", "talks") * (MOST_TURNS // 2)
            _within(SECONDS, lambda: self._render(tokenizer, made, False))
        except ModelError:
            raise
        except Exception as error:  # noqa: BLE001  whatever a template raises
            raise _unusable("a chat template that fails on a made chat", str(error)) from None
        return tokenizer


def words_in(template: str) -> set[str]:
    """Names and strings of a template's program, wherever in it they stand."""
    from jinja2 import Environment

    found = Environment().lex(template)  # noqa: S701  nothing is rendered
    return {value.strip("'\"") for _, kind, value in found if kind in ("name", "string")}


def _within(seconds: float, work: Callable[[], object]) -> None:
    """Do the work, for so long at most; a thread that goes on ends with the process."""
    raised = list[Exception]()

    def kept() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  raised again below
            raised.append(error)

    thread = threading.Thread(target=kept, name="chat template", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"not done after {seconds:g} seconds")
    if raised:
        raise raised[0]


def _unusable(what: str, got: str) -> ModelError:
    return ModelError(
        what,
        where="[model] chat_template.jinja",
        expected="a template that makes the same text of the same chat, every time",
        got=one_line(got)[:200],
        advice="take another base model or format, or give a copy of this one another template: "
        "the tokenizer's digest pins it",
    )
