"""Card and model card: whether they are whole, and claim no more than the policy lets through.

A card cannot be stored with a field missing (`common/audit/cards/card`). What it can have is a
field in which somebody wrote that nothing is known, and an ε that nobody measured.

Invariant: every blank is named by the path of its field.

Example: `list(findings(case))[0].figures["blanks"]`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from presspool.common.audit.cards.card import Measured
from presspool.common.audit.cards.model_card import CARD_FILE, MARK, README
from presspool.common.base.numbers import bound
from presspool.server.gate.finding import Finding, finding
from presspool.server.gate.gate_case import GateCase, JudgedAdapter
from presspool.server.registry.registry_entry import ADAPTER

_SAYS_NOTHING = (
    {"?", "-", "–", "—", "…", "", "n/a", "na", "tba", "tbd", "todo", "xxx"}
    | {"nobody", "nobody named", "day not written down", "nothing known"}
    | {"unclear", "unknown", "unspecified", "not known", "not stated"}
)
_finding = partial(finding, "papers")
UNMEASURED = "governance.empirical_epsilon"
_ADVICE = "fill in the fields, write the card again (presspool audit card), and add the run anew"


def findings(case: GateCase) -> Iterator[Finding]:
    """Of the card's fields, of the model card, and of ε where the policy has a limit."""
    yield _card(case.candidate)
    yield from _measured(case.candidate, case.policy.evidence.confidence)
    yield _model_card(case.candidate)
    limit = case.policy.evidence.largest_epsilon
    if limit is not None:
        yield _epsilon(case.candidate, limit)


def _card(one: JudgedAdapter) -> Finding:
    body = json.loads((one.folder / ADAPTER / CARD_FILE).read_bytes())
    found = list(blanks(body))
    said = f"blank: {', '.join(found)}" if found else "no field is blank"
    return _finding("privacy card", said, _advice(found), {"blanks": len(found)})


def _measured(one: JudgedAdapter, confidence: float) -> Iterator[Finding]:
    """What the card itself says that an attack found; nothing where it says of none."""
    said, contract = one.card.governance.empirical_epsilon, one.papers.adapter.contract.digest
    if not isinstance(said, Measured):
        return  # a blank
    claim, shown = one.card.registry.privacy_loss.privacy_parameters.epsilon, said.interval[0]
    faults = [
        words
        for words, fault in (
            (f"it is of {said.contract}, this adapter's is {contract}", said.contract != contract),
            (f"at least ε = {shown:.3f}, claimed {bound(claim)}", shown > claim),
            (f"its confidence is {said.confidence:g}", said.confidence < confidence),
        )
        if fault
    ]
    text = "; ".join(faults) or f"at least ε = {shown:.3f} was shown"
    advice = "find out why, and attack the run again (presspool audit attack)" if faults else ""
    yield _finding("measured ε", text, advice, {"value": shown, "most": claim})


def _advice(found: Sequence[str]) -> str:
    if not found:
        return ""
    first = "attack the run (presspool audit attack RUN), " if UNMEASURED in found else ""
    return f"{first}{_ADVICE}"


def blanks(value: Any, path: str = "") -> Iterator[str]:
    """The paths at which a card's JSON says nothing."""
    if isinstance(value, Mapping) and value.get("status") == "not measured":
        yield path
    elif isinstance(value, Mapping) and value:
        for key, inner in value.items():
            if not _counted_none(value, key):
                yield from blanks(inner, f"{path}.{key}".removeprefix("."))
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from blanks(inner, f"{path}.{number}")
    elif value in (None, {}, []) or (isinstance(value, str) and _empty(value)):
        yield path


def _counted_none(value: Mapping[str, Any], key: str) -> bool:
    """Whose cosignatures there are none of: `count` and `note` beside it say so."""
    return key == "by" and value.get("count") == 0 and bool(value.get("note"))


def _empty(text: str) -> bool:
    """A text of which each part, between commas, is a word for nothing."""
    return all(part.strip(" .\t\n").casefold() in _SAYS_NOTHING for part in text.split(","))


def _model_card(one: JudgedAdapter) -> Finding:
    readme = one.folder / ADAPTER / README
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    front = text.split("\n---", 1)[0]
    missing = [
        what
        for what, there in (
            ("the mark of a model card with a privacy card", MARK in front),
            ("a licence", "\nlicense:" in front),
            ("a language", "\nlanguage:" in front),
            ("this adapter's digest", one.papers.adapter.adapter in text),
        )
        if not there
    ]
    if not missing:
        return _finding("model card", f"{README} is its own")
    advice = "presspool audit card writes it; then add the run anew"
    return _finding("model card", f"{README} is without {', '.join(missing)}", advice)


def _epsilon(one: JudgedAdapter, limit: float) -> Finding:
    claimed = one.card.registry.privacy_loss.privacy_parameters.epsilon
    holds = claimed <= limit
    said = f"the card claims ε = {bound(claimed)}, at most {limit:g} is let through"
    advice = "" if holds else "train with more noise, fewer rounds or more readers"
    return _finding("claimed ε", said, advice, {"value": claimed, "most": limit})
