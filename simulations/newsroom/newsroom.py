"""Makes the demo's newsroom: outlets with readers, and a public held-out set, from a seed.

Invariants:

* The same seed gives the same records in any process, and under one version of pyarrow the same
  bytes on disk.
* Each outlet has exactly `readers` readers, which is the population it declares.
* Outlet *i* is the same whatever the number of outlets, its reader *r* the same whatever the
  number of readers, and the held-out set depends on the seed alone: results of newsrooms of
  different size can be compared.
* No held-out text occurs at an outlet. Its labels are right; readers mislabel 4 % of theirs.

How hard it is: accuracy on the held-out set of a logistic regression (C = 0.3) on frozen, mean-
pooled all-MiniLM-L6-v2 features of 4 outlets, mean (and range) over seeds 0, 1, 2 and 7. "Pooled"
trains on all outlets' records together, "one outlet" is the mean of the four alone:

===================  ==================  ==================
readers an outlet    pooled              one outlet
===================  ==================  ==================
30                   0.74 (0.73 - 0.75)  0.45 (0.42 - 0.48)
100                  0.80 (0.78 - 0.81)  0.59 (0.56 - 0.61)
300                  0.84 (0.83 - 0.86)  0.66 (0.65 - 0.68)
===================  ==================  ==================

With reader-level DP-SGD on the same features (seed 0, one run a cell; noise at each outlet,
delta 1e-5, 60 steps, sampling rate 0.1, at most 4 records a reader), epsilon infinite / 8 / 3:
300 readers an outlet, together 0.80 / 0.68 / 0.59 and two of the outlets alone 0.62 / 0.42 / 0.34;
1000 readers an outlet, together 0.82 / 0.79 / 0.77 and alone 0.69 / 0.63 / 0.58.

Example:
    >>> newsroom = make_newsroom(outlets=2, readers=5, seed=7)
    >>> sorted(newsroom.tables), newsroom.held_out.column_names
    (['brackwell-herald', 'oldermoor-courier'], ['text', 'label'])
"""

import random
import shutil
import tempfile
from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from presspool.common.base.errors import FolderError, InputError, StorageError
from presspool.simulations.newsroom.grammar import (
    EVERY_VOICE,
    TOPICS,
    Voice,
    draw_voice,
    write_comment,
)

__all__ = ["MAX_OUTLETS", "TOPICS", "Newsroom", "make_data", "make_newsroom", "write_newsroom"]

Writer = Callable[..., str]
"""A writer of the grammar, such as `write_comment`."""

_KINDS: Final = ("courier", "herald", "gazette", "chronicle", "beacon", "sentinel", "post", "echo")
MAX_OUTLETS: Final = 10_000

# An outlet's share of records by rank of topic: it leads with three and nearly lacks two.
_RANKED_SHARES: Final = (0.28, 0.20, 0.15, 0.12, 0.10, 0.08, 0.05, 0.02)
_TAIL_EXPONENT = 1.1  # P(a reader has at least n records) = n ** -1.1
_MOST_RECORDS = 60
_INTEREST = 3.0  # concentration of a reader's own topics around the outlet's
_FAVOURITE = 0.6  # share of a reader's comments on the favourite beat of their topic
_WRONG_LABEL = 0.04
_HELD_OUT_PER_TOPIC = 80
_SEED = 7  # of data that is made for a run file

_READERS_SCHEMA: Final = pa.schema(
    [("reader", pa.string()), ("text", pa.string()), ("label", pa.string())]
)
_HELD_OUT_SCHEMA: Final = pa.schema([("text", pa.string()), ("label", pa.string())])


@dataclass(frozen=True, kw_only=True)
class Newsroom:
    """Everything that a demo federation trains on and is judged by.

    Attributes:
        tables: outlet name to its records, with string columns reader, text and label.
        held_out: public records of nobody's readers, with string columns text and label; the same
            number for each topic.
    """

    tables: dict[str, pa.Table]
    held_out: pa.Table

    def __post_init__(self) -> None:
        wanted = [(table.schema, _READERS_SCHEMA) for table in self.tables.values()]
        for got, expected in [*wanted, (self.held_out.schema, _HELD_OUT_SCHEMA)]:
            if not got.equals(expected):
                raise InputError(
                    "columns of a newsroom table", expected=expected.names, got=got.names
                )


def make_newsroom(
    *, outlets: int, readers: int, seed: int, write: Writer = write_comment
) -> Newsroom:
    """Makes a newsroom.

    Args:
        outlets: number of outlets, 1 to `MAX_OUTLETS`.
        readers: readers of each outlet, at least 1.
        seed: any integer; all of the newsroom follows from it.
        write: makes each text, of the grammar's writers.

    Returns:
        The outlets' tables, with records in the order of readers, and the held-out set.

    Raises:
        InputError: a number of outlets or readers that cannot be made.
    """
    if not 1 <= outlets <= MAX_OUTLETS:
        raise InputError("number of outlets", expected=f"1 to {MAX_OUTLETS}", got=outlets)
    if readers < 1:
        raise InputError("readers of an outlet", expected="at least 1", got=readers)
    held_out = _make_held_out(seed, write)
    taken = frozenset(held_out.column("text").to_pylist())
    tables = {
        outlet_name(index): _make_outlet(seed, index, readers, taken, write)
        for index in range(outlets)
    }
    return Newsroom(tables=tables, held_out=held_out)


def _generator(*path: object) -> random.Random:
    """A generator for each part, so that none moves another (Python seeds by SHA-512 of text)."""
    return random.Random("/".join(map(str, path)))  # noqa: S311 - made data, not a secret


def outlet_name(index: int) -> str:
    places = EVERY_VOICE.places
    lap, place = divmod(index, len(places))
    kind = _KINDS[(place + lap) % len(_KINDS)]  # a new kind on each lap: no name twice
    again = lap // len(_KINDS)  # until there are no more; then editions are counted
    return f"{places[place]}-{kind}".lower().replace(" ", "-") + (f"-{again + 1}" if again else "")


def topic_mix(seed: int, index: int) -> dict[str, float]:
    """Shares of topics: one ranking, turned by two places an outlet.

    Turning instead of drawing keeps every topic alive in any four neighbouring outlets together,
    whatever the seed, while each outlet alone nearly lacks some.
    """
    ranking = list(TOPICS)
    _generator(seed, "ranking").shuffle(ranking)
    turn = (2 * index + index // 4) % len(ranking)
    rng = _generator(seed, index, "mix")
    turned = ranking[turn:] + ranking[:turn]
    return {
        topic: share * rng.uniform(0.7, 1.3)
        for topic, share in zip(turned, _RANKED_SHARES, strict=True)
    }


def _make_outlet(
    seed: int, index: int, readers: int, taken: frozenset[str], write: Writer
) -> pa.Table:
    name, mix = outlet_name(index), topic_mix(seed, index)
    voice = draw_voice(_generator(seed, index, "voice"))
    columns: dict[str, list[str]] = {column: [] for column in _READERS_SCHEMA.names}
    for number in range(readers):
        rng = _generator(seed, index, "reader", number)
        records = _make_reader(rng, mix, voice, taken, write)
        columns["reader"] += [f"{name}-{number:05d}"] * len(records)
        columns["text"] += [text for text, _ in records]
        columns["label"] += [label for _, label in records]
    return pa.table(columns, schema=_READERS_SCHEMA)


def _make_reader(
    rng: random.Random,
    mix: dict[str, float],
    voice: Voice,
    taken: frozenset[str],
    write: Writer,
) -> list[tuple[str, str]]:
    """One reader's records: a Pareto number of them, on topics and beats of the reader's own."""
    count = min(_MOST_RECORDS, int((1.0 - rng.random()) ** (-1.0 / _TAIL_EXPONENT)))
    interests = [rng.gammavariate(_INTEREST * share, 1.0) for share in mix.values()]
    bounds = list(accumulate(interests))
    topics, favourite = list(mix), rng.random()
    records: list[tuple[str, str]] = []
    while len(records) < count:
        topic = topics[bisect(bounds, rng.random() * bounds[-1], hi=len(topics) - 1)]
        beats = voice.beats[topic]
        pick = favourite if rng.random() < _FAVOURITE else rng.random()
        text = write(rng, topic=topic, beat=beats[int(pick * len(beats))], voice=voice)
        wrong = rng.random() < _WRONG_LABEL
        if text not in taken:
            label = rng.choice([name for name in TOPICS if name != topic]) if wrong else topic
            records.append((text, label))
    return records


def _make_held_out(seed: int, write: Writer) -> pa.Table:
    """Comments in the whole language, by people who wrote nowhere else, one each."""
    rng = _generator(seed, "held-out")
    rows: dict[str, str] = {}
    for topic in TOPICS:
        wanted = len(rows) + _HELD_OUT_PER_TOPIC
        while len(rows) < wanted:
            beat = rng.choice(EVERY_VOICE.beats[topic])
            text = write(rng, topic=topic, beat=beat, voice=EVERY_VOICE)
            rows.setdefault(text, topic)
    order = list(rows)
    rng.shuffle(order)
    return pa.table([order, [rows[text] for text in order]], schema=_HELD_OUT_SCHEMA)


def make_data(folder: Path, *, outlets: int, readers: int) -> tuple[Path, Path]:
    """Makes a newsroom of so many outlets in a new folder; the same one each time.

    Returns:
        The folder with a file for each outlet, and the held-out file.

    Raises:
        FolderError: something is at `folder`.
        InputError: a number of outlets or readers that cannot be made.
        StorageError: the disk refused.
    """
    if folder.exists():
        raise FolderError(
            "made data needs a folder of its own",
            where=str(folder),
            expected="nothing there yet",
            advice="name another folder, or leave --outlets out to use what is there",
        )
    write_newsroom(make_newsroom(outlets=outlets, readers=readers, seed=_SEED), folder)
    return folder / "outlets", folder / "held_out.parquet"


def write_newsroom(newsroom: Newsroom, folder: Path) -> None:
    """Writes `folder`/outlets/‹name›.parquet and `folder`/held_out.parquet.

    Everything is written beside its place first and then renamed, so that each file is there
    whole or not at all.

    Args:
        newsroom: what to write.
        folder: made if it is not there; files of the same names are replaced.

    Raises:
        FolderError: `folder`/outlets holds something that is not of this newsroom, which a run
            over the folder would take for another outlet.
        StorageError: the disk refused; no file is half-written.
    """
    files = {Path("outlets") / f"{name}.parquet": table for name, table in newsroom.tables.items()}
    files[Path("held_out.parquet")] = newsroom.held_out
    try:
        _refuse_strangers(folder / "outlets", {path.name for path in files})
        (folder / "outlets").mkdir(parents=True, exist_ok=True)
        _write_files(files, folder)
    except OSError as error:
        raise StorageError(
            "cannot write the newsroom",
            where=str(folder),
            got=error,
            advice="choose another folder",
        ) from error


def _refuse_strangers(outlets: Path, names: set[str]) -> None:
    strangers = sorted({path.name for path in outlets.glob("*")} - names)
    if strangers:
        raise FolderError(
            "files of another newsroom",
            where=str(outlets),
            got=", ".join(strangers[:5]),
            advice="choose an empty folder, or remove them",
        )


def _write_files(files: dict[Path, pa.Table], folder: Path) -> None:
    unfinished = Path(tempfile.mkdtemp(prefix=".newsroom-", dir=folder))
    try:
        (unfinished / "outlets").mkdir()
        for path, table in files.items():
            pq.write_table(table, unfinished / path)
        for path in files:
            (unfinished / path).replace(folder / path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
