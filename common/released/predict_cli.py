"""`presspool predict`: what an editor types to use a finished adapter."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from presspool.common.base.console import err, out, print_json, progress
from presspool.common.base.errors import InputError

if TYPE_CHECKING:
    from presspool.common.released.adapter_model import AdapterModel
    from presspool.common.released.answer_sink import AnswerSink
    from presspool.common.released.asked_rows import AskedRows


StdinFormat = Literal["jsonl", "csv", "lines"]
AnswerFormat = Literal["jsonl", "csv"]


def predict(
    adapter: Annotated[Path, typer.Argument(help="An adapter's folder, or a complete run's.")],
    file: Annotated[
        str, typer.Argument(help="CSV, JSON lines or Parquet file; - for standard input.")
    ],
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN|NAME=COLUMN",
            help="The file's column of what the task reads first (text, prompt, article, …), or of "
            "NAME; may be repeated. Else columns are called as the task calls them.",
        ),
    ] = None,
    stdin_format: Annotated[StdinFormat, typer.Option(help="What standard input holds.")] = "jsonl",
    out_file: Annotated[
        Path | None, typer.Option("--out", help="File for the answers, .csv or .jsonl.")
    ] = None,
    answer_format: Annotated[
        AnswerFormat | None,
        typer.Option("--format", help="Of the answers; default --out's, else jsonl."),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="One JSON document: the adapter, its privacy, and the answers or --out."
        ),
    ] = False,
) -> None:
    """Ask a finished adapter: a label with probabilities, or a text, for every row of a file.

    Rows keep their order and are numbered from 1. A file with a row that cannot be answered is
    refused as a whole, before anything is answered.

    Example: presspool predict runs/first headlines.csv --column title --out labels.csv

    Example: presspool predict runs/ads adverts.csv --column text=title --column placement=slot
    """
    kind = _kind(out_file, answer_format, as_json=as_json)

    from presspool.common.contract.doors import task_of
    from presspool.common.released.adapter_folder import read_adapter
    from presspool.common.released.adapter_model import AdapterModel
    from presspool.common.released.answer_sink import answer_sink
    from presspool.common.released.asked_rows import AskedRows

    folder = read_adapter(adapter)
    task = task_of(folder.contract)
    rows = AskedRows.of(file, task, columns=column or [], stdin_format=stdin_format)
    model = AdapterModel(folder)
    with answer_sink(out_file, kind, task) as sink:
        count = _answer(model, rows, sink)
    said = {"adapter": model.adapter, "statement": model.statement, "rows": count}
    said |= {"overrides": model.overrides} if model.overrides else {}
    if as_json:
        print_json(said | ({"out": str(out_file)} if out_file else {"answers": sink.documents}))
        return
    err.print(f"{count} rows answered. {model.statement}")
    for line in model.overrides:
        err.print(line, style="yellow")
    if out_file:
        out.print(str(out_file))


def _answer(model: AdapterModel, rows: AskedRows, sink: AnswerSink) -> int:
    """Answer every row; how many they were."""
    count, known = 0, rows.rows  # of standard input nobody knows how much is to come
    with progress("answering", total=known) if known else nullcontext(bool) as advance:
        for batch in rows.batches():
            for said in model.answers(batch):
                count += 1
                sink.write(count, said)
                advance()
    return count


def _kind(file: Path | None, asked: AnswerFormat | None, *, as_json: bool) -> str:
    """The answers' format."""
    if file is None:
        return "json" if as_json else asked or "jsonl"
    suffix = file.suffix.lower().removeprefix(".")
    if asked is not None:
        return asked
    if suffix not in get_args(AnswerFormat):
        raise InputError(
            "a file name that does not say the answers' format",
            where="--out",
            expected="a name ending in .csv or .jsonl, or --format",
            got=file.name,
        )
    return suffix
