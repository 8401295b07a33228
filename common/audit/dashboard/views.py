"""What each page says, as plain values; the templates only place them.

Numbers of ledgers come from `audit.document`, those of runs from their results. A value's path in
these documents is what the page writes into `data-of`, so that a test can look it up in the source:
`outlets.I.…` and `worst_case.…` as in `presspool audit report --format json` and for one run,
`results.RUN.…` in that run's `result.json`, `entries.…` in a ledger's entry, `cards.…` in a card.

Invariants:
    * A page's cost does not grow with a ledger: lists are cut to the newest, the rest is paged.
    * What is not there raises `NotThereError`, never an empty page.

Example:
    >>> key("example.org/outlet"), origin("example.org~outlet")
    ('example.org~outlet', 'example.org/outlet')
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from presspool.common.audit.cards import card as cards
from presspool.common.audit.dashboard.alerts import alerts
from presspool.common.audit.dashboard.snapshot import PoolRun, Snapshot
from presspool.common.audit.evidence.evidence import RunReading, WorstCaseSum
from presspool.common.audit.evidence.ledger_view import OutletReading
from presspool.common.audit.pages import panels
from presspool.common.audit.pages import report_page as audit_page
from presspool.common.audit.pages.report_json import Document, outlet_document, sentence
from presspool.common.base.errors import CardError, PressPoolError
from presspool.common.runs.shown_metrics import ShownMetric, shown_of

NEWEST = 20  # runs and refusals of a list that is cut


class NotThereError(PressPoolError):
    """No such page; says what there is instead."""


def key(name: str) -> str:
    """An origin as one part of a path; "~" stands in no origin."""
    return name.replace("/", "~")


def origin(part: str) -> str:
    """The origin of a part of a path."""
    return part.replace("~", "/")


@dataclass(frozen=True, kw_only=True)
class RunLine:
    """A run in a list.

    Attributes:
        digest: of its contract.
        folder: its folder's reading; None before its first round.
        pool: what the coordinator says of it.
    """

    digest: str
    name: str
    state: str
    folder: RunReading | None
    pool: PoolRun | None

    @property
    def live(self) -> bool:
        """Whether it goes on."""
        return self.state in ("queued", "running")

    @property
    def primary(self) -> ShownMetric | None:
        """What its task is after; None before the first round."""
        return shown_of(self.folder.result)[0] if self.folder else None


def run_lines(look: Snapshot) -> list[RunLine]:
    """All runs, those that go on first, then the newest of the coordinator's, then by name."""
    pool = {run.contract: run for run in (look.pool.runs if look.pool else ())}
    folders = {run.contract.digest: run for run in look.evidence.runs}
    lines = [
        RunLine(
            digest=digest,
            folder=folders.get(digest),
            pool=pool.get(digest),
            name=pool[digest].name if digest in pool else folders[digest].contract.name,
            state=pool[digest].state if digest in pool else folders[digest].result.status,
        )
        for digest in (*reversed(pool), *(d for d in folders if d not in pool))
    ]
    return sorted(lines, key=lambda line: not line.live)


def overview(look: Snapshot) -> dict[str, Any]:
    """The first page."""
    found = alerts(look)
    claims = look.evidence.claims
    return {
        "outlets": [_short_outlet(outlet) for outlet in look.evidence.outlets],
        "runs": run_lines(look),
        "found": found,
        "claims": None if claims is None else {"epsilon": str(claims[0]), "delta": str(claims[1])},
        "live": any(line.live for line in run_lines(look)),
    }


def outlet(look: Snapshot, part: str) -> dict[str, Any]:
    """One outlet: its budget over time, its runs and refusals."""
    at, reading = reading_of(look, part)
    body = outlet_document(reading, newest=NEWEST)
    return {
        "at": f"outlets.{at}.",
        "outlet": body,
        "panel": audit_page.budget_panel(body),
        "sentence": sentence(reading),
        "first_run": max(0, len(reading.runs) - NEWEST),
        "all_runs": len(reading.runs),
        "first_refusal": max(0, len(reading.refusals) - NEWEST),
        "all_refusals": len(reading.refusals),
        "found": [a for a in alerts(look) if a.origin == reading.origin],
        "live": False,
        "names": {r.contract.digest: r.contract.name for r in look.evidence.runs},
    }


def run(look: Snapshot, digest: str) -> dict[str, Any]:
    """A run: rounds, what it measured, bytes, who took part, refusals, and what it costs."""
    line = next((line for line in run_lines(look) if line.digest == digest), None)
    kept = [
        _kept(at, outlet, index)
        for at, outlet in enumerate(look.evidence.outlets)
        for index, found in enumerate(outlet.runs)
        if found.run == digest
    ]
    if line is None and not kept:
        raise NotThereError("no such run", got=digest)
    result = line.folder.result if line and line.folder else None
    case, metrics = look.evidence.worst_case(digest), shown_of(result) if result else ()
    return {
        "digest": digest,
        "line": line,
        "result": result,
        "contract": line.folder.contract if line and line.folder else None,
        "metrics": metrics,
        "columns": [f"#{metric.title}" for metric in metrics],
        "measured": panels.measured_panel(result) if result else None,
        "traffic": panels.traffic_panel(result) if result else None,
        "kept": kept,
        "worst": _worst(case),
        "adapter": line.folder.adapter if line and line.folder else None,
        "unclaimed": look.evidence.unclaimed(digest),
        "live": bool(line and line.live),
    }


def adapter(look: Snapshot, sha: str) -> dict[str, Any]:
    """An adapter: statement, card, lineage."""
    found = next((run for run in look.evidence.runs if run.adapter == sha), None)
    if found is None:
        raise NotThereError("no such adapter", got=sha)
    card, fault = _card(look.cards.get(sha), sha)
    lines = [line for line in look.evidence.lineage if line.run == found.contract.digest]
    return {
        "sha": sha,
        "run": found,
        "result": found.result,
        "card": card,
        "fault": fault,
        "lineage": lines,
        "unclaimed": look.evidence.unclaimed(found.contract.digest),
        "worst": _worst(look.evidence.worst_case(found.contract.digest)),
        "sections": [] if card is None else _sections(card),
        "live": False,
    }


def alert_page(look: Snapshot) -> dict[str, Any]:
    """Everything that somebody should look at."""
    return {"found": alerts(look), "live": any(line.live for line in run_lines(look))}


def adapters(look: Snapshot) -> list[RunReading]:
    """Runs that have released an adapter."""
    return [run for run in look.evidence.runs if run.adapter is not None]


def reading_of(look: Snapshot, part: str) -> tuple[int, OutletReading]:
    """Where a ledger stands in the evidence, and what it says."""
    name = origin(part)
    for at, found in enumerate(look.evidence.outlets):
        if found.origin == name:
            return at, found
    known = ", ".join(outlet.origin for outlet in look.evidence.outlets) or "no ledger"
    raise NotThereError("no such ledger", expected=known, got=name)


def _short_outlet(reading: OutletReading) -> Document:
    return {**outlet_document(reading, newest=1), "all_runs": len(reading.runs)}


def _kept(at: int, outlet: OutletReading, index: int) -> Document:
    """A run as one ledger has it."""
    alone = replace(outlet, runs=(outlet.runs[index],), refusals=(), points=())
    return {
        "origin": outlet.origin,
        "at": f"outlets.{at}.runs.{index}.",
        **outlet_document(alone)["runs"][0],
    }


def _worst(case: WorstCaseSum) -> Document:
    return {
        "complete": case.complete,
        "parts": case.parts,
        "unnamed": case.unnamed,
        "epsilon": None if case.epsilon is None else str(case.epsilon),
        "delta": None if case.delta is None else str(case.delta),
    }


def _card(text: bytes | None, sha: str) -> tuple[Document | None, str]:
    if text is None:
        return None, ""
    try:
        made = cards.parse(json.loads(text)).model_dump(mode="json")
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None, "The card’s file is not JSON."
    except CardError as error:
        return None, str(error)
    if made["governance"]["hashes"]["adapter"] != f"sha256:{sha}":
        return None, "The card beside this adapter is another adapter’s."
    return made, ""


def _sections(card: Document) -> list[tuple[str, list[tuple[str, str, Any]]]]:
    """Each part of a card with its fields, flat: path, name, value."""
    parts = ("registry", "training", "governance", "data_protection")
    # Cards of format 1 have no part data_protection.
    return [(name, list(_flat(card[name], f"{name}."))) for name in parts if card.get(name)]


def _flat(value: Any, path: str) -> Any:
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from _flat(inner, f"{path}{name}.")
        else:
            shown = "; ".join(map(_item, inner)) if isinstance(inner, list) else inner
            yield (
                f"{path}{name}",
                f"{path}{name}".partition(".")[2],
                "–" if inner is None else shown,
            )


def _item(value: Any) -> str:
    return ", ".join(map(str, value.values())) if isinstance(value, dict) else str(value)
