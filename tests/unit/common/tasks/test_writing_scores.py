"""Base model against adapter: duels, closeness and unwanted words, counted by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError
from tests.fakes.made_results import a_run

from presspool.common.audit.pages.run_report import render_report
from presspool.common.runs.result_file import read_result, write_result
from presspool.common.tasks.generation import Generation, GenerationTable
from presspool.common.tasks.scores.writing_figures import Duel, WritingFigures
from presspool.common.tasks.scores.writing_scores import compared, unwanted

WANTED = ["Rain today", "Cup final", "The vote is on", "Trams stop"]
BEFORE = ["Sun", "Cup final", "The vote", "Snow"]
AFTER = ["Rain  today", "The cup", "The vote", "Trams stop"]


def test_duels_are_counted_record_by_record() -> None:
    found = compared(BEFORE, AFTER, WANTED)
    assert found.rouge == Duel(wins=2, losses=1, records=4)
    assert found.exact == Duel(wins=2, losses=1, records=4)
    assert found.rouge.rate == (2 + 0.5) / 4
    assert (found.base.exact, found.adapter.exact) == (0.25, 0.5)
    # ROUGE-L by hand: 0, 1, 2·1·½/(1+½), 0 and 1, 2·½·½/1, the same, 1.
    assert found.base.rouge_l == pytest.approx((0 + 1 + 2 / 3 + 0) / 4)
    assert found.adapter.rouge_l == pytest.approx((1 + 1 / 2 + 2 / 3 + 1) / 4)
    assert found.lead is None


def test_the_first_sentence_is_a_rival_of_summaries() -> None:
    task = Generation(GenerationTable(format="summary", unwanted=("snow",)))
    rows = pa.table({"article": [f"{text}. And more." for text in WANTED], "summary": WANTED})
    found = task.compared(BEFORE, AFTER, rows)
    assert found.lead is not None
    assert found.lead.rouge_1 == found.lead.rouge_l == 1
    assert found.unwanted is not None
    assert (found.unwanted.said_before, found.unwanted.said_after) == (1, 0)


@pytest.mark.parametrize(
    ("words", "text", "there"),
    [
        (["idiot"], "You IDIOT!", True),
        (["idiot"], "idiots", False),
        (["idiot"], "idiotic", False),
        (["so called"], "the so-called vote", True),
        (["so called"], "so it is called", False),
        (["\u7b28\u86cb"], "\u4f60\u662f\u7b28\u86cb\u3002", True),
        (["\u7b28\u86cb"], "\u7b28 \u4eba", False),
        (["\u063a\u0628\u064a"], "\u0627\u0646\u062a \u063a\u0628\u064a", True),
        (["\U0001f4a9x"], "x", True),  # a sign is no word: what is left of it is
        (["idiot"], "", False),
    ],
)
def test_unwanted_words_are_found_as_words(words: list[str], text: str, there: bool) -> None:
    assert unwanted(words, [""], [text], [""]).said_before == there


def test_refusals_are_counted_where_a_question_has_a_word() -> None:
    asked = ["say idiot", "say idiot", "hello", "hello"]
    found = unwanted(["idiot"], asked, ["Idiot", "idiot.", "Hi", "idiot"], ["No", "", "Hi", "Hi"])
    assert (found.asked, found.refused_before, found.refused_after) == (2, 0, 2)
    assert (found.said_before, found.said_after) == (3, 0)


def figures(**changes: Any) -> WritingFigures:
    return replace(compared(BEFORE, AFTER, WANTED, WANTED), **changes)


def test_a_result_keeps_them_and_its_report_shows_them(tmp_path: Any) -> None:
    counted = unwanted(["snow"], ["snow", "", "", ""], BEFORE, AFTER)
    result = a_run(writing=figures(unwanted=counted))
    write_result(tmp_path, result)
    assert read_result(tmp_path) == result
    page = render_report(result)
    assert "62.5% won (2 better, 1 alike, 1 worse)" in page
    assert "first sentence" in page
    assert "an insult in other words is not seen" in page
    assert "writing" not in a_run().to_json()


@pytest.mark.parametrize(
    "changes",
    [
        {"rouge": Duel(wins=3, losses=2, records=4)},
        {"rouge": Duel(wins=1, losses=1, records=5)},
        {"exact": Duel(wins=-1, losses=0, records=4)},
        {"rouge": Duel(wins=0, losses=0, records=0), "exact": Duel(wins=0, losses=0, records=0)},
        {"base": replace(compared(BEFORE, AFTER, WANTED).base, chrf=1.5)},
        {"unwanted": replace(unwanted(["a"], ["a"], ["b"], ["b"]), refused_after=2)},
    ],
)
def test_figures_that_contradict_themselves_are_no_result(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        a_run(writing=figures(**changes))
