"""Words that move labels, over the public rows, and explanations that do not add up."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pytest
from tests.conftest import LABELS, WORDS
from tests.fakes.registry.judged_cases import case_of, news, sentences, texts_table

from presspool.common.released import explained_answers
from presspool.common.released.explained_answers import ExplainedLabel
from presspool.server.gate.checks import explanations
from presspool.server.gate.finding import Finding


def one(folder: Path, adapter: Path, public: pa.Table | None) -> Finding:
    asked = {"explanations": {"rows": 24, "words": 3}}
    (found,) = explanations.findings(case_of(folder, adapter, asked, public))
    return found


def test_words_of_a_topic_lead_its_label(clean: Path, tmp_path: Path) -> None:
    found = one(tmp_path, clean, news(60))
    assert found.verdict == "passed"
    assert found.figures == {"rows": 24, "off": 0}
    assert len(found.rows) == 3 * len(LABELS)
    for label in LABELS:
        rows = [row for row in found.rows if row["label"] == label]
        assert rows[0]["word"] in WORDS[label], rows
        assert float(rows[0]["adds"] or 0) > 0


def test_what_does_not_add_up_is_refused(
    biased: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step is no line: what catches a completeness that is not looked at."""
    plain = explained_answers.explain
    monkeypatch.setattr(explanations, "explain", lambda *asked: plain(*asked, steps=1))
    found = one(tmp_path, biased, news(60))
    assert found.verdict == "failed"
    assert int(found.figures["off"] or 0) > 0


@pytest.mark.parametrize(
    ("gap", "verdict"), [(0.04, "passed"), (0.06, "failed"), (math.nan, "failed")]
)
def test_a_gap_is_judged_row_by_row(gap: float, verdict: str) -> None:
    made = [
        ExplainedLabel(label="a", probability=0.9, without=0.4, words=(("x", 0.5),), gap=each)
        for each in (0.0, 0.0, gap)
    ]
    found = explanations.judged(made, words=5)
    assert found.verdict == verdict
    assert found.rows == ({"label": "a", "word": "x", "adds": 0.5, "times": 3},)


def test_words_that_speak_against_a_label_are_not_its_words() -> None:
    words = (("x", 0.5), ("y", -0.2), ("z", 0.0))
    made = [ExplainedLabel(label="a", probability=0.9, without=0.6, words=words, gap=0.0)]
    assert [row["word"] for row in explanations.judged(made, words=5).rows] == ["x"]


def test_without_rows_or_labels_nothing_is_explained(
    clean: Path, writer: Path, tmp_path: Path
) -> None:
    assert one(tmp_path, clean, None).verdict == "failed"
    rows = texts_table(*sentences(3))
    case = case_of(tmp_path, writer, {"explanations": {}}, rows)
    assert [found.verdict for found in explanations.findings(case)] == ["failed"]
    assert not [*explanations.findings(case_of(tmp_path, clean, {}, None))]
