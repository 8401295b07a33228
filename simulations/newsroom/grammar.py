"""The made newsroom's language: the grammar that turns `words.toml` into comments and headlines.

A comment is about one topic, but says so more or less clearly:

* *plain*: a noun and an event of one beat of the topic ("the relay squad ran its best split");
* *crossed*: the topic's noun or event beside an aside about another topic ("forget the tram
  vote, ..."), so that a bag of words is not enough;
* *faint*: a word that several topics share ("the pitch", "the trial") and one hint.

Surnames are the second signal: each belongs to one topic, and nothing but training data says to
which. All names are invented. Misspellings only double or swap inner letters of long words: a
dropped letter could make an innocent word a rude one.

Invariants: a comment has `MIN_WORDS` to `MAX_WORDS` words; the same generator state, topic and
voice give the same comment.

Example:
    >>> import random
    >>> rng = random.Random(4)
    >>> voice = draw_voice(rng)
    >>> text = write_comment(rng, topic="sport", beat=voice.beats["sport"][0], voice=voice)
    >>> MIN_WORDS <= len(text.split()) <= MAX_WORDS
    True
"""

import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

MIN_WORDS: Final = 8
MAX_WORDS: Final = 25

# How openly a comment shows its topic: shares of plain and crossed comments; the rest is faint.
_PLAIN, _CROSSED = 0.72, 0.20
_OWN_SURNAME = 0.9  # a comment that names somebody names somebody of its own topic
_TYPO = 0.25
_BEATS_OF_AN_OUTLET = 3  # of the six beats of each topic
_WORDS_OF_AN_OUTLET = 0.6  # share of surnames, places, openers and closers that an outlet uses


@dataclass(frozen=True, kw_only=True)
class Beat:
    """A corner of a topic that one desk covers.

    Attributes:
        nouns: things that comments are about, without their article.
        events: what happened to one of them, in the past tense.
    """

    nouns: tuple[str, ...]
    events: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One topic's own words.

    Attributes:
        shared: nouns that other topics claim too.
        surnames: people who belong to this topic.
        beats: its corners.
    """

    shared: tuple[str, ...]
    surnames: tuple[str, ...]
    beats: tuple[Beat, ...]


def _topic(said: Mapping[str, Any]) -> Topic:
    return Topic(
        shared=tuple(said["shared"]),
        surnames=tuple(said["surnames"]),
        beats=tuple(
            Beat(nouns=tuple(beat["nouns"]), events=tuple(beat["events"])) for beat in said["beats"]
        ),
    )


_WORDS: Final = tomllib.loads(files(__package__).joinpath("words.toml").read_text("utf-8"))
_TOPICS: Final = {name: _topic(said) for name, said in _WORDS["topics"].items()}
TOPICS: Final = tuple(_TOPICS)


@dataclass(frozen=True, kw_only=True)
class Voice:
    """The words that one outlet and its readers use: its dialect.

    Attributes:
        beats: the beats that the outlet covers, for each topic.
        surnames: the people whom it names, for each topic.
        openers, closers, places: its turns of phrase and neighbourhood.
    """

    beats: dict[str, tuple[Beat, ...]]
    surnames: dict[str, tuple[str, ...]]
    openers: tuple[str, ...]
    closers: tuple[str, ...]
    places: tuple[str, ...]


# The whole language, spoken by no single outlet: what a public held-out set is drawn from.
EVERY_VOICE: Final = Voice(
    beats={name: topic.beats for name, topic in _TOPICS.items()},
    surnames={name: topic.surnames for name, topic in _TOPICS.items()},
    openers=tuple(_WORDS["openers"]),
    closers=tuple(_WORDS["closers"]),
    places=tuple(_WORDS["places"]),
)


def _some(rng: random.Random, words: Sequence[str]) -> tuple[str, ...]:
    return tuple(rng.sample(words, round(_WORDS_OF_AN_OUTLET * len(words))))


def draw_voice(rng: random.Random) -> Voice:
    """Draws an outlet's dialect: half of all beats and three fifths of all other words.

    Args:
        rng: the outlet's generator; it is advanced.

    Returns:
        A voice that shares words with every other outlet's and misses some that others use.
    """
    return Voice(
        beats={
            name: tuple(rng.sample(topic.beats, _BEATS_OF_AN_OUTLET))
            for name, topic in _TOPICS.items()
        },
        surnames={name: _some(rng, topic.surnames) for name, topic in _TOPICS.items()},
        openers=_some(rng, _WORDS["openers"]),
        closers=_some(rng, _WORDS["closers"]),
        places=_some(rng, _WORDS["places"]),
    )


def _misspell(rng: random.Random, text: str) -> str:
    """Doubles or swaps inner letters of one long word; a dropped one could spell a rude word."""
    words = text.split(" ")
    at = rng.randrange(len(words))
    word = words[at]
    if len(word) >= 6 and word.isalpha():
        i = rng.randrange(2, len(word) - 2)
        doubled = word[:i] + word[i] + word[i:]
        swapped = word[:i] + word[i + 1] + word[i] + word[i + 2 :]
        words[at] = doubled if rng.random() < 0.5 else swapped
    return " ".join(words)


def _fill(rng: random.Random, frame: str, *, topic: str, beat: Beat, voice: Voice) -> str:
    other = rng.choice([name for name in TOPICS if name != topic])
    aside = rng.choice(voice.beats[other])
    named = topic if rng.random() < _OWN_SURNAME else other
    return frame.format(
        o=rng.choice(voice.openers),
        x=rng.choice(beat.nouns),
        y=rng.choice(beat.events),
        z=rng.choice(aside.nouns),
        w=rng.choice(aside.events),
        s="the " + rng.choice(_TOPICS[topic].shared),
        n=rng.choice(voice.surnames[named]),
        p=rng.choice(voice.places),
        v=rng.choice(_WORDS["neutral_events"]),
        c=rng.choice(voice.closers),
        t=rng.choice(_WORDS["chatter"]),
    )


def write_headline(rng: random.Random, *, topic: str, beat: Beat, voice: Voice) -> str:
    """Writes a headline of an outlet; arguments as for `write_comment`."""
    frame = rng.choice(_WORDS["frames"]["headline"])
    return _fill(rng, frame, topic=topic, beat=beat, voice=voice)


def write_comment(rng: random.Random, *, topic: str, beat: Beat, voice: Voice) -> str:
    """Writes one reader's comment.

    Args:
        rng: the reader's generator; it is advanced.
        topic: what the comment is about, one of `TOPICS`.
        beat: the corner of the topic that it is about.
        voice: the dialect it is written in.

    Returns:
        A text of `MIN_WORDS` to `MAX_WORDS` words.
    """
    draw = rng.random()
    kind = "plain" if draw < _PLAIN else "crossed" if draw < _PLAIN + _CROSSED else "faint"
    text = _fill(rng, rng.choice(_WORDS["frames"][kind]), topic=topic, beat=beat, voice=voice)
    while not MIN_WORDS <= len(text.split()) <= MAX_WORDS:
        text = _fill(rng, rng.choice(_WORDS["frames"][kind]), topic=topic, beat=beat, voice=voice)
    return _misspell(rng, text) if rng.random() < _TYPO else text
