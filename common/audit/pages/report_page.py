"""The compliance report as one HTML page, and as the PDF that the same page prints to.

Made from `document.document` alone. Every number of a ledger stands in a `<data>` element whose
`data-of` is its path in that document, `value` the exact number and `title` the entry it comes
from, so that a reader, and a test, can find it again.

Invariants:
    * Autoescape is on, and the page's own policy forbids scripts and requests.
    * Each drawing stands beside a table or a sentence that says the same.
    * Equal documents give equal pages.

Example:
    >>> from presspool.common.audit.pages.report_json import document
    >>> from presspool.common.audit.evidence.evidence import Evidence
    >>> from presspool.common.audit.evidence.governance import Fields
    >>> "<script" in render(document(Evidence(outlets=(), runs=()), Fields()))
    False
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from presspool.common.audit.evidence.verdicts import uncosigned
from presspool.common.audit.pages import charts, missing_fonts, phrases, run_report, spending
from presspool.common.audit.pages.charts import Drawing, Series
from presspool.common.audit.pages.panels import Chart, Panel
from presspool.common.audit.pages.report_json import Document
from presspool.common.base.errors import InputError
from presspool.common.base.extras import not_here
from presspool.common.base.numbers import bound, percent, percent_tick

log = logging.getLogger(__name__)


def render(body: Document) -> str:
    """The whole page."""
    return _PAGE.render(
        doc=body,
        panels=[budget_panel(o) for o in body["outlets"]],
        rooms=[spending.room_of(o) for o in body["outlets"]],
        not_stated=phrases.NOT_STATED,
    )


def pdf(page: str) -> bytes:
    """The page as PDF, by WeasyPrint; nothing is fetched.

    Raises:
        InputError: WeasyPrint, or the Pango that it draws with, is not here.
    """
    try:
        import weasyprint
    except ImportError as error:
        raise not_here(
            "pdf",
            error,
            "no WeasyPrint here",
            where="--format pdf",
            otherwise="print the HTML page",
        ) from None
    except OSError as error:  # its C libraries
        raise InputError(
            "WeasyPrint finds no Pango",
            where="--format pdf",
            got=str(error).partition("\n")[0],
            advice="install Pango (Debian: libpango-1.0-0 libpangoft2-1.0-0), or print the HTML "
            "page",
        ) from None
    logging.getLogger("weasyprint").setLevel(logging.ERROR)  # it says which CSS it leaves out
    made: bytes = weasyprint.HTML(string=page, url_fetcher=_nothing_fetched).write_pdf()
    missing_fonts.say(missing_fonts.undrawn(page))
    return made


def _nothing_fetched(url: str, *_: Any, **__: Any) -> Any:
    raise ValueError(f"a report fetches nothing, and this would: {url[:80]}")


def budget_panel(outlet: Document) -> Panel:
    """How an outlet's budget went over time."""
    points: Sequence[Document] = outlet["points"]
    if len(points) < 2:
        return Panel(sentence="Nothing has been charged yet, so there is no curve to show.")
    last = date.fromisoformat(points[-1]["day"])
    eve = date.fromisoformat(points[0]["day"]) - timedelta(days=1)  # so that the first day is seen
    line = _used(points, eve)
    y = charts.nice_axis(
        0, 1, count=5, label=percent_tick, title="share of the lifetime budget used"
    )

    def draw(width: int) -> Drawing:
        x = charts.day_axis(eve, last, count=8 if width > charts.NARROW else 4)
        return charts.line_chart([line], x=x, y=y, width=width, level=1.0)

    begun, ended = points[0]["day"], points[-1]["day"]
    when = f"On {begun}" if begun == ended else f"From {begun} to {ended}"
    sentence = (
        f"{when} the used share of the lifetime budget "
        f"went from {percent(points[0]['share'])} to {percent(points[-1]['share'])}."
    )
    chart = Chart(
        alt=f"Step chart of the budget over time. {sentence}",
        wide=draw(charts.WIDE),
        narrow=draw(charts.NARROW),
        legend=(),
    )
    return Panel(sentence=sentence, chart=chart)


def _used(points: Sequence[Document], eve: date) -> Series:
    newest = {date.fromisoformat(p["day"]).toordinal(): p for p in points}  # a day's last
    later = [(day, min(1.0, p["share"])) for day, p in newest.items()]
    told = [f"{p['day']}, entry {p['entry']}: {percent(p['share'])} used" for p in newest.values()]
    return Series(
        style="main",
        name="used",
        stepped=True,
        points=((eve.toordinal(), 0.0), *later),
        texts=(f"{eve}, before the ledger's first entry: nothing used", *told),
        end=percent(points[-1]["share"]),
    )


def _data(value: float | str | None, of: str, entry: int | None, shown: str) -> Markup:
    """A number with what it is, exactly, and where it stands."""
    if value is None:
        return Markup("–")
    if entry is None:
        return Markup('<data value="{}" data-of="{}">{}</data>').format(value, of, shown)
    return Markup(
        '<data value="{}" data-of="{}" data-entry="{}" title="entry {}">{}</data>'
    ).format(value, of, entry, entry, shown)


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def _nats(value: float) -> str:
    return f"{value:.6f}"


def environment(*packages: str) -> Environment:
    """How report and dashboard print a page: as a run's report, and numbers can be checked."""
    made = run_report.environment(*packages)
    made.globals["data"] = _data
    made.filters |= {
        "short": _short,
        "nats": _nats,
        "quoted": shlex.quote,
        "uncosigned": uncosigned,
        "sum_text": lambda text: bound(Decimal(text)),
    }
    return made


_PAGE = environment().get_template("audit.html")
