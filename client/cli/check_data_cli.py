"""`presspool outlet check-data`: an outlet's data, before it joins a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from presspool.common.base.console import out, print_json


def check_data(
    file: Annotated[
        Path,
        typer.Argument(help="CSV, JSONL or Parquet, also gzipped; or an outlet.toml: its data."),
    ],
    task: Annotated[
        str | None,
        typer.Option(help="What the data is for: classification if not given, or the run's."),
    ] = None,
    reader: Annotated[str, typer.Option(help="Column of reader ids.")] = "reader",
    text: Annotated[str, typer.Option(help="Column of texts.")] = "text",
    label: Annotated[str, typer.Option(help="Column of labels.")] = "label",
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=COLUMN", help="Another of the task's; may be repeated."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="A run.toml: check against its labels and caps.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--outlet", help="This outlet's name in the run: checks readers.")
    ] = None,
    records_per_reader: Annotated[
        int | None,
        typer.Option(
            "-k", help="Cap on a reader's records (1 if not given); --run brings its own."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a run would make of your data. Nothing leaves this screen.

    Example: presspool outlet check-data readers.csv.gz --reader user_id --label topic

    Example: presspool outlet check-data outlet.toml
    """
    from presspool.client.data.check_data import check, guessed
    from presspool.client.data.check_tables import render
    from presspool.client.data.query_sources import opened
    from presspool.client.identity.data_table import DataTable
    from presspool.client.identity.settings import read_settings
    from presspool.common.base.validation import pairs, validate
    from presspool.common.data.tables import Columns

    names = dict(pairs(column, "--column"))
    names |= {"reader": reader, "text": text, "label": label}
    columns = validate(Columns, names, where="--reader, --text, --label")
    expected = _expectations(run, name, records_per_reader, task)
    data: Path | str | DataTable = file
    if file.suffix == ".toml":
        settings = read_settings(file)
        data, columns = settings.data, settings.columns
    with opened(data, file.parent) as source:
        if run is None:
            expected["task"] = guessed(source, task or "classification", columns)
        report = check(source, columns=columns, **expected)
    print_json(report.to_json()) if as_json else render(report, out)


def _expectations(
    run: Path | None, name: str | None, cap: int | None, kind: str | None
) -> dict[str, Any]:
    """What a run asks of the data, or nothing but the cap where no run is given."""
    from presspool.common.base.errors import InputError

    if run is None:
        if name is not None:
            raise InputError("--outlet without --run", advice="add --run: it declares the readers")
        k = 1 if cap is None else cap
        return {"records_per_reader": k, "max_length": None, "population": None}
    if cap is not None:
        raise InputError("-k beside --run", advice="leave -k out: the run's own cap applies")
    from presspool.client.data.care.text_health import unknown_of
    from presspool.common.contract.doors import task_of
    from presspool.common.runs.run_file import read_run_file

    contract = read_run_file(run).contract
    if kind not in (None, contract.task.kind):
        raise InputError(
            "another task than the run's",
            where="--task",
            expected=contract.task.kind,
            got=kind,
            advice="leave --task out: the run says it",
        )
    if name is not None and name not in contract.outlets:
        raise InputError(
            "unknown outlet", where="--outlet", got=name, expected=", ".join(contract.outlets)
        )
    task = task_of(contract)
    return {
        "task": task,
        "records_per_reader": contract.privacy.records_per_reader,
        "max_length": contract.task.max_length,
        "token_lengths": task.lengths,
        "unknown": unknown_of(task.tokenizer),
        "population": contract.outlets[name] if name is not None else None,
        "unit": contract.privacy.unit,
    }
