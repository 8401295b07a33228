"""Personal data in texts, each replaced by what kind it was: `<PERSON>`, `<EMAIL_ADDRESS>`.

Presidio finds it (the extra `redact`): by patterns and check sums, and, where `[care]` names an
installed spaCy package, names by that model. Without one the pipeline only splits words: what has
no pattern is not found then, and asking for it is refused. No finder finds everything: this makes
texts tamer for the outlet's own people, and stands in no statement of privacy.

Invariants:
    * Each text is judged alone: no batch, no memory. One over which the finder fails is None.
    * Nothing is asked of a network: Presidio's own list of domain endings is the packaged one.

Example: ``Redactor.of(CareTable(redact=("EMAIL_ADDRESS",))).redacted("to ann@example.org")`` is
``Redacted(text="to <EMAIL_ADDRESS>", kinds=("EMAIL_ADDRESS",))``.
"""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from presspool.client.identity.care_table import CareTable
from presspool.common.base.errors import InputError
from presspool.common.base.extras import not_here

log = logging.getLogger(__name__)

SURE = 0.35  # Presidio's score from which a find counts; a telephone number without context is 0.4
COLUMNS = ("text", "prompt", "answer", "messages", "article", "summary")
WHERE = "outlet.toml [care] redact"


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
    def of(cls, care: CareTable) -> Redactor:
        """The finder that `[care]` asks for.

        Raises:
            InputError: the extra or the model is missing; a kind that is not found here.
        """
        engine, known = _engine(care)
        if unknown := sorted(set(care.redact) - known):
            names = {"PERSON", "LOCATION", "NRP", "ORGANIZATION"}
            raise InputError(
                "kinds of personal data that are not found here",
                where=WHERE,
                expected=", ".join(sorted(known)),
                got=", ".join(unknown),
                advice="name a spaCy package with named entities: [care] model"
                if care.model is None and names.intersection(unknown)
                else "leave them out",
            )

        def find(text: str) -> Sequence[FoundSpan]:
            found = engine.analyze(
                text,
                language=care.language,
                entities=list(care.redact),
                score_threshold=SURE,
            )
            return [
                FoundSpan(start=f.start, end=f.end, kind=f.entity_type, score=f.score)
                for f in found
            ]

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


def _engine(care: CareTable) -> tuple[Any, set[str]]:
    """Presidio's analyzer for a language, and the kinds that it finds."""
    try:
        import spacy
        import tldextract
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
    except ImportError as error:
        raise not_here("redact", error, "no Presidio here", where=WHERE) from None
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    # Else the first address with a domain asks a server for the newest endings.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    splitter = spacy.blank(care.language) if care.model is None else _model(care.model)
    nlp = SpacyNlpEngine(models=[{"lang_code": care.language, "model_name": splitter.meta["name"]}])
    nlp.nlp = {care.language: splitter}
    registry = RecognizerRegistry(supported_languages=[care.language])
    registry.load_predefined_recognizers(languages=[care.language], nlp_engine=nlp)
    if "ner" not in splitter.pipe_names:
        registry.remove_recognizer("SpacyRecognizer")
    engine = AnalyzerEngine(registry=registry, nlp_engine=nlp, supported_languages=[care.language])
    return engine, set(engine.get_supported_entities(language=care.language))


def _model(name: str) -> Any:
    """A spaCy package that is installed; raises `InputError` where it is not, or is no model."""
    try:
        return importlib.import_module(name).load()
    except (ImportError, AttributeError, OSError, ValueError) as error:
        raise InputError(
            "no such spaCy model",
            where="outlet.toml [care] model",
            expected="an installed package by the name that it is imported by",
            got=f"{name}: {error}",
            advice="docs/guides/outlet.md names one that pip finds; or leave the line out",
        ) from None
