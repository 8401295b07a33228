"""`presspool audit report`, `card` and `fields`: what a data-protection officer opens and signs.

Invariant: what is written is written whole or not at all, and never over a file that is there, but
for a card over the adapter's earlier one, which is said.

Example: `presspool audit report outlet.export runs/first --output report.html`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from presspool.common.base.console import as_json_text, err, out, print_json, start_logging
from presspool.common.base.foreign_text import visible

if TYPE_CHECKING:
    from presspool.common.audit.pages.report_json import Document

Sources = Annotated[
    list[Path],
    typer.Argument(
        help="Ledger exports, ledgers, outlets' homes and run folders, in any order.",
        show_default=False,
    ),
]
FieldsFile = Annotated[
    Path | None,
    typer.Option("--fields", help="The operator's own words; `presspool audit fields` makes one."),
]
Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        metavar="KEY",
        help="A ledger's first verifier key, got from its outlet; repeatable.",
    ),
]
Heads = Annotated[
    list[Path] | None,
    typer.Option("--head", help="A checkpoint of a ledger that somebody kept; repeatable."),
]

Format = Literal["html", "pdf", "json"]


def report(
    sources: Sources,
    form: Annotated[Format, typer.Option("--format", help="How to write it.")] = "html",
    output: Annotated[
        Path | None,
        typer.Option(help="New file to write; standard output if not given."),
    ] = None,
    fields: FieldsFile = None,
    key: Keys = None,
    head: Heads = None,
) -> None:
    """Report what was spent of the readers' privacy, by whom, and what still fits.

    Example: presspool audit report outlet.export runs/first --output report.html
    """
    from presspool.common.audit.evidence import audit_console, governance
    from presspool.common.audit.evidence import sources as reader
    from presspool.common.audit.pages.report_json import document
    from presspool.common.base.errors import InputError

    start_logging(quiet=output is None)
    if form == "pdf" and output is None:
        raise InputError("a PDF needs a file", where="--output", advice="--output report.pdf")
    if output is not None:
        audit_console.require_new(output, "--output")
    said = governance.read(fields)
    brought = reader.Brought.of(key, head)
    with audit_console.percents("reading") as moved:
        evidence = reader.read(sources, brought=brought, moved=moved)
    _write(document(evidence, said), form, output)


def _write(body: Document, form: Format, output: Path | None) -> None:
    from presspool.common.audit.pages import report_page
    from presspool.common.base.files import replace_file

    text = as_json_text(body) if form == "json" else report_page.render(body)
    data = report_page.pdf(text) if form == "pdf" else text.encode()
    if output is None:
        typer.echo(visible(text), nl=False)
        return
    replace_file(output, data)
    err.print(f"wrote {output}")


def card(
    adapter: Annotated[
        Path, typer.Argument(help="A run folder, or the adapter folder in it.", show_default=False)
    ],
    ledger: Annotated[
        list[Path] | None,
        typer.Option(help="An outlet's ledger export, ledger or home; repeatable."),
    ] = None,
    outlet: Annotated[
        list[str] | None,
        typer.Option(help="An outlet that the card speaks for; repeatable; all if not given."),
    ] = None,
    fields: FieldsFile = None,
    key: Keys = None,
    head: Heads = None,
    ask: Annotated[
        bool,
        typer.Option(
            "--interview",
            help="Ask for the fields that are blank, and keep each answer in the --fields file "
            "(fields.toml if not given); stopped, the same command goes on.",
        ),
    ] = False,
    registry_yaml: Annotated[
        Path | None,
        typer.Option(help="New file for the OpenDP registry of deployments, as topics_2026.yaml."),
    ] = None,
    aibom: Annotated[
        Path | None,
        typer.Option(help="New file for the bill of materials, CycloneDX 1.6 in JSON."),
    ] = None,
    ropa: Annotated[
        Path | None,
        typer.Option(help="New .csv or .md file for the row of the record of processing."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
) -> None:
    """Write the privacy card and the model card of an adapter; a blank field is refused.

    Example: presspool audit card runs/first --ledger outlet.export --fields fields.toml

    Example: presspool audit card runs/first --ledger outlet.export --ropa ropa.csv

    Example: presspool audit card runs/first --ledger outlet.export --interview
    """
    from presspool.common.audit.cards import card_exports, card_making, model_card
    from presspool.common.audit.evidence import audit_console, governance
    from presspool.common.audit.evidence import sources as reader

    start_logging(quiet=as_json)
    wanted = card_exports.Wanted(registry=registry_yaml, aibom=aibom, ropa=ropa)
    run = reader.read_run(adapter.resolve().parent if _is_adapter(adapter) else adapter)
    if ask:
        fields = fields or Path("fields.toml")
        _interview(fields, record=ropa is not None)
    said = governance.read(fields)
    brought = reader.Brought.of(key, head)
    with audit_console.percents("reading") as moved:
        ledgers = reader.read(ledger or [], brought=brought, moved=moved).outlets
    made = card_making.make(run, ledgers, said, covers=outlet or [])
    readme = model_card.render(made, said.card, run.contract)
    exports = card_exports.prepare(wanted, made, said, run.contract)
    earlier = model_card.write(run.path / "adapter", made, readme)
    card_exports.write(exports)
    if as_json:
        print_json(made.model_dump(mode="json"))
    else:
        out.print(made.statement)
    verb = "replaced the earlier" if earlier else "wrote"
    for name in (model_card.CARD_FILE, model_card.README) if earlier or not as_json else ():
        err.print(f"{verb} {run.path / 'adapter' / name}")
    for path in exports:
        err.print(f"wrote {path}")


def _interview(path: Path, *, record: bool) -> None:
    from presspool.common.audit.cards.card_interview import interview
    from presspool.common.base.questions import Stopped

    try:
        interview(path, record=record)
    except Stopped:
        err.print(
            f"stopped; what you answered is in {path}: the same command goes on", style="yellow"
        )
        raise typer.Exit(2) from None


def _is_adapter(path: Path) -> bool:
    from presspool.common.runs.result_file import RESULT_FILE

    return path.name == "adapter" and not (path / RESULT_FILE).exists()


def fields(
    output: Annotated[Path, typer.Option("--output", help="New file to write.")] = Path(
        "fields.toml"
    ),
) -> None:
    """Write a file to fill in: what no log can know, for reports and cards.

    Example: presspool audit fields --output fields.toml
    """
    from presspool.common.audit.evidence import audit_console, governance
    from presspool.common.base.files import replace_file

    audit_console.require_new(output, "--output")
    replace_file(output, governance.template().encode())
    out.print(f"wrote {output}")
