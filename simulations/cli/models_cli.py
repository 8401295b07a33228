"""`presspool models list`, `show` and `fetch`: base models that can be had without a hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from presspool.common.base.console import err, out, print_json
from presspool.common.base.toml_values import toml_value

if TYPE_CHECKING:
    from presspool.common.models.catalogue import OfflineModel

Name = Annotated[str, typer.Argument(help="A name of `presspool models list`.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def list_models(as_json: Json = False) -> None:
    """List the base models that can be had offline, and which of them are here.

    Example: presspool models list
    """
    from rich.table import Table

    from presspool.common.models.catalogue import CATALOGUE

    if as_json:
        print_json([_document(model) for model in CATALOGUE.values()])
        return
    table = Table(box=None)
    for heading in ("name", "task", "MB", "licence", "here"):
        table.add_column(heading, justify="right" if heading == "MB" else "left")
    for model in CATALOGUE.values():
        here = "yes" if model.folder else f"no: {model.advice}"
        table.add_row(model.name, model.use, f"{model.size / 1e6:.0f}", model.licence, here)
    out.print(table)


def show(name: Name, as_json: Json = False) -> None:
    """Print a base model's digests as the [model] table of a run.toml, and where it comes from.

    Example: presspool models show smollm2-135m-instruct
    """
    from presspool.common.models.catalogue import entry

    model = entry(name)
    if as_json:
        print_json(_document(model))
        return
    typer.echo("[model]")
    for key, value in {"id": model.name, **model.pins}.items():
        typer.echo(f"{key} = {toml_value(value)}")
    said = {"package": model.package, "wheel": f"sha256:{model.wheel}", "licence": model.licence}
    if model.gguf:
        said["GGUF file"] = f"sha256:{model.gguf}"
    said["here"] = str(model.folder) if model.folder else f"no: {model.advice}"
    for key, value in said.items():
        err.print(f"{key}: {value}")


def fetch(name: Name, as_json: Json = False) -> None:
    """Make a base model ready: convert it once where its package carries another form.

    Nothing is downloaded: the package is installed by pip, whose command is said where it is
    missing.

    Example: presspool models fetch smollm2-135m-instruct
    """
    from presspool.common.models.base_model import examine
    from presspool.common.models.base_model_sources import installed
    from presspool.common.models.catalogue import entry
    from presspool.common.models.gguf_conversion import converted

    model = entry(name)
    found = converted(model) if model.gguf else examine(installed(model.name, fetch=False))
    if as_json:
        print_json({"name": model.name, "folder": str(found.path), **found.pins})
    else:
        out.print(f"{model.name} is at {found.path}")


def _document(model: OfflineModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "task": model.use,
        "bytes": model.size,
        "licence": model.licence,
        "package": model.package,
        "wheel": f"sha256:{model.wheel}",
        "gguf": f"sha256:{model.gguf}" if model.gguf else None,
        **model.pins,
        "folder": str(model.folder) if model.folder else None,
        "to do": None if model.folder else model.advice,
    }
