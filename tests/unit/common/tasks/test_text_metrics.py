"""Metrics on texts against values that others publish or a hand computes."""

from __future__ import annotations

import pytest

from presspool.common.tasks.scores.text_metrics import (
    chrf,
    distinct_2,
    exact_match,
    first_sentence,
    rouge,
    rouge_l_each,
)

QUICK = "the quick brown fox jumps over the lazy dog"


def test_rouge_l_is_that_of_the_longest_common_subsequence() -> None:
    said = "the quick brown dog jumps on the log."
    common = len(["the", "quick", "brown", "jumps", "the"])
    precision, recall = common / 8, common / 9
    expected = 2 * precision * recall / (precision + recall)
    assert rouge_l_each([said], [QUICK]) == pytest.approx([expected])


def test_rouge_l_of_lin_2004() -> None:
    wanted = "police killed the gunman"
    assert rouge_l_each(["police kill the gunman"], [wanted]) == pytest.approx([3 / 4])
    assert rouge_l_each(["the gunman kill police"], [wanted]) == pytest.approx([2 / 4])


@pytest.mark.parametrize(
    "text", ["\u5317\u4eac\u65b0\u95fb", "\u0623\u062e\u0628\u0627\u0631", "Élection"]
)
def test_every_script_has_words(text: str) -> None:
    assert rouge_l_each([text], [text]) == [1]
    assert rouge_l_each(["goal"], [text]) == [0]


def test_chrf_is_sacrebleus_by_definition() -> None:
    assert chrf([QUICK], [QUICK]) == pytest.approx(1)
    assert chrf(["777"], [QUICK]) == 0
    # Characters "ab" and "ac": unigrams 1 of 2 on both sides, bigrams 0 of 1; orders above are not
    # there. F2 of the mean precision and recall, 1/4 each.
    assert chrf(["ab"], ["ac"]) == pytest.approx(0.25)


def test_distinct_2_counts_pairs_over_words() -> None:
    assert distinct_2(["goal goal goal goal"]) == 1 / 4
    assert distinct_2(["a b", "c d"]) == 2 / 4
    assert distinct_2([""]) is None


def test_exact_match_looks_past_white_space_alone() -> None:
    assert exact_match(["a  b\n", "a", "A"], ["a b", "b", "a"]) == pytest.approx(1 / 3)


def test_rouge_1_and_2_count_words_and_pairs() -> None:
    found = rouge(["police kill the gunman"], ["police killed the gunman"])
    assert found["rouge_1"] == pytest.approx(3 / 4)
    assert found["rouge_2"] == pytest.approx(1 / 3)
    assert found["rouge_l"] == pytest.approx(3 / 4)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Shares fell 3.5 points. Why?", "Shares fell 3.5 points."),
        ("Who won?\nNobody.", "Who won?"),
        ("A headline\nand a body.", "A headline"),
        ("\u5317\u4eac\u3002\u65b0\u95fb", "\u5317\u4eac\u3002"),
        ("  no mark", "no mark"),
        ("Mr. Smith left.", "Mr."),
        ("", ""),
        (" \n", ""),
        ("...", "..."),
    ],
)
def test_first_sentences(text: str, first: str) -> None:
    assert first_sentence(text) == first
