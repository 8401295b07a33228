"""The run report: everything in it is text, every figure has its caution, every chart fits."""

import re
from collections import Counter
from dataclasses import replace
from datetime import date
from decimal import Decimal
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes import made_results
from tests.fakes.instruments.browser import chromium

from presspool.common.audit.pages import charts
from presspool.common.audit.pages.charts import nice_axis, round_axis
from presspool.common.audit.pages.run_report import render_report, write_report
from presspool.common.base.numbers import bound, byte_text, duration
from presspool.common.runs.old_results import METRICS
from presspool.common.runs.results import OutletResult, RoundResult, RunResult, WritingSample
from presspool.common.tasks.metric import Metric
from presspool.common.tasks.scores.answer_figures import (
    Abstention,
    AnswerFigures,
    LabelFigures,
    SureBin,
)

VOID = {"meta", "path", "circle", "br"}
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> \"'&amp;{{ 7*7 }}"


def metrics(number: int) -> dict[str, float | None]:
    """What round `number` of `a_run` measured."""
    accuracy, macro_f1 = min(0.9, 0.2 + number / 10), min(0.8, 0.1 + number / 10)
    return made_results.measured(accuracy=accuracy, macro_f1=macro_f1, loss=1.0)


def a_run(
    *,
    rounds: int = 3,
    outlets: int = 3,
    epsilon: float | None = 3.0,
    text: str = "plain",
    measured: bool = True,
    **changes: Any,
) -> RunResult:
    """A run whose accuracy rises from 20% by 10 points a round, at most to 90%."""
    names = tuple(f"{text} {number}" for number in range(outlets))
    body: dict[str, Any] = {
        "name": text,
        "contract_digest": "sha256:" + "0a" * 32,
        "status": "complete",
        "deterministic": False,
        "measures": METRICS,
        "rounds": tuple(
            RoundResult(
                round=number,
                metrics=metrics(number) if measured else made_results.measured(),
                bytes_up=1_000_000 if number else 0,
                bytes_down=2_000_000 if number else 0,
                seconds=2.0,
                epsilon=None if epsilon is None else epsilon * number / rounds,
                outlets=names[1:] if number else (),
                refused={names[0]: text} if number else {},
            )
            for number in range(rounds + 1)
        ),
        "outlets": tuple(
            OutletResult(
                name=name,
                population=1234,
                weight=2.0,
                epsilon=epsilon,
                delta=None if epsilon is None else 1e-5,
                unit="reader",
                steps=30,
            )
            for name in names
        ),
        "adapter_sha256": "1b" * 32,
        "statement": text,
        "trust": "local",
        "accountant": text,
        "seconds": 75.0,
        "versions": {text: text},
        "contract": {"name": text, "privacy": {text: [text]}, "outlets": [{"name": text, "n": 1}]},
    }
    return RunResult(**(body | changes))


class Page(HTMLParser):
    """A page taken apart: start tags with attributes, visible text, and what is left unclosed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"attribute twice in {tag}"
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag
        if tag in {"td", "th", "li", "dt", "dd", "h3", "small"}:
            self.text += " "

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def page_of(**parts: Any) -> Page:
    page = Page(render_report(a_run(**parts)))
    assert page.open == []
    return page


# --- safe to open -----------------------------------------------------------------------------


def test_foreign_text_never_becomes_markup() -> None:
    hostile, plain = page_of(text=HOSTILE), page_of()
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert [set(a) for _, a in hostile.tags] == [set(a) for _, a in plain.tags]
    assert hostile.text.count(HOSTILE) >= 8  # and every one of them can be read as it was written


def test_the_page_runs_nothing_and_fetches_nothing() -> None:
    html = render_report(a_run(text=HOSTILE))
    page = Page(html)
    assert not {"script", "iframe", "object", "link", "img", "form", "base"} & {
        tag for tag, _ in page.tags
    }
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert not {"src", "href", "xlink:href", "action"} & set(attributes)
    assert not re.search(r"url\(|@import|https?://", html)
    policy = next(a for a in page.named("meta") if "http-equiv" in a)
    assert policy["http-equiv"] == "Content-Security-Policy"
    for rule in ("default-src 'none'", "style-src 'unsafe-inline'", "img-src data:"):
        assert rule in policy["content"]
    assert "script-src" not in policy["content"]
    assert html.index("Content-Security-Policy") < html.index("<style>")


def test_a_report_of_a_large_pool_stays_small() -> None:
    html = render_report(a_run(rounds=100, outlets=30))
    assert len(html.encode()) < 150_000


# --- what it says -----------------------------------------------------------------------------


def test_each_section_has_its_sentence_and_the_charts_their_descriptions() -> None:
    page = page_of()
    for sentence in (
        "Accuracy rose from 20.0% before training to 50.0% of the public held-out records after "
        "round 3.",
        "The run reached 50.0% for ε = 3.00, δ = 1e-5 per reader and outlet;",
        "Each bar is the ε that this run spends on all records of one reader at that outlet.",
        "composes sequentially",
        "one reader at all 3 outlets: ε = 9.00, δ = 3e-5.",
        "Outlets sent 3.0 MB and received 6.0 MB in 3 rounds. One admitted update was about "
        "500.0 kB.",
        "The coordinator refused 3 updates; what is refused never enters the average.",
    ):
        assert sentence in page.words
    charts = page.named("svg")
    assert Counter(chart["class"] for chart in charts) == {"wide": 3, "narrow": 3}
    assert all(chart["role"] == "img" and "viewbox" in chart for chart in charts)
    assert all(re.match(r"(Line|Stacked bar) chart of .+\..+\.", c["aria-label"]) for c in charts)


def test_a_private_run_is_called_private_and_nothing_else_is() -> None:
    outlets = a_run().outlets
    record = tuple(replace(outlet, unit="record") for outlet in outlets)
    says = "private at reader level"
    assert says in page_of().words
    for parts in ({"epsilon": None}, {"deterministic": True}, {"outlets_given": record}):
        if "outlets_given" in parts:
            page = Page(render_report(replace(a_run(), outlets=record)))
        else:
            page = page_of(**parts)
        assert says not in page.words


def test_an_unprotected_run_says_so_in_red_wherever_an_epsilon_would_stand() -> None:
    page = page_of(epsilon=None)
    red = [a for tag, a in page.tags if "bad" in a.get("class", "").split()]
    assert len(red) >= 1 + 2 + 3 + 4  # badge, headline, outlets, rounds
    assert page.words.count("unprotected") >= 1 + 1 + 3 + 4 + 1
    assert "ε is infinite" in page.words
    assert "Worst case" not in page.words
    assert len(page.named("svg")) == 4  # no curve against a budget that does not exist


def test_record_level_is_called_weaker_beside_every_figure() -> None:
    run = a_run()
    record = tuple(replace(outlet, unit="record") for outlet in run.outlets)
    words = Page(render_report(replace(run, outlets=record))).words
    assert "record level: weaker than reader level" in words
    assert "per record (weaker)" in words
    assert words.count("record (weaker)") == 1 + 3
    assert "ε spent at one outlet (record level: weaker)" in words
    assert "That is weaker than reader level" in words
    assert "Record level is weaker than reader level" in words


def test_a_deterministic_run_is_called_a_simulation_beside_its_epsilon() -> None:
    words = page_of(deterministic=True).words
    assert words.count("noise was reproducible: a simulation, not a release") == 3
    assert "holds whatever the coordinator" not in words


def test_a_run_without_rounds_has_words_instead_of_charts() -> None:
    page = Page(render_report(replace(a_run(), rounds=(), status="running")))
    assert page.open == []
    assert not page.named("svg")
    for sentence in (
        "running",
        "No round has finished yet",
        "no round yet",
        "Nothing has moved between outlets and coordinator yet.",
        "No update was refused so far.",
    ):
        assert sentence in page.words


def test_a_run_without_held_out_set_says_how_to_get_one() -> None:
    page = page_of(measured=False)
    assert "An [evaluation] table in run.toml names one." in page.words
    assert len(page.named("svg")) == 2  # bytes only
    assert "fewer than two times" in page.words


def test_one_outlet_adds_up_to_nothing_more() -> None:
    assert "no reader pays at a second one" in page_of(outlets=1).words


def test_the_contract_is_shown_key_by_key() -> None:
    contract = {"seed": 7, "privacy": {"clip": 1.0}, "outlets": [{"name": "NRC", "population": 9}]}
    words = page_of(contract=contract).words
    for shown in ("seed 7", "privacy clip 1.0", "outlets NRC.population 9"):
        assert shown in words


PERPLEXITY = (
    Metric(name="loss", title="Loss", higher_is_better=False, unit="nats"),
    Metric(name="perplexity", title="Perplexity", higher_is_better=False, primary=True),
    Metric(name="hits", title="Token accuracy", higher_is_better=True),
)


def perplexity_page(values: list[float]) -> Page:
    """A run of another task, which measured these perplexities."""
    run = a_run(rounds=len(values) - 1)
    rounds = tuple(
        replace(entry, metrics={"loss": 4.5, "perplexity": value, "hits": 0.25})
        for entry, value in zip(run.rounds, values, strict=True)
    )
    page = Page(render_report(replace(run, measures=PERPLEXITY, rounds=rounds)))
    assert page.open == []
    return page


def test_another_task_is_told_by_its_own_metrics_the_primary_one_first() -> None:
    page = perplexity_page([120.0, 80.5, 60.25])
    for said in (
        "Perplexity fell from 120.0 before training to 60.250 on the public held-out records "
        "after round 2; lower is better.",
        "The run reached perplexity 60.250 for ε = 3.00",
        "Perplexity 60.250after round 2 Loss 4.500nats token accuracy 25.0%",
        "Round Perplexity Loss, nats Token accuracy ε spent",
        "Perplexity, loss and token accuracy are measured on public held-out data",
        "Perplexity per round",
        "Perplexity against ε",
    ):
        assert said in page.words
    assert "Accuracy" not in page.words
    assert "macro" not in page.words.lower()


@given(st.lists(st.floats(0, 1e12), min_size=2, max_size=6))
def test_an_axis_without_shares_covers_whatever_was_measured(values: list[float]) -> None:
    _inside(perplexity_page(values))


# --- charts -----------------------------------------------------------------------------------

BOX = re.compile(r"-?\d+(?:\.\d+)?")


def _inside(page: Page) -> None:
    """All coordinates are finite and within the last drawing's view box."""
    width = height = 0.0
    for tag, attributes in page.tags:
        if tag == "svg":
            _, _, width, height = map(float, attributes["viewbox"].split())
        elif tag == "circle":
            assert 0 <= float(attributes["cx"]) <= width
            assert 0 <= float(attributes["cy"]) <= height
        elif tag == "path":
            assert re.fullmatch(r"[MLHVhz0-9. ]+", attributes["d"]), attributes["d"]
            assert all(0 <= float(number) <= width for number in BOX.findall(attributes["d"]))


def test_dots_stand_where_their_figures_are() -> None:
    page = page_of(rounds=5)
    dots = [a for a in page.named("circle") if a["class"] == "main"]
    assert len(dots) == 2 * 2 * 6  # two charts, two widths, six rounds
    first = [(float(a["cx"]), float(a["cy"])) for a in dots[:6]]
    across = [b[0] - a[0] for a, b in pairwise(first)]
    down = [b[1] - a[1] for a, b in pairwise(first)]
    assert max(across) - min(across) < 0.3  # rounds are evenly apart
    assert max(down) - min(down) < 0.3  # ten points of accuracy each
    assert all(step < 0 for step in down)  # upwards
    assert "round 5: accuracy 70.0%" in page.words


@settings(max_examples=60, deadline=None)
@given(
    shares=st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=70),
    size=st.integers(0, 10**13),
    epsilon=st.floats(1e-6, 1e6),
)
def test_any_result_gives_a_whole_page(
    shares: list[float | None], size: int, epsilon: float
) -> None:
    names = ("north", "south")
    rounds = tuple(
        RoundResult(
            round=number,
            metrics=made_results.measured(accuracy=share, macro_f1=share),
            seconds=0.0,
            refused={},
            bytes_up=size if number else 0,
            bytes_down=size // 3 if number else 0,
            epsilon=epsilon * number / len(shares),
            outlets=names if number else (),
        )
        for number, share in enumerate(shares)
    )
    outlets = tuple(
        OutletResult(
            name=n, population=5, weight=0.0, epsilon=epsilon, delta=1e-6, unit="reader", steps=0
        )
        for n in names
    )
    page = Page(render_report(replace(a_run(), rounds=rounds, outlets=outlets)))
    assert page.open == []
    _inside(page)


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.integers(3, 10))
def test_an_axis_covers_its_values_with_few_even_ticks(low: float, span: float, count: int) -> None:
    axis = nice_axis(low, low + span, count=count, label=str, title="")
    slack = 1e-6 * max(1.0, abs(low), span)
    assert axis.low <= low + slack
    assert axis.high >= low + span - slack
    assert 2 <= len(axis.ticks) <= count + 2


@given(st.integers(0, 3), st.integers(0, 5000), st.sampled_from([5, 10]))
def test_rounds_are_whole_numbers_within_the_run(first: int, more: int, count: int) -> None:
    axis = round_axis(first, first + more, count=count)
    assert axis.ticks
    assert all(first <= tick.at <= first + more for tick in axis.ticks)
    assert all(tick.label == str(int(tick.at)) for tick in axis.ticks)
    assert len(axis.ticks) <= count + 1


# --- figures as text --------------------------------------------------------------------------


@given(st.floats(1e-12, 1e6))
def test_a_printed_bound_is_never_below_the_true_one(value: float) -> None:
    printed = Decimal(bound(value).replace(",", ""))
    assert printed >= Decimal(repr(value))
    assert printed <= Decimal(repr(value)) * Decimal("1.1") + Decimal("0.01")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (bound(2.9901), "3.00"),
        (bound(3.0), "3.00"),
        (bound(1e-5), "1e-5"),
        (bound(1.234e-7), "1.3e-7"),
        (bound(0.00999), "1e-2"),
        (bound(0.0), "0"),
        (byte_text(999), "999 B"),
        (byte_text(1_500), "1.5 kB"),
        (byte_text(2.5e9), "2.5 GB"),
        (duration(59.94), "59.9 s"),
        (duration(59.99), "1 min 00 s"),
        (duration(119.6), "2 min 00 s"),
        (duration(3 * 3600 + 59), "3 h 00 min"),
    ],
)
def test_figures_read_well(text: str, expected: str) -> None:
    assert text == expected


# --- for everybody ----------------------------------------------------------------------------


def test_labels_point_at_something_and_scrolling_works_by_keyboard() -> None:
    page = page_of()
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(set(ids)) == len(ids)
    assert {a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a} <= set(ids)
    for attributes in (a for _, a in page.tags if a.get("class") == "scroll"):
        assert attributes["tabindex"] == "0"
        assert attributes["role"] == "region"
        assert {"aria-label", "aria-labelledby"} & set(attributes)
    headings = [tag for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert headings.count("h1") == 1
    assert page.named("html")[0]["lang"] == "en"


def _luminance(colour: str) -> float:
    """WCAG 2.2, "relative luminance"."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_and_lines_can_be_seen_on_the_paper(mode: str) -> None:
    themes = re.findall(r":root \{(.*?)\}", render_report(a_run()), re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", themes[mode == "dark"]))
    paper = _luminance(colours["paper"])
    for name, least in [
        ("ink", 7.0),
        ("muted", 4.5),
        ("accent", 4.5),
        ("bad", 4.5),
        ("weak", 4.5),
        ("second", 3.0),
        ("down", 2.5),
    ]:
        light, dark = sorted([paper, _luminance(colours[name])], reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= least, name


def test_the_report_is_written_as_a_whole(tmp_path: Path) -> None:
    run = a_run()
    path = write_report(tmp_path, run)
    assert path == tmp_path / "report.html"
    assert path.read_text("utf-8") == render_report(run)
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


@given(
    days=st.lists(st.dates(date(1990, 1, 1), date(2090, 1, 1)), min_size=2, max_size=2),
    count=st.integers(2, 10),
)
def test_a_day_axis_covers_its_days_with_few_ticks_inside(days: list[date], count: int) -> None:
    first, last = sorted(days)
    axis = charts.day_axis(first, last, count=count)
    assert axis.low <= first.toordinal() <= last.toordinal() <= axis.high
    assert axis.low < axis.high
    assert all(axis.low <= tick.at <= axis.high for tick in axis.ticks)
    assert len({tick.label for tick in axis.ticks}) == len(axis.ticks) <= count + 1


def test_a_stepped_line_keeps_its_value_until_the_next_point() -> None:
    line = charts.Series(
        style="main", name="used", points=((0, 0), (1, 1)), texts=("", ""), stepped=True
    )
    axis = charts.nice_axis(0, 1, count=2, label=str, title="")
    drawn = charts.line_chart([line], x=axis, y=axis, width=charts.WIDE).paths[0].path
    assert re.fullmatch(r"M46 218H664V30", drawn), drawn


@pytest.mark.parametrize("width", [390, 1100])
def test_what_it_writes_is_on_the_page_whole(width: int, tmp_path: Path) -> None:
    """All four columns, however long a text is; on a telephone one below another."""
    texts = ["x" * 3000, "\u0634\u0644\u05d5\u05dd " * 40, HOSTILE, "", "two\nlines"]
    samples = tuple(
        WritingSample(asked=text or "a", answer=text, before=text, after=text) for text in texts
    )
    (tmp_path / "report.html").write_text(render_report(a_run(samples=samples)), encoding="utf-8")
    with chromium() as browser:
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto((tmp_path / "report.html").as_uri())
        cells = page.locator("section[aria-labelledby=samples] tbody :is(th, td)")
        said = page.locator("section[aria-labelledby=samples] tbody td bdi")
        assert said.last.inner_text() == "two\nlines"
        boxes = [cells.nth(place).bounding_box() for place in range(cells.count())]
        assert len(boxes) == 4 * len(texts)
        for box in boxes:
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            assert 0 < box["height"] < 250


def with_figures(**changes: Any) -> str:
    body: dict[str, Any] = {
        "labels": (
            LabelFigures(label="<b>sport</b>", records=8, answers=10, right=6),
            LabelFigures(label="war", records=2, answers=0, right=0),
        ),
        "bins": (
            SureBin(answers=4, sure=0.4, right=0.25),
            SureBin(answers=6, sure=0.9, right=5 / 6),
        ),
        "ece": 0.1,
    }
    return render_report(made_results.a_run(figures=AnswerFigures(**(body | changes))))


def test_labels_have_their_own_table_and_a_reliability_chart() -> None:
    page = Page(with_figures())
    assert not page.open
    said = " ".join(page.text.split())
    assert "<b>sport</b> 8 10 6 60.0% 75.0% 66.7%" in re.sub(r"\s+", " ", said)
    assert "war 2 0 0 – 0.0% 0.0%" in said
    assert "Of 10 answers to public held-out records 60.0% are right" in said
    assert "70.0% sure of them in the mean. The expected calibration error is 10.0%." in said
    assert "4 answers, 40.0% sure: 25.0% right" in said
    assert "not given" not in said
    assert "Label by label" not in render_report(made_results.a_run())


def test_what_is_not_answered_is_said_with_what_it_was_tried_on() -> None:
    chosen = Abstention(wanted=0.9, up_to=0.625, records=200, answered=150, right=138)
    said = " ".join(Page(with_figures(abstention=chosen)).text.split())
    assert "An answer that is at most 62.5% sure is not given" in said
    assert "of the other half 75.0% got an answer, and 92.0% of these answers are right" in said
    never = replace(chosen, up_to=1.0, answered=0, right=0)
    assert "No answer is given: 90.0% right" in Page(with_figures(abstention=never)).text


def test_of_very_many_labels_a_page_has_those_with_the_most_records() -> None:
    labels = tuple(LabelFigures(label=f"l{n}", records=n, answers=0, right=0) for n in range(300))
    page = with_figures(labels=labels)
    assert "The 100 labels with the most records of 300; result.json has all." in page
    assert ("<bdi>l200</bdi>" in page, "<bdi>l199</bdi>" in page) == (True, False)
