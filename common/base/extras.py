"""What is installed only where it is wanted: the extras of `pyproject.toml`.

A module imports an extra's packages where it needs them, inside `from_extra`, which says what is
missing.

Example:
    >>> print(not_here("pdf", ImportError("No module named 'weasyprint'"), "no WeasyPrint here"))
    no WeasyPrint here:
      expected the extra `pdf`
      got      No module named 'weasyprint'
      to do    pip install 'presspool[pdf]'
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from presspool.common.base.errors import InputError

Extra = Literal[
    "data",
    "export",
    "gate",
    "llm",
    "mlflow",
    "otel",
    "serve",
    "pdf",
    "plots",
    "postgres",
    "ray",
    "redact",
    "registry",
    "s3",
    "sweep",
    "tagging",
    "tensorboard",
    "wandb",
]


def install(extra: Extra) -> str:
    """The command that installs an extra."""
    return f"pip install 'presspool[{extra}]'"


def not_here(
    extra: Extra, error: ImportError, what: str, *, where: str = "", otherwise: str = ""
) -> InputError:
    """What to raise where an extra's package cannot be imported.

    Args:
        extra: the extra that has the package.
        error: what the import raised.
        what: what is missing, in a few words.
        where: the command-line option that asked for it.
        otherwise: what can be done without the extra, as in "print the HTML page".
    """
    return InputError(
        what,
        where=where,
        expected=f"the extra `{extra}`",
        got=str(error),
        advice=install(extra) + (f", or {otherwise}" if otherwise else ""),
    )


@contextmanager
def from_extra(extra: Extra, what: str, *, where: str = "", otherwise: str = "") -> Iterator[None]:
    """What is imported inside is an extra's; raises `InputError`, as of `not_here`."""
    try:
        yield
    except ImportError as error:
        raise not_here(extra, error, what, where=where, otherwise=otherwise) from None
