"""Made clicks: readers of the made newsroom, what they were shown, and what they read.

All outlets show titles of one wire, headlines of the grammar. A title has an appeal, that of its
beat and one of its own, which hangs on no reader; a reader has a few favourite topics. Of an
impression's candidates that one is clicked whose interest, appeal and luck together are greatest;
now and then a second one. The history is what the reader clicked before; some readers are new and
have none yet.

So there is something to find in what a reader has read, more in popularity, as far as titles were
shown before, and most in what titles say.

Invariants:
    * The same seed gives the same records in any process.
    * Outlet *i* is the same whatever the number of outlets, its reader *r* whatever the number of
      readers, and the held-out set depends on the seed and its size alone.
    * Every impression has a clicked candidate and others. Half of the held-out candidates are
      titles that no outlet has shown.

Example:
    >>> reads = make_reads(outlets=2, readers=3, seed=7)
    >>> sorted(reads.tables), reads.held_out.column_names
    (['brackwell-herald', 'oldermoor-courier'], ['history', 'candidates', 'clicks'])
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import pyarrow as pa

from presspool.simulations.newsroom.grammar import EVERY_VOICE, TOPICS, Beat, write_headline
from presspool.simulations.newsroom.newsroom import outlet_name, topic_mix

CANDIDATES: Final = 5
HISTORY: Final = 5

_TITLES_A_TOPIC = 40
_INTEREST = 3.0  # of a favourite topic
_BEAT, _OWN = 3.0, 0.5  # standard deviations of appeal: what a beat's titles share, and the rest
_FAVOURITES = 2
_FAITHFUL = 0.85  # share of a history that is of favourite topics
_NEW = 0.25  # of readers: without history at first
_TWICE = 0.15  # of impressions: a second click
_TAIL_EXPONENT, _MOST = 1.1, 12  # of impressions a reader, as of a newsroom's records


class Title(NamedTuple):
    """A headline, what it is about, and how it appeals to everybody."""

    text: str
    topic: str
    appeal: float


@dataclass(frozen=True, kw_only=True)
class Reads:
    """What outlets' readers clicked, and public impressions of nobody's readers.

    Attributes:
        tables: outlet name to impressions, with string columns reader, history, candidates, clicks;
            lists as JSON.
        held_out: the same without readers.
    """

    tables: dict[str, pa.Table]
    held_out: pa.Table


def make_reads(*, outlets: int, readers: int, seed: int, held_out: int = 400) -> Reads:
    """Makes clicks.

    Args:
        outlets: number of outlets.
        readers: of each outlet.
        seed: any integer; everything follows from it.
        held_out: impressions of nobody's readers.
    """
    wire, fresh = _titles(seed, "wire"), _titles(seed, "fresh")
    tables = {outlet_name(index): _outlet(seed, index, readers, wire) for index in range(outlets)}
    rng, rows = _generator(seed, "reads", "held-out"), list[dict[str, str]]()
    while len(rows) < held_out:
        mix = dict.fromkeys(TOPICS, 1.0)
        rows += _told(_reader(rng, mix, wire, [*wire, *fresh]))
    return Reads(tables=tables, held_out=pa.Table.from_pylist(rows[:held_out]))


def _generator(*path: object) -> random.Random:
    return random.Random("/".join(map(str, path)))  # noqa: S311 - made data, not a secret


def _titles(seed: int, name: str) -> list[Title]:
    rng, found = _generator(seed, "reads", name), dict[str, Title]()
    appeals = _beats(seed)
    for topic in TOPICS:
        wanted = len(found) + _TITLES_A_TOPIC
        while len(found) < wanted:
            beat = rng.choice(EVERY_VOICE.beats[topic])
            text = write_headline(rng, topic=topic, beat=beat, voice=EVERY_VOICE)
            found.setdefault(text, Title(text, topic, appeals[topic, beat] + rng.gauss(0.0, _OWN)))
    return list(found.values())


def _beats(seed: int) -> dict[tuple[str, Beat], float]:
    rng = _generator(seed, "reads", "beats")
    beats = [(topic, beat) for topic in TOPICS for beat in EVERY_VOICE.beats[topic]]
    return {beat: rng.gauss(0.0, _BEAT) for beat in beats}


def _outlet(seed: int, index: int, readers: int, wire: Sequence[Title]) -> pa.Table:
    name, mix, rows = outlet_name(index), topic_mix(seed, index), list[dict[str, str]]()
    for number in range(readers):
        rng = _generator(seed, index, "reads", number)
        reader = f"{name}-{number:05d}"
        rows += [{"reader": reader} | row for row in _told(_reader(rng, mix, wire, wire))]
    return pa.Table.from_pylist(rows)


def _told(found: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [{n: json.dumps(v, ensure_ascii=False) for n, v in row.items()} for row in found]


def _reader(
    rng: random.Random, mix: Mapping[str, float], read: Sequence[Title], shown: Sequence[Title]
) -> list[dict[str, Any]]:
    """One reader's impressions in order, each with what was clicked before it."""
    liked = {rng.choices(list(mix), list(mix.values()))[0] for _ in range(_FAVOURITES)}
    count = min(_MOST, int((1.0 - rng.random()) ** (-1.0 / _TAIL_EXPONENT)))
    before = [] if rng.random() < _NEW else _history(rng, liked, read)
    found = list[dict[str, Any]]()
    for _ in range(count):
        fresh = [title for title in shown if title.text not in before]
        candidates = rng.sample(fresh, CANDIDATES)
        clicks = _clicks(rng, liked, candidates)
        texts = [title.text for title in candidates]
        found.append({"history": before[-HISTORY:], "candidates": texts, "clicks": clicks})
        before = before + [text for text, hit in zip(texts, clicks, strict=True) if hit]
    return found


def _history(rng: random.Random, liked: set[str], read: Sequence[Title]) -> list[str]:
    own = [title for title in read if title.topic in liked]
    found = dict[str, None]()
    for _ in range(rng.randint(1, HISTORY)):
        found[rng.choice(own if rng.random() < _FAITHFUL else list(read)).text] = None
    return list(found)


def _clicks(rng: random.Random, liked: set[str], candidates: Sequence[Title]) -> list[int]:
    """The greatest utility wins, under Gumbel noise: a softmax over the impression."""
    utility = [
        _INTEREST * (title.topic in liked)
        + title.appeal
        - math.log(max(rng.expovariate(1.0), 1e-12))
        for title in candidates
    ]
    order = sorted(range(len(candidates)), key=lambda place: -utility[place])
    clicked = order[: 2 if rng.random() < _TWICE else 1]
    return [int(place in clicked) for place in range(len(candidates))]
