"""Personal data in texts, each replaced by what kind it was: `<PERSON>`, `<EMAIL_ADDRESS>`.

Presidio finds it (the extra `redact`): by patterns and check sums, and, where an installed spaCy
package is named, names by that model and by the words around them. Without one the pipeline only
splits words: what has no pattern is not found then, and asking for it is refused. No finder finds
everything: this makes texts tamer for a newsroom's own people, and stands in no statement of
privacy.

Invariants:
    * Each text is judged alone: no batch, no memory. One over which the finder fails is None.
    * Time grows with a text's length, whatever it says: patterns whose time grows with the square
      see windows of it. A find is no longer than their overlap.
    * Nothing is asked of a network: Presidio's own list of domain endings is the packaged one.
    * A text is judged as it is read: characters that nobody sees (soft hyphens, joiners, marks of
      direction) are passed over, and masked with what they stand in; other shapes of a letter or
      digit (of full width, mathematical) are that letter or digit.
    * Where there is no space between words, what stands between Chinese characters is found as
      between quotes.

Example: ``Redactor.of(Sought(kinds=("EMAIL_ADDRESS",))).redacted("to ann@example.org")`` is
``Redacted(text="to <EMAIL_ADDRESS>", kinds=("EMAIL_ADDRESS",))``.
"""

from __future__ import annotations

import importlib
import json
import logging
import re
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from presspool.common.base.errors import InputError
from presspool.common.base.extras import not_here

log = logging.getLogger(__name__)

SURE = 0.35  # Presidio's score from which a find counts; a telephone number without context is 0.4
WINDOW, OVERLAP = 1000, 120  # characters
_NAMES = {"PERSON", "LOCATION", "NRP", "ORGANIZATION"}
_UNSPACED = re.compile("[\u3000-\u9fff\uf900-\ufaff\uff00-\uffef]")
_DASHES = dict.fromkeys([*range(0x2010, 0x2016), 0x2212], "-")
# Beside Unicode's format characters: joiners and fillers without a shape, selectors of a variant.
_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0]")


@dataclass(frozen=True, kw_only=True)
class Sought:
    """What is looked for.

    Attributes:
        kinds: by Presidio's names, and those of `checked_patterns`.
        language: of the texts.
        model: a spaCy package, for names; None for patterns alone.
        where: who asks, for errors.
    """

    kinds: tuple[str, ...]
    language: str = "en"
    model: str | None = None
    where: str = "redact"


@dataclass(frozen=True, kw_only=True)
class Redacted:
    """A text, and the kinds of what was replaced in it, in its order."""

    text: str
    kinds: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FoundSpan:
    """Characters `start` to `end` are of a kind, by a score in [0, 1]."""

    start: int
    end: int
    kind: str
    score: float


@dataclass(frozen=True)
class Redactor:
    """What finds personal data, loaded.

    Attributes:
        find: from a text to the places of what is looked for.
    """

    find: Callable[[str], Sequence[FoundSpan]]

    @classmethod
    def of(cls, sought: Sought) -> Redactor:
        """The finder of what is sought.

        Raises:
            InputError: the extra or the model is missing; a kind that is not found here.
        """
        engine, known = _engine(sought)
        from presspool.common.data.proper_names import read_again

        if unknown := sorted(set(sought.kinds) - known):
            raise InputError(
                "kinds of personal data that are not found here",
                where=sought.where,
                expected=", ".join(sorted(known)),
                got=", ".join(unknown),
                advice="name a spaCy package with named entities: [care] model"
                if sought.model is None and _NAMES.intersection(unknown)
                else "leave them out",
            )
        spaced = sought.model is None or sought.language not in ("zh", "ja")
        english = sought.model is not None and sought.language == "en"
        splitter = engine.nlp_engine.nlp[sought.language]

        def find(text: str) -> Sequence[FoundSpan]:
            places, seen = _seen(text)
            with splitter.memory_zone():  # else it keeps every word that it ever saw
                found = spans(_UNSPACED.sub('"', seen) if spaced else seen)
            return [
                replace(one, start=places[one.start], end=places[one.end - 1] + 1) for one in found
            ]

        def spans(seen: str) -> list[FoundSpan]:
            return [
                FoundSpan(start=at + f.start, end=at + f.end, kind=f.entity_type, score=f.score)
                for at in range(0, max(1, len(seen) - OVERLAP), WINDOW - OVERLAP)
                for f in judged(seen[at : at + WINDOW])
            ]

        def judged(seen: str) -> Sequence[Any]:
            found = engine.analyze(
                seen, language=sought.language, entities=list(sought.kinds), score_threshold=SURE
            )
            return read_again(seen, found, splitter) if english else found

        return cls(find)

    def redacted(self, text: str) -> Redacted | None:
        """A text without what was found in it; None where the finder fails over it."""
        try:
            spans = merged(self.find(text))
        except Exception:  # noqa: BLE001  whatever a library throws over one text
            return None
        parts, at = [], 0
        for span in spans:
            parts += [text[at : span.start], f"<{span.kind}>"]
            at = span.end
        kinds = tuple(span.kind for span in spans)
        return Redacted(text="".join(parts) + text[at:], kinds=kinds)

    def chat(self, messages: str) -> Redacted | None:
        """The same of a chat in JSON, turn by turn; None where it is none."""
        try:
            turns, kinds = json.loads(messages), list[str]()
            for turn in turns:
                found = self.redacted(turn["content"])
                if found is None:
                    return None
                turn["content"] = found.text
                kinds += found.kinds
        except (ValueError, RecursionError, TypeError, KeyError):
            return None
        return Redacted(text=json.dumps(turns, ensure_ascii=False), kinds=tuple(kinds))


def merged(spans: Sequence[FoundSpan]) -> list[FoundSpan]:
    """Spans in order; those that overlap become one, of the kind that is surest (or longest)."""
    found: list[FoundSpan] = []
    for span in sorted(spans, key=lambda each: (each.start, -each.end)):
        if not found or span.start >= found[-1].end:
            found.append(span)
            continue
        last = found.pop()
        best = max(last, span, key=lambda each: (each.score, each.end - each.start))
        found.append(
            FoundSpan(
                start=last.start,
                end=max(last.end, span.end),
                kind=best.kind,
                score=best.score,
            )
        )
    return found


def _seen(text: str) -> tuple[list[int], str]:
    """A text's characters that are seen, each in its usual shape, and where each stands in it."""
    places = [
        at
        for at, one in enumerate(text)
        if one.isascii() or not (unicodedata.category(one) == "Cf" or _UNSEEN.match(one))
    ]
    usual = {one: unicodedata.normalize("NFKC", one) for one in {*text}}
    shown = (usual[one] if len(usual[one]) == 1 else one for one in map(text.__getitem__, places))
    return places, "".join(shown).translate(_DASHES)


def _engine(sought: Sought) -> tuple[Any, set[str]]:
    """Presidio's analyzer for a language, and the kinds that it finds."""
    try:
        import spacy
        import tldextract
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
        from presidio_analyzer.nlp_engine import SpacyNlpEngine

        from presspool.common.data.checked_patterns import checked_recognizers
        from presspool.common.data.proper_names import ProperNames
    except ImportError as error:
        raise not_here("redact", error, "no Presidio here", where=sought.where) from None
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    # Else the first address with a domain asks a server for the newest endings.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    language = sought.language
    splitter = spacy.blank(language) if sought.model is None else _model(sought)
    nlp = SpacyNlpEngine(models=[{"lang_code": language, "model_name": splitter.meta["name"]}])
    nlp.nlp = {language: splitter}
    registry = RecognizerRegistry(supported_languages=[language])
    registry.load_predefined_recognizers(languages=[language], nlp_engine=nlp)
    for one in checked_recognizers(language):
        registry.add_recognizer(one)
    if "ner" not in splitter.pipe_names:
        registry.remove_recognizer("SpacyRecognizer")
    elif language == "en":
        registry.add_recognizer(ProperNames(language))
    engine = AnalyzerEngine(registry=registry, nlp_engine=nlp, supported_languages=[language])
    return engine, set(engine.get_supported_entities(language=language))


def _model(sought: Sought) -> Any:
    """A spaCy package that is installed; raises `InputError` where it is not, or is no model."""
    assert sought.model is not None
    # As its figures in docs/guides/serving.md were measured, under the spaCy that we pin.
    warnings.filterwarnings("ignore", r"\[W095\] Model 'en_core_web_md' \(3\.7\.1\)")
    try:
        return importlib.import_module(sought.model).load()
    except (ImportError, AttributeError, OSError, ValueError) as error:
        raise InputError(
            "no such spaCy model",
            where=sought.where,
            expected="an installed package by the name that it is imported by",
            got=f"{sought.model}: {error}",
            advice="docs/guides/outlet.md names one that pip finds; or name none",
        ) from None
