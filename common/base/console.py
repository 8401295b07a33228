"""How every command talks: figures to standard output, everything for people to standard error.

* `--json` prints one JSON document on standard output and nothing else there.
* No line is ever broken for a file or a program: only a terminal has a width, and wraps lines.
* Text of others cannot command the terminal: whatever is printed or logged goes through `visible`,
  and no string is read as markup.
* Long work shows a progress bar on a terminal and plain log lines elsewhere.
* Errors are one clear message on standard error; the exit code says whose fault it was (0 fine,
  1 the work failed, 2 wrong usage, bad input, or stopped by the person or the disk with nothing
  lost).

Example: `with progress("training", total=12) as advance: advance()`.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.text import Text

from presspool.common.base.errors import PressPoolError, StorageError
from presspool.common.base.foreign_text import indented, visible

# Progress where there is no terminal.
SECONDS_BETWEEN_LINES, SECONDS_WORTH_A_LINE = 10.0, 2.0
INTERRUPTED = 130  # what typer makes of Ctrl-C: 128 + SIGINT
UNBROKEN = 100_000  # columns where nobody looks: more than any line of ours has


class Screen(Console):
    """A console that shows what others wrote and obeys none of it."""

    def __init__(self, *, width: int | None = None, **options: Any) -> None:
        super().__init__(width=width, highlight=False, markup=False, emoji=False, **options)
        self._width = width  # not the environment's COLUMNS: only a terminal has them, see `size`

    @property
    def size(self) -> ConsoleDimensions:
        """A terminal's own; elsewhere as wide as any line, so that paths and digests stay whole."""
        found = super().size
        chosen = self.is_terminal or self._width is not None
        return found if chosen else ConsoleDimensions(UNBROKEN, found.height)

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        self._width, self._height = new_size

    def print(self, *objects: Any, soft_wrap: bool | None = None, **options: Any) -> None:
        """As the base class; a line is the terminal's to wrap, and a table is laid out."""
        lines = all(isinstance(each, str) for each in objects)
        super().print(*objects, soft_wrap=lines if soft_wrap is None else soft_wrap, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Spelt out before it is laid out, so that columns stay columns."""
        return super().render_str(visible(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """The net below: whatever a renderable made of its texts."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else visible(text), style, control)


class LogLines(logging.Formatter):
    """One line of ours for each message: what others wrote is spelt out and moved in."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """As the base class, with the message made visible."""
        return indented(visible(super().formatMessage(record)), 4)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """As the base class, with the quoted texts made visible."""
        return indented(visible(super().formatException(ei)), 4)


out = Screen()
err = Screen(stderr=True)


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(as_json_text(document))


def as_json_text(document: Any) -> str:
    """A JSON document for people and machines; what a terminal would obey is escaped."""
    return visible(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"


def start_logging(*, quiet: bool) -> None:
    """Send PressPool's own log lines to standard error; Flower's and others' only warnings."""
    # A line that cannot be written would else be told with the error that it is about, whose words
    # may quote records.
    logging.raiseExceptions = False
    handler: logging.Handler = logging.StreamHandler()
    if err.is_terminal:
        handler = RichHandler(console=err, show_path=False, show_level=False, markup=False)
        handler.setFormatter(LogLines("%(message)s"))
    else:
        handler.setFormatter(LogLines("%(asctime)s %(message)s", "%H:%M:%S"))
    root = logging.getLogger("presspool")
    root.handlers, root.propagate = [handler], False
    root.setLevel(logging.WARNING if quiet else logging.INFO)
    logging.getLogger("flwr").setLevel(logging.WARNING)


@contextmanager
def progress(what: str, *, total: int, done: int = 0) -> Iterator[Callable[[], None]]:
    """A progress bar on a terminal; elsewhere a line now and then.

    Args:
        what: the work, in two words.
        total: units of work.
        done: units that an earlier run has done.

    Yields:
        A function to call once for each unit done.
    """
    if not err.is_terminal:
        yield _lines(what, total=total, done=done)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(what, total=total, completed=done)
        yield lambda: bar.advance(task)


def _lines(what: str, *, total: int, done: int) -> Callable[[], None]:
    began = said = time.monotonic()

    def advance() -> None:
        nonlocal done, said
        done += 1
        now = time.monotonic()
        last = done == total and now - began > SECONDS_WORTH_A_LINE
        if last or now - said >= SECONDS_BETWEEN_LINES:
            said = now
            err.print(f"{datetime.now():%H:%M:%S} {what}: {done} of {total}")

    return advance


@contextmanager
def _naming_the_place() -> Iterator[None]:
    """The net below: a path that the system refuses to look at is no fault of the program."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        raise StorageError(
            "cannot be used",
            where=str(error.filename),
            got=error.strerror,
            advice="name another path, or fix its permissions",
        ) from None


def guarded(command: Callable[[], object]) -> int:
    """Run a command and turn its errors into one message and an exit code."""
    try:
        with _naming_the_place():
            command()
    except PressPoolError as error:
        err.print(f"error: {error}", style="red")
        return error.exit_code
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code != INTERRUPTED:
            raise
        err.print("stopped; what was finished is kept: continue with --resume", style="yellow")
        return 2
    return 0
