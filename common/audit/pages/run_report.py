"""`report.html`: one page that says what a run reached, what it cost readers, and what moved.

The page is one file without scripts and without anything to fetch, so it can be mailed, archived
and opened in ten years. Each drawing stands beside a sentence that says what it shows, and all
figures stand in a table as well.

Invariants:
    * Everything from the result is text: autoescape is on, and the page's own policy forbids
      scripts and requests should a text get through all the same.
    * An ε never stands alone: δ, unit, and every caution of the result stand beside it.
    * A running, unmeasured or unprotected run has its own words, never an empty drawing.

Example:
    >>> from presspool.common.runs.results import OutletResult, RunResult
    >>> from presspool.common.tasks.metric import Metric
    >>> north = OutletResult(name="north", population=9, weight=1.0, epsilon=None, delta=None,
    ...                      unit="reader", steps=0)
    >>> hits = Metric(name="hits", title="Hits", higher_is_better=True, primary=True)
    >>> page = render_report(RunResult(
    ...     name="<em>", contract_digest="sha256:" + "0" * 64, status="running",
    ...     deterministic=False, measures=(hits,), rounds=(), outlets=(north,), adapter_sha256=None,
    ...     statement="No noise was added.", trust="local", accountant="none", seconds=0.0,
    ...     versions={}, contract={}))
    >>> "&lt;em&gt;" in page, "<em>" in page, "unprotected" in page
    (True, False, True)
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from presspool.common.audit.pages.answer_panels import label_rows, reliability_panel
from presspool.common.audit.pages.clock_panel import clock_panel
from presspool.common.audit.pages.comparison import dotted_keys
from presspool.common.audit.pages.outlet_rows import MOST, outlet_rows
from presspool.common.audit.pages.panels import claim, measured_panel, tradeoff_panel, traffic_panel
from presspool.common.audit.pages.writing_panels import closeness_rows, writing_sentences
from presspool.common.base.files import replace_file
from presspool.common.base.numbers import (
    bound,
    byte_text,
    duration,
    percent,
    plain,
)
from presspool.common.contract.doors import TRUST_MODELS
from presspool.common.runs.results import Caution, RunResult
from presspool.common.runs.shown_metrics import listed, shown_of

REPORT_FILE = "report.html"


def render_report(result: RunResult) -> str:
    """The whole HTML page of a run."""
    metrics = shown_of(result)
    return _PAGE.render(
        result=result,
        Caution=Caution,
        metrics=metrics,
        listed=listed(metrics),
        measured=measured_panel(result),
        tradeoff=tradeoff_panel(result),
        traffic=traffic_panel(result),
        clock=clock_panel(result),
        reliability=reliability_panel(result.figures) if result.figures else None,
        label_rows=label_rows(result.figures) if result.figures else (),
        writing=writing_sentences(result.writing) if result.writing else (),
        closeness=closeness_rows(result.writing) if result.writing else (),
        budget=_budget_sentences(result),
        largest=max((outlet.epsilon or 0.0 for outlet in result.outlets), default=0.0) or 1.0,
        outlets=outlet_rows(result.outlets),
        crowd=_cohort(result) or len(result.outlets),
        most=MOST,
        total_weight=sum(outlet.weight for outlet in result.outlets),
        refusals=[(e.round, *pair) for e in result.rounds for pair in e.refused.items()],
        sections=_sections(result.contract),
    )


def write_report(folder: Path, result: RunResult) -> Path:
    """Write or replace the folder's report.html as a whole; returns its path.

    Raises:
        StorageError: the disk refused; an earlier report is still there and whole.
    """
    return replace_file(folder / REPORT_FILE, render_report(result).encode())


def _budget_sentences(result: RunResult) -> list[str]:
    if result.worst_case is None:
        return [
            "At least one outlet trained without noise: no bound holds for its readers, nor for "
            "a reader of several outlets."
        ]
    unit = "all records of one reader" if result.unit == "reader" else "one record"
    texts = [f"Each bar is the ε that this run spends on {unit} at that outlet."]
    if result.unit == "record":
        texts[0] += " That is weaker than reader level: a reader with many records pays more."
    if result.deterministic:
        texts.append(f"Not private: {Caution.SIMULATION}. The figures are what secret noise costs.")
    elif result.trust in TRUST_MODELS.names:
        texts.append(TRUST_MODELS[result.trust].words_of(result.contract).claim)
    if result.pooled is not None:
        texts.append(
            "If everybody but the outlet works together, only its own share of the noise is left: "
            f"{claim(Decimal(repr(result.pooled.alone)), Decimal(repr(result.delta)))} then."
        )
    return [*texts, *_in_turn(result), _several_outlets(result)]


def _cohort(result: RunResult) -> int | None:
    """Outlets that a round asks, where not all are asked."""
    federation = result.contract.get("federation")
    size = federation.get("cohort") if isinstance(federation, Mapping) else None
    return size if isinstance(size, int) else None


def _in_turn(result: RunResult) -> list[str]:
    """What cohorts change in the bars, and what the table leaves out."""
    texts, size = [], _cohort(result)
    if size is not None:
        texts.append(
            f"A round asked {size:,} of {len(result.outlets):,} outlets, in turns that anybody can "
            "draw from the contract; each pays for its own rounds in full, and no amplification is "
            "claimed."
        )
    if hidden := outlet_rows(result.outlets).hidden:
        texts.append(f"{hidden:,} more outlets, which spent no more, are in result.json.")
    return texts


def _several_outlets(result: RunResult) -> str:
    if len(result.outlets) == 1 or result.worst_case is None:
        return "This run had one outlet, so no reader pays at a second one."
    epsilon, delta = result.worst_case
    if result.pooled is not None:
        return (
            "A reader at several outlets is a group inside each of the sums, which costs more than "
            f"the outlets' ε together. Worst case, one {result.unit} at all "
            f"{len(result.outlets)} outlets: {claim(epsilon, delta)}."
        )
    return (
        "A reader at several outlets composes sequentially, because each round's model already "
        "carries the other outlets' data; that the outlets answer in turn changes nothing (Vadhan "
        f"and Zhang 2023). Worst case, one {result.unit} at all {len(result.outlets)} outlets: "
        f"{claim(epsilon, delta)}."
    )


def _sections(contract: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """The contract's dotted keys by their first part; plain top-level keys come first."""
    sections: dict[str, list[tuple[str, str]]] = {"": []}
    for key, value in dotted_keys(contract).items():
        head, _, rest = key.partition(".")
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        sections.setdefault(head if rest else "", []).append((rest or key, shown))
    return {head: _cut(rows) for head, rows in sections.items() if rows}


def _cut(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    if len(rows) <= MOST:
        return rows
    return [*rows[:MOST], (f"{len(rows) - MOST:,} more", "in contract.json")]


def environment(*packages: str) -> Environment:
    """How every page is printed: its templates, and how its figures are written.

    Args:
        packages: whose templates there are, beside those of this package.
    """
    found = [PackageLoader(package) for package in (*packages, "presspool.common.audit.pages")]
    made = Environment(
        loader=ChoiceLoader(found),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for said in (percent, bound, plain, byte_text, duration):
        made.filters[said.__name__] = said
    return made


_PAGE = environment().get_template("report.html")
