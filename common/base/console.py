"""How every command talks: figures to standard output, everything for people to standard error.

* `--json` prints one JSON document on standard output and nothing else there.
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

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from presspool.common.base.errors import PressPoolError

# Progress where there is no terminal.
SECONDS_BETWEEN_LINES, SECONDS_WORTH_A_LINE = 10.0, 2.0
INTERRUPTED = 130  # what typer makes of Ctrl-C: 128 + SIGINT

out = Console(soft_wrap=False, highlight=False)
err = Console(stderr=True, highlight=False)


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def start_logging(*, quiet: bool) -> None:
    """Send PressPool's own log lines to standard error; Flower's and others' only warnings."""
    handler: logging.Handler = logging.StreamHandler()
    if err.is_terminal:
        handler = RichHandler(console=err, show_path=False, show_level=False, markup=False)
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
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
        TextColumn("{task.description}"),
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
            err.print(f"{datetime.now():%H:%M:%S} {what}: {done} of {total}", markup=False)

    return advance


def guarded(command: Callable[[], object]) -> int:
    """Run a command and turn its errors into one message and an exit code."""
    try:
        command()
    except PressPoolError as error:
        err.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return error.exit_code
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code != INTERRUPTED:
            raise
        err.print("stopped; what was finished is kept: continue with --resume", style="yellow")
        return 2
    return 0
