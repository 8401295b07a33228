"""Names of people and places that a spaCy model passes over, and those that it sees in headlines.

The model knows famous names best, and a reader's neighbour is not famous: it takes many for an
organisation, or for nothing. So in a text that is not written like a headline two to four
capitalised words in a row are a person, and such words after "in" or "from" a place, whatever the
model calls them; also after "my name is" or "regards,". Organisations of several words are masked
with them; whoever masks would rather lose those than a reader's name.

In a headline it takes other words for names. So a headline is read again as a sentence would be
written, its first letter large and the rest small, with a full stop: what the model named counts
where its tagger has a proper noun and its finder a name there too. Where capitals tell something,
because some words have them and most have none, either of the two is enough, and several of them
in a row are: a reader's short message is written so ("refund for Summer Brooks").

Invariants:
    * Days, numbers and languages stay, and what has an organisation's own word or is in capitals.
    * A text in capitals, or with Most Words Capitalised, or of few words without an end or a word
      like "my" as headlines are, is judged by introductions alone.
    * What begins with an article, a pronoun or a question word is not introduced: "This Is Their".

Example: `registry.add_recognizer(ProperNames("en"))`, then
`read_again(text, engine.analyze(text, language="en"), model)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from presidio_analyzer import EntityRecognizer, RecognizerResult

GUESSED, INTRODUCED = 0.5, 0.9  # the model's own finds have 0.85
_SHOUTED = 0.5  # share of a headline's words that are capitalised
_LONGEST = 16  # words of a headline
_SPOKEN = re.compile(r"[.!?…](?:\s|\W*$)|\b(?i:i|me|my|we|our|you|your)\b")
_WORD = re.compile(r"[^\W\d_]+")
_MARKUP = re.compile(r"&#?\w{1,20};|</?[A-Za-z][^<>]{0,100}>")
_MAYBE = {"", "ORG", "FAC", "PRODUCT", "NORP", "PERSON", "WORK_OF_ART", "GPE", "LOC"}
_NAMED = {"PERSON", "GPE", "LOC"}
_PLACED = {"in", "from", "near", "at", "to", "outside", "around", "via", "of", "about", "for"}
_PLACED |= {"between", "beyond", "towards"}
_ORGANISED = re.compile(
    "association|bank|board|church|city|club|college|committee|company|congress|corporation"
    "|council|court|department|foundation|government|group|hospital|house|institute|league"
    "|ministry|museum|network|news|office|organi[sz]ation|parliament|party|post|press|senate"
    "|service|society|times|tribune|trust|union|united|university"
)
_NAME = r"(?>[^\W\d_a-zß-ÿ][\w'’.-]*)"  # whole or not at all: else hyphens are tried in every way
_SEVERAL = re.compile(rf"{_NAME}(?:\s+{_NAME})+")
_INTRODUCED = re.compile(
    r"(?:\b(?i:my name is|i am|i'm|this is|dear|mrs?\.?|ms\.?|mx\.?|dr\.?|prof\.?|regards,"
    r"|sincerely,|yours,|wishes,|thanks,|cheers,|faithfully,|truly,|signed,?)\s+)"
    r"(?!(?i:a|the|my|our|your|his|her|its|their|not|what|why|how|where|when|who)\b)"
    rf"({_NAME}(?:\s+{_NAME}){{0,3}})(?:\s*,\s*({_NAME}(?:[\s-]++{_NAME}){{0,2}})\s*$)?"
)


class ProperNames(EntityRecognizer):  # type: ignore[misc]
    """Finds names by their surroundings; needs a spaCy model that tags words.

    Args:
        language: of the texts; the words around are English.
    """

    def __init__(self, language: str) -> None:
        super().__init__(supported_entities=["PERSON", "LOCATION"], supported_language=language)

    def load(self) -> None:
        """Nothing to load; Presidio asks."""

    def analyze(self, text: str, entities: list[str], nlp_artifacts: Any) -> list[Any]:
        """As Presidio has it: what was found of the kinds asked for."""
        doc = nlp_artifacts.tokens
        guessed = () if _headline(text) else _by_words(doc)
        return [
            RecognizerResult(entity_type=kind, start=start, end=end, score=score)
            for score, found in ((INTRODUCED, _introduced(text)), (GUESSED, guessed))
            for kind, start, end in found
            if kind in entities
        ]


def _introduced(text: str) -> Iterator[tuple[str, int, int]]:
    for found in _INTRODUCED.finditer(text):
        yield "PERSON", *found.span(1)
        if found[2]:
            yield "LOCATION", *found.span(2)


def read_again(text: str, found: list[Any], read: Any) -> list[Any]:
    """What was found, but for names of the model's that only a headline's letters make names.

    Args:
        text: as it came.
        found: Presidio's results over it.
        read: the spaCy model.
    """
    sentence = f"{text[:1].upper()}{text[1:].lower()}."
    if not _headline(text) or text.isupper() or len(sentence) != len(text) + 1:
        return found
    telling = not capitalised(text) and not text.islower()
    doc = read(sentence)
    return [
        one
        for one in found
        if one.entity_type not in ("PERSON", "LOCATION")
        or not GUESSED < one.score < INTRODUCED
        or (telling and _SEVERAL.fullmatch(text[one.start : one.end]))
        or _again(doc, one, telling)
    ]


def _again(doc: Any, found: Any, telling: bool) -> bool:
    words = [one for one in doc if one.idx < found.end and found.start < one.idx + len(one.text)]
    proper = any(one.pos_ == "PROPN" for one in words)
    named = any(one.ent_type_ in _NAMED for one in words)
    return (proper or named) if telling else (proper and named)


def capitalised(text: str) -> bool:
    """Whether most words of a text, but for the first, begin with a capital."""
    words = _WORD.findall(text)[1:]
    return sum(not word[0].islower() for word in words) > _SHOUTED * len(words)


def _headline(text: str) -> bool:
    short = len(_WORD.findall(_MARKUP.sub(" ", text))) <= _LONGEST and not _SPOKEN.search(text)
    return short or capitalised(text)


def _by_words(doc: Any) -> Iterator[tuple[str, int, int]]:
    """Capitalised words in a row that may be a name."""
    for proper, run in groupby(doc, _proper):
        words = list(run)
        if not proper or any(_ORGANISED.fullmatch(word.lower_) for word in words):
            continue
        first, last = words[0], words[-1]
        if first.i and doc[first.i - 1].lower_ in _PLACED:
            yield "LOCATION", first.idx, last.idx + len(last.text)
        elif 1 < len(words) < 5:
            yield "PERSON", first.idx, last.idx + len(last.text)


def _proper(word: Any) -> bool:
    """Capitalised, and not for standing first, for being "I" or an abbreviation."""
    if not word.is_alpha or word.text[0].islower() or word.is_stop or word.text[1:].isupper():
        return False
    named = word.pos_ == "PROPN" or not word.is_sent_start
    return bool(named and word.ent_type_ in _MAYBE)
