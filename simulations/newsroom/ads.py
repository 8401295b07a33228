"""Made adverts: readers of the made newsroom, what was advertised to them, and what they clicked.

An advert is an offer and a thing of one topic, in the grammar's words. It is shown on a page of one
section, on a device, at a time of day. Offer and topic appeal more or less to everybody, and so do
section, device and time; an advert on a page of its own topic is clicked more. The reader has a
liking for adverts, and the rest is luck. So there is something to find in the text alone, something
in the context alone, and more in both.

Of an outlet's showings that nobody clicked some are left out, by lot for each alone, as those who
make such files do to keep them small; the held-out showings are all there.

Invariants:
    * The same seed gives the same records in any process.
    * Outlet *i* is the same whatever the number of outlets, its reader *r* whatever the number of
      readers, and the held-out set depends on the seed alone.

Example:
    >>> ads = make_ads(outlets=2, readers=3, seed=7)
    >>> sorted(ads.tables), ads.held_out.column_names
    (['brackwell-herald', 'oldermoor-courier'], ['text', 'section', 'device', 'hour', 'clicked'])
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from presspool.simulations.newsroom.grammar import EVERY_VOICE, TOPICS
from presspool.simulations.newsroom.newsroom import outlet_name, topic_mix

KEPT_UNCLICKED: Final = 0.2
DEVICES: Final = {"phone": 0.7, "desktop": -0.5, "tablet": 0.1}
HOURS: Final = {"morning": 0.3, "noon": -0.4, "evening": 0.6, "night": -0.2}
_OFFERS: Final = {
    "Free guide: all about the {thing}": 1.0,
    "Last tickets for the {thing}": 0.7,
    "Try it for a month: the {thing}": 0.2,
    "Half price today, the {thing}": 0.4,
    "Insure yourself against the {thing}": -0.8,
    "A lecture about the {thing}": -0.5,
    "Our partner presents the {thing}": -1.0,
}
_RARE, _TOPIC, _SECTION, _MATCH, _READER = -3.0, 0.9, 0.6, 0.7, 0.5
_TAIL_EXPONENT, _MOST = 0.9, 30  # of showings a reader
_HELD_OUT = 800

Row = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Ads:
    """What was shown to outlets' readers, and public showings to nobody's readers.

    Attributes:
        tables: outlet name to showings, with string columns reader, text, section, device, hour and
            clicked.
        held_out: the same without readers, and without any left out.
    """

    tables: dict[str, pa.Table]
    held_out: pa.Table


def make_ads(*, outlets: int, readers: int, seed: int) -> Ads:
    """Makes showings.

    Args:
        outlets: number of outlets.
        readers: of each outlet; every one has a showing that is kept.
        seed: any integer; everything follows from it.
    """
    tables = {outlet_name(index): _outlet(seed, index, readers) for index in range(outlets)}
    rng, rows = _generator(seed, "ads", "held-out"), list[Row]()
    while len(rows) < _HELD_OUT:
        rows += _reader(rng, dict.fromkeys(TOPICS, 1.0), seed)
    return Ads(tables=tables, held_out=pa.Table.from_pylist(rows[:_HELD_OUT]))


def _generator(*path: object) -> random.Random:
    return random.Random("/".join(map(str, path)))  # noqa: S311 - made data, not a secret


def _outlet(seed: int, index: int, readers: int) -> pa.Table:
    name, mix, rows = outlet_name(index), topic_mix(seed, index), list[Row]()
    number = count = 0
    while count < readers:  # of some readers nothing is kept
        rng = _generator(seed, index, "ads", number)
        shown = list(_reader(rng, mix, seed))
        kept = [row for row in shown if row["clicked"] == "1" or rng.random() < KEPT_UNCLICKED]
        rows += [{"reader": f"{name}-{number:05d}"} | row for row in kept]
        number, count = number + 1, count + bool(kept)
    return pa.Table.from_pylist(rows)


def _reader(rng: random.Random, mix: Mapping[str, float], seed: int) -> Iterator[Row]:
    """All that one reader was shown."""
    liking = rng.gauss(0.0, _READER)
    count = min(_MOST, 3 * int((1.0 - rng.random()) ** (-1.0 / _TAIL_EXPONENT)))
    for _ in range(count):
        topic, offer = rng.choice(TOPICS), rng.choice(list(_OFFERS))
        thing = rng.choice(rng.choice(EVERY_VOICE.beats[topic]).nouns)
        row = {
            "text": offer.format(thing=thing),
            "section": rng.choices(list(mix), list(mix.values()))[0],
            "device": rng.choices(list(DEVICES), (0.6, 0.3, 0.1))[0],
            "hour": rng.choice(list(HOURS)),
        }
        odds = _RARE + liking + _OFFERS[offer] + _appeal(row, topic, seed)
        yield row | {"clicked": str(int(rng.random() < 1 / (1 + math.exp(-odds))))}


def _appeal(row: Row, topic: str, seed: int) -> float:
    """Of the advert's topic, of where it is shown, and of both together."""
    of_topic = _generator(seed, "ads", "topic", topic).gauss(0.0, _TOPIC)
    of_section = _generator(seed, "ads", "section", row["section"]).gauss(0.0, _SECTION)
    match = _MATCH * (row["section"] == topic)
    return of_topic + of_section + match + DEVICES[row["device"]] + HOURS[row["hour"]]
