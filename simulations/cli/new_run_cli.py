"""`presspool new …`: what a researcher types first, with data of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from presspool.common.base.console import out, print_json
from presspool.simulations.cli.researcher_cli import Json, epsilon_of

_LISTED = 30  # outlets on the screen


def _column(says: str) -> Any:
    """An option that names a column, which is not guessed then."""
    return typer.Option(metavar="COLUMN", show_default=False, help=f"Column of {says}.")


def new_run(
    data: Annotated[
        Path,
        typer.Option(
            help="A folder with a CSV, JSON lines or Parquet file for each outlet, "
            "or with one file that has a column of outlets; or that file."
        ),
    ],
    out_file: Annotated[Path, typer.Option("--out", help="The file to write.")] = Path("run.toml"),
    epsilon: Annotated[str, typer.Option(help='The run\'s ε for each reader, or "inf".')] = "3",
    held_out: Annotated[
        Path | None,
        typer.Option(help="A public held-out file; default the folder's held_out.* or test.*."),
    ] = None,
    text: Annotated[str | None, _column("texts")] = None,
    label: Annotated[str | None, _column("their labels")] = None,
    reader: Annotated[str | None, _column("readers' ids")] = None,
    outlet: Annotated[str | None, _column("outlets, in one file of all")] = None,
    prompt: Annotated[str | None, _column("prompts, for a model that writes")] = None,
    answer: Annotated[str | None, _column("what it should write")] = None,
    cohort: Annotated[
        int | None,
        typer.Option(min=1, help="Outlets in a round, which take turns; default all."),
    ] = None,
    outlets: Annotated[
        int | None,
        typer.Option(
            min=1, help="Make the readers of so many outlets first, in a new folder --data."
        ),
    ] = None,
    readers: Annotated[int, typer.Option(min=1, help="Of each outlet that is made.")] = 100,
    as_json: Json = False,
) -> None:
    """Write a commented run.toml for data of your own; columns are guessed, and you are told.

    Columns of a prompt and its answer make a run of a model that writes, and so do `messages`, or
    `article` and `summary`; `tokens` and `tags`, or `text` and `spans`, one that finds entities;
    `history`, `candidates` and `clicks` one that recommends. Else a text gets one of the labels
    that occur.

    Example: presspool new run --data clicks/ --epsilon 3

    Example: presspool new run --outlets 1000 --readers 100 --data made/ --cohort 50
    """
    from presspool.simulations.newsroom.new_run import RunRequest, draft
    from presspool.simulations.newsroom.newsroom import make_data
    from presspool.simulations.newsroom.run_writing import said, write_run

    asked = {"text": text, "label": label, "reader": reader, "outlet": outlet}
    asked |= {"prompt": prompt, "answer": answer}
    named = {role: column for role, column in asked.items() if column is not None}
    spent = epsilon_of(epsilon)
    if outlets is not None:
        _require_room(cohort, outlets)
        data, held_out = make_data(data, outlets=outlets, readers=readers)
    found = draft(
        RunRequest(data=data, held_out=held_out, epsilon=spent, cohort=cohort, named=named)
    )
    write_run(found, out_file)
    if as_json:
        print_json(
            {
                "run": str(out_file),
                "task": found.shape.kind,
                "columns": {role: guess.column for role, guess in found.guesses.items()},
                "labels": list(found.labels),
                "outlets": dict(found.outlets),
                "held_out": str(found.held_out) if found.held_out else None,
            }
        )
        return
    for what, value, why in said(found):
        out.print(f"{what}: {value} ({why})")
    if found.labels:
        out.print(f"labels: {', '.join(found.labels)}")
    out.print(f"outlets, with their readers: {_listed(found.outlets)}")
    out.print(f"wrote {out_file}: look it through, then `presspool contract check {out_file}`")


def _require_room(cohort: int | None, outlets: int) -> None:
    """Raise `InputError` before data is made for a cohort that cannot be."""
    from presspool.common.base.errors import InputError

    if (cohort or 0) > outlets:
        raise InputError(
            "a cohort larger than the outlets", where="--cohort", expected=outlets, got=cohort
        )


def _listed(outlets: Mapping[str, int]) -> str:
    """The first outlets with their readers, and how many more there are."""
    said = [f"{name} {count:,}" for name, count in list(outlets.items())[:_LISTED]]
    more = len(outlets) - _LISTED
    return ", ".join([*said, *([f"and {more:,} more"] if more > 0 else [])])
