"""Pictures of the dashboard's pages and of an attack's, from the demo: `make screenshots`.

The demo's run is real, and so are its entries in the outlets' ledgers. So that a budget has a past,
each ledger begins with earlier runs of the same price that nobody ever trained: made entries, by
the ledger's own code, on days of the past ten months.

Invariants:
    * The pages are those that `presspool audit ui` serves and `presspool audit attack` writes;
      nothing is painted over.
    * A demo that is there is used again; the pictures are made anew.

Example: `python -m presspool.simulations.pictures runs/pictures docs/pictures`.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin

from presspool.client.agent.home import LEDGER
from presspool.common.accounting import events
from presspool.common.audit.cards import card_making, model_card
from presspool.common.audit.dashboard.views import key
from presspool.common.audit.evidence import governance, sources
from presspool.common.base.console import err, start_logging
from presspool.common.base.errors import InputError
from presspool.common.contract.contract import Contract
from presspool.common.ledger import entries
from presspool.common.runs.result_file import RESULT_FILE
from presspool.common.runs.run_file import read_run_file
from presspool.simulations import simulated_ledgers
from presspool.simulations.attack import attack_report
from presspool.simulations.attack.attack import Options, attack
from presspool.simulations.demo import prepare_demo
from presspool.simulations.grids.local_grid import LocalGrid
from presspool.simulations.simulate import SimulateOptions, prepare

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LOOKS: Final[dict[str, dict[str, Any]]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 960}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 960}},
    "phone": {
        "color_scheme": "light",
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
    },
}
COLOURS = 96  # of a picture's palette: text and lines need no more
LARGEST_PICTURE = 150_000  # bytes
RUNS = 7  # like the demo's, in a ledger's lifetime
PAST: Final = (2, 3, 5, 3)  # earlier runs, by outlet; the last outlet's first one was never settled
FIELDS: Final[dict[str, Any]] = {
    "card": {
        "name": "Topics of a made newsroom",
        "data_curators": ["Press Pool Demo (Nonprofit)"],
        "description": "Sorts titles of a made newsroom into topics.",
        "intended_use": "To look at; the newsroom is made up.",
        "region": "none: made data",
        "sector": "News media",
        "publication_date": "2026-11-30",
        "records_since": "2026-01-01",
        "records_until": "2026-10-31",
        "data_source": "Static",
        "releases": "None planned.",
        "preprocessing": "None.",
        "hyperparameters": "Chosen on public headlines.",
        "justification": "The demo's own figures.",
        "approver": "the simulation",
        "retention": "Until the folder is deleted.",
        "erasure": "No person is in the data.",
        "sources": "README.md",
        "notes": "none",
        "registry_authors": ["Press Pool Demo"],
        "license": "apache-2.0",
        "language": "en",
    },
    **{
        table: dict.fromkeys(keys, "not applicable, because no person is in the data")
        for table, keys in {
            "article30": ("controller", "joint_controllers"),
            "dpia": governance.Dpia.model_fields,
            "data_protection": governance.DataProtectionFields.model_fields,
        }.items()
    },
}
FIELDS["data_protection"]["tcf_purposes"] = [FIELDS["data_protection"]["tcf_purposes"]]


def make_demo(folder: Path) -> None:
    """Train the demo with ledgers that have a past, attack it, and give its adapter a card."""
    from presspool.server.rounds.server_app import serve

    run = read_run_file(prepare_demo(folder, outlets=len(PAST), epsilon=3.0))
    prepared = prepare(run, SimulateOptions(out=folder / "run", workers=2, ledgers=True))
    contract = prepared.folder.read_contract()
    for number, settings in enumerate(prepared.outlets):
        _give_past(settings.with_suffix(""), contract, PAST[number], left=number == len(PAST) - 1)
    with LocalGrid(prepared.outlets, workers=2) as grid:
        serve(grid, prepared.folder)
    err.print("attacking the demo: some minutes")
    options = Options(out=folder / "attack")
    attack_report.keep(
        attack(contract, min(contract.outlets), options), options.out, folder / "run"
    )
    exports = simulated_ledgers.export_ledgers(
        prepared.outlets, folder / "run" / simulated_ledgers.EXPORTS
    )
    found = sources.read_run(folder / "run")
    fields = governance.parse(FIELDS)
    made = card_making.make(
        found, [sources.read_outlet(path) for path in exports], fields, covers=()
    )
    readme = model_card.render(made, fields.card, contract)
    model_card.write(folder / "run" / "adapter", made, readme)


def _give_past(home: Path, contract: Contract, runs: int, *, left: bool) -> None:
    """Begin the outlet's ledger anew, with runs on days long ago."""
    (home / LEDGER).unlink()
    plan, event = contract.plan, events.from_dp(contract.plan.event())
    day = datetime.now(UTC).date() - timedelta(days=300)
    with simulated_ledgers.new_ledger(contract, home, runs=RUNS, today=lambda: day) as ledger:
        dataset = entries.new_id()
        for number in range(runs):
            day += timedelta(days=40)
            digest = f"sha256:{hashlib.sha256(f'demo {number}'.encode()).hexdigest()}"
            kept = ledger.reserve(
                run=digest,
                unit=plan.unit,
                period=str(day.year),
                datasets=[dataset],
                event=event,
                head=None,
                stated=entries.Stated(delta=plan.delta, epsilon=plan.epsilon(), version="0.6.0"),
            )
            for done in range(1, 1 + contract.federation.rounds - (left and number == 0)):
                steps = done * contract.federation.local_steps
                ledger.intend(kept.reservation, round_number=done, steps=steps, digest=digest)
            if not (left and number == 0):
                ledger.settle(kept.reservation)
            if number == 1:
                ledger.refuse(run=f"sha256:{'e' * 64}", reason="policy-epsilon")


def take(folder: Path, out: Path) -> list[Path]:
    """Take the pictures of a demo; returns their files."""
    exports = sorted((folder / "run" / simulated_ledgers.EXPORTS).iterdir())
    run = sources.read_run(folder / "run")
    fullest = max(map(sources.read_outlet, exports), key=lambda found: found.lifetime.share)
    outlet = key(fullest.origin)
    digest = run.contract.digest.removeprefix("sha256:")
    pages = {
        "overview": "/",
        "outlet": f"/outlets/{outlet}",
        "run": f"/runs/{digest}",
        "adapter": f"/adapters/{run.adapter}",
        "ledger": f"/ledgers/{outlet}",
        "entry": f"/ledgers/{outlet}/1",
        "alerts": "/alerts",
        "attack": (folder / "attack" / attack_report.PAGE_FILE).resolve().as_uri(),
    }
    made = []
    out.mkdir(parents=True, exist_ok=True)
    with _serving([*exports, folder / "run"]) as address, _chromium() as browser:
        for look, options in LOOKS.items():
            context = browser.new_context(**options)
            page = context.new_page()
            for name, path in pages.items():
                page.goto(urljoin(address, path))
                made.append(out / f"{name}-{look}.png")
                made[-1].write_bytes(_small(page.screenshot()))
            context.close()
    return made


def _small(png: bytes) -> bytes:
    """A picture with a palette of its own."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as found:
        # By coverage and not by count, so that a small red badge stays red.
        flat = found.convert("RGB").quantize(
            COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
    stream = io.BytesIO()
    flat.save(stream, "PNG", optimize=True)
    if stream.tell() > LARGEST_PICTURE:
        raise InputError(
            "a picture is too large", expected=f"at most {LARGEST_PICTURE} bytes", got=stream.tell()
        )
    return stream.getvalue()


@contextmanager
def _serving(paths: Sequence[Path]) -> Iterator[str]:
    from presspool.common.audit.dashboard.asgi_app import Dashboard, create_app
    from presspool.common.audit.dashboard.serving import LOOPBACK, Serving, names, taken
    from presspool.common.audit.dashboard.source_watch import SourceWatch

    listener = taken(LOOPBACK, 0)
    dashboard = Dashboard(SourceWatch(lambda: paths))
    port = listener.getsockname()[1]
    try:
        with Serving(create_app(dashboard, hosts=names(port, LOOPBACK)), listener):
            yield f"http://{LOOPBACK}:{port}"
    finally:
        dashboard.close()


@contextmanager
def _chromium() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    if program is None:
        raise InputError(
            "no Chromium here",
            expected="the program `chromium`",
            advice="install Debian's package chromium",
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def main(folder: Path, out: Path) -> None:
    """Train the demo unless it is there, and take its pictures."""
    start_logging(quiet=False)
    if not (folder / "run" / RESULT_FILE).exists():
        make_demo(folder)
    for path in take(folder, out):
        err.print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
