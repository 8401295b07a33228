"""Made customer service: what readers ask their newspaper's desk, and how the house answers.

Chats come from the newsroom's grammar: outlets, voices and readers are those of `newsroom`, and
`service.toml` has a desk for each topic. A chat has one to three exchanges behind the house's own
words, in place of those that a base model's template would put there; what the desk promises
names what the reader has told it, so it cannot be learnt by heart. One chat in twelve asks for an
insult, which the house does not write.

Invariants:
    * As a newsroom's: the same seed gives the same chats, no held-out chat occurs at an outlet.
    * Everything said is made up, and no wrong answer is in the set.

Example:
    >>> import random
    >>> from presspool.simulations.newsroom.grammar import EVERY_VOICE
    >>> chat = write_chat(random.Random(2), topic="sport", beat=None, voice=EVERY_VOICE)
    >>> [turn["role"] for turn in turns_of(chat)]
    ['system', 'user', 'assistant', 'user', 'assistant']

Write the sets of `examples/service.toml`: `python -m presspool.simulations.newsroom.service
examples`.
"""

from __future__ import annotations

import random
import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from presspool.common.base.files import replace_file
from presspool.common.tasks.records.turns import Turn, chat, exchange, turns_of
from presspool.simulations.newsroom.grammar import Voice
from presspool.simulations.newsroom.newsroom import make_newsroom

__all__ = ["turns_of", "write_chat", "write_example"]

OUTLETS, READERS, SEED = 3, 60, 20
MOST_CHATS, HELD_OUT = 4, 64  # of a reader, and of the public, in the example
_RUDE, _DETAILS_AT_ONCE, _THANKS = 1 / 12, 0.4, 0.25

_SAID: Final[dict[str, Any]] = tomllib.loads(
    files(__package__).joinpath("service.toml").read_text("utf-8")
)


def write_chat(rng: random.Random, *, topic: str, beat: object, voice: Voice) -> str:  # noqa: ARG001
    """Writes one reader's chat with the desk of a topic, as a column `messages` holds it.

    Args:
        rng: the reader's generator; it is advanced.
        topic: whose desk.
        beat: not asked: a desk has one.
        voice: the outlet's dialect, for names, places and openers.
    """
    slots = {
        "o": rng.choice(voice.openers),
        "n": rng.choice(voice.surnames[topic]),
        "p": rng.choice(voice.places),
        "d": rng.choice(_SAID["weekdays"]),
        "k": f"{rng.randrange(1000, 10_000)}",
    }
    if rng.random() < _RUDE:
        turns = exchange(rng.choice(_SAID["rude"]), _SAID["refusal"])
    else:
        turns = _served(rng, _SAID["desks"][topic])
    house = Turn(role="system", content=_SAID["house"])
    said = [turn | {"content": turn["content"].format(**slots)} for turn in turns]
    return chat([house, *said])


def _served(rng: random.Random, desk: dict[str, Any]) -> list[Turn]:
    """Turns with their slots still open."""
    ask, given = rng.choice(desk["asks"]), rng.choice(desk["gives"])
    if rng.random() < _DETAILS_AT_ONCE:
        turns = exchange(f"{ask}; {given}", desk["answer"])
    else:
        turns = exchange(ask, desk["wants"]) + exchange(given, desk["answer"])
    if rng.random() < _THANKS:
        turns += exchange(rng.choice(_SAID["thanks"]), _SAID["welcome"])
    return turns


def write_example(folder: Path) -> tuple[Path, Path]:
    """Writes `service.jsonl` of three outlets' readers, and `service_held_out.jsonl`.

    Raises:
        StorageError: the disk refuses.
    """
    made = make_newsroom(outlets=OUTLETS, readers=READERS, seed=SEED, write=write_chat)
    rows = list[str]()
    for outlet, table in made.tables.items():
        kept = dict[str, int]()
        for reader, said in zip(
            table["reader"].to_pylist(), table["text"].to_pylist(), strict=True
        ):
            kept[reader] = kept.get(reader, 0) + 1
            if kept[reader] <= MOST_CHATS:
                rows.append(f'{{"outlet": "{outlet}", "reader": "{reader}", "messages": {said}}}')
    public = [f'{{"messages": {said}}}' for said in made.held_out["text"].to_pylist()[:HELD_OUT]]
    return (
        replace_file(folder / "service.jsonl", ("\n".join(rows) + "\n").encode()),
        replace_file(folder / "service_held_out.jsonl", ("\n".join(public) + "\n").encode()),
    )


if __name__ == "__main__":
    write_example(Path(sys.argv[1]))
