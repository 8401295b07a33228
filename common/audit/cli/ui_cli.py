"""`presspool audit ui`: the dashboard on this machine.

Example: `presspool audit ui outlet.export runs/first`.
"""

from __future__ import annotations

import webbrowser
from typing import Annotated

import typer

from presspool.common.audit.cli.report_cli import Heads, Keys, Sources
from presspool.common.base.console import err, out, print_json, start_logging


def ui(
    sources: Sources,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port at 127.0.0.1; 0 takes a free one.")
    ] = 8900,
    key: Keys = None,
    head: Heads = None,
    browser: Annotated[bool, typer.Option("--open", help="Open the pages in a browser.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print where the pages are as JSON, then serve.")
    ] = False,
) -> None:
    """Serve read-only pages and metrics of these ledgers and runs, until Ctrl-C.

    Only this machine can see them. Files are followed: new entries and rounds appear by themselves.

    Example: presspool audit ui outlet.export runs/first
    """
    from presspool.common.audit.dashboard.source_watch import SourceWatch
    from presspool.common.audit.evidence import sources as reader

    require_extra()
    from presspool.common.audit.dashboard.asgi_app import Dashboard, create_app
    from presspool.common.audit.dashboard.serving import LOOPBACK, Serving, names, taken
    from presspool.common.base.errors import EvidenceError, InputError
    from presspool.common.base.stopping import until_signalled

    start_logging(quiet=as_json)
    brought = reader.Brought.of(key, head)
    listener = taken(LOOPBACK, port)
    dashboard = Dashboard(SourceWatch(lambda: sources, brought=brought))
    hosts = names(listener.getsockname()[1], LOOPBACK, "localhost")
    try:
        err.print("reading …")
        look = dashboard.look()
        for fault in look.faults:
            kind = EvidenceError if fault.evidence else InputError
            raise kind(fault.words)
        reader.require_used(brought, {found.origin: found for found in look.evidence.outlets})
        app = create_app(dashboard, hosts=hosts)
        with until_signalled() as signalled, Serving(app, listener) as serving:
            signalled.then(serving.stop)
            _announce(f"http://{LOOPBACK}:{serving.port}/", as_json, browser)
            serving.wait()
    finally:
        dashboard.close()


def require_extra() -> None:
    """Raise `InputError` where the extra `serve` is not installed."""
    from presspool.common.base.extras import from_extra

    with from_extra("serve", "the dashboard's packages are not here"):
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401


def _announce(address: str, as_json: bool, browser: bool) -> None:
    if as_json:
        print_json({"address": address})
    else:
        out.print(f"{address}  (Ctrl-C stops)")
    if browser:
        webbrowser.open(address)
