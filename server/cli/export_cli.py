"""`presspool export`: a finished adapter in a form that other programs read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from presspool.common.base.console import err, out, print_json, progress
from presspool.server.cli.serve_cli import Known, check_known

if TYPE_CHECKING:
    from presspool.common.released.adapter_folder import AdapterFolder
    from presspool.server.exporting.exporting import Export


AskedForm = Literal["peft", "merged", "onnx", "int8", "gguf", "gguf-f32"]


def export(
    adapter: Annotated[
        str,
        typer.Argument(
            help="An adapter's folder, or a complete run's; with --registry NAME@VERSION."
        ),
    ],
    form: Annotated[
        AskedForm,
        typer.Option(
            "--format",
            help="peft: the adapter alone. merged: a folder of transformers. onnx, int8: a graph "
            "for onnxruntime. gguf: a Llama for llama.cpp, in 16 bits; gguf-f32 in 32.",
        ),
    ],
    to: Annotated[
        Path | None, typer.Option(help="The new folder; default exports/NAME-FORMAT.")
    ] = None,
    prune: Annotated[
        float | None,
        typer.Option(
            help="Share of every matrix's numbers, the smallest, to make zero; with --texts, on "
            "which a table of shares is measured."
        ),
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option(
            help="Public file, 200 rows or more, to compare on; with answers in it the task's "
            "measure is held as well. Default 200 made texts."
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=COLUMN", help="How --texts calls it; may be repeated."),
    ] = None,
    registry: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Registry of `presspool adapters` to take it from."),
    ] = None,
    known: Known = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print export.json's words.")] = False,
) -> None:
    """Write an adapter in a form that other programs read, with its privacy card.

    What was written is read back by those programs' own library and compared with the adapter; it
    is there only if both say the same.

    Example: presspool export runs/first --format onnx --to exports/topics

    Example: presspool export runs/first --format merged --prune 0.3 --texts test.csv
    """
    _check_prune(prune)
    from presspool.common.released.exports.export_formats import FORMATS
    from presspool.server.exporting.exporting import ExportPlan, turns
    from presspool.server.exporting.exporting import export as make

    with _adapter(adapter, registry, known) as folder:
        place = to or Path("exports") / f"{folder.contract.name}-{form}"
        plan = ExportPlan(
            adapter=folder,
            form=FORMATS[form],
            to=place,
            texts=texts,
            columns=column or (),
            prune=prune,
        )
        with progress("comparing", total=turns(plan)) as advance:
            made = make(plan, advance)
    if as_json:
        print_json({"path": str(made.path), **made.said})
        return
    _show(made)


def _check_prune(share: float | None) -> None:
    from presspool.common.base.errors import InputError

    if share is not None and not 0 < share < 1:
        raise InputError("a share", where="--prune", expected="above 0, below 1", got=share)


def _show(made: Export) -> None:
    from presspool.common.base.numbers import percent

    for row in made.said["pruning"]:
        score = "" if row["score"] is None else f"  {made.found.measure} {row['score']:.4f}"
        err.print(f"pruned {percent(row['share'])}:{score}  same answers {percent(row['same'])}")
    err.print(made.found.words)
    err.print(made.said["statement"])
    for line in made.said["overrides"]:
        err.print(line, style="yellow")
    out.print(str(made.path))


@contextmanager
def _adapter(typed: str, registry: str | None, known: Path | None) -> Iterator[AdapterFolder]:
    """The adapter that was typed, checked, for as long as the block runs."""
    from presspool.common.released.adapter_folder import read_adapter
    from presspool.server.serving.registered_adapters import registered

    check_known(registry, known, None)
    if registry is None:
        yield read_adapter(Path(typed))
        return
    with registered(registry, [typed], known=known) as found:
        yield read_adapter(found.adapters[0][1])
