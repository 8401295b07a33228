r"""What a language model reads of a record, marks between what is given and what it should say.

Every format of the task `generation` comes down to one string: given, said, given, said, with
`MARK` between. Only tokens of what is said count in a loss. `Tokens.cut` keeps what is said last.

Invariants:
    * The mark is NUL, which no record may hold: no text can move the border between the two.
    * Pieces are tokenised one by one, so what was given has the same ids when the model writes.
    * A record's ids depend on that record, the table and the tokenizer alone, and at most
      `CHARACTERS` a token are read of a piece: a text of megabytes costs as much as one of pages.

Example:
    >>> fault_of_chat('[{"role": "bot", "content": "Hi"}]')
    'chat with a role other than system, user, assistant'
    >>> tokens = Tokens.of([[1, 2, 3, 4], [5, 6]])
    >>> tokens.ids, tokens.counted, tokens.cut(4, kept=1).ids
    ([1, 2, 3, 4, 5, 6], [False, False, False, False, True, True], [3, 4, 5, 6])
    >>> tokens.cut(4, kept=1, from_right=True).ids
    [1, 4, 5, 6]
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

MARK = "\0"
ROLES = ("system", "user", "assistant")
CHARACTERS = 32
"""Of a piece, at most, for each token that a record may have; English has about five."""
MOST_TURNS = 64
"""Of a chat, the last ones; a system turn at the beginning stays."""

Turn = dict[str, str]
Template = Callable[[list[Turn], bool], str]
"""From turns, and whether the next is the assistant's to write, to the model's text."""


def never_written(tokenizer: Any) -> frozenset[int]:
    """Ids of special tokens, which no text may have; the one of unknown signs is no such id.

    A tokenizer that is told to split them finds them in texts all the same where it knows whole
    pieces (SentencePiece's unigrams, as of T5 and XLM-RoBERTa): they are pieces like others there.
    """
    return frozenset(tokenizer.all_special_ids) - {tokenizer.unk_token_id}


def fault_of_text(text: str, name: str) -> str | None:
    """Why the text of a column cannot be used, or None; never in the record's own words."""
    if MARK in text:
        return f"NUL in {name}"
    if not text.strip():
        return "prompt without an answer" if name == "answer" else f"empty {name}"
    return None


def fault_of_chat(said: str, name: str = "messages") -> str | None:
    """Why a column's value is no chat to learn from, or None; likewise."""
    return judged_chat(said, name)[0]


def judged_chat(
    said: str, name: str = "messages", *, asks: bool = False
) -> tuple[str | None, list[Turn]]:
    """Why a column's value is no chat, and else its turns.

    Args:
        said: the value.
        name: of the column.
        asks: the chat is to be answered; else it is learnt from, up to the assistant's last turn.
    """
    try:
        turns = json.loads(said)
        said.encode()
        json.dumps(turns, ensure_ascii=False).encode()  # half a surrogate pair has no bytes
    except (ValueError, RecursionError):
        return "chat that is no JSON", []
    if not isinstance(turns, list) or not all(map(_is_turn, turns)):
        return "chat that is no list of turns, {role, content} each", []
    fault = next(filter(None, _faults(turns, f"turn of {name}", asks=asks)), None)
    if fault:
        return fault, []
    while not asks and turns[-1]["role"] != "assistant":
        turns.pop()
    return None, turns


def _faults(turns: list[Turn], name: str, *, asks: bool) -> Iterator[str | None]:
    roles = [turn["role"] for turn in turns]
    if set(roles) - set(ROLES):
        yield f"chat with a role other than {', '.join(ROLES)}"
    if asks and "user" not in roles:
        yield "chat without a user's turn"
    if not asks and "assistant" not in roles:
        yield "chat without an assistant's turn"
    yield from (fault_of_text(turn["content"], name) for turn in turns)
    if "assistant" in roles and "user" not in roles[: roles.index("assistant")]:
        yield "chat that begins with an assistant's turn: nobody has asked anything"


def _is_turn(turn: Any) -> bool:
    if not isinstance(turn, dict) or set(turn) != {"role", "content"}:
        return False
    return all(isinstance(value, str) for value in turn.values())


def turns_of(said: str) -> list[Turn]:
    """A good chat's."""
    found: list[Turn] = json.loads(said)
    return found


def halves(text: str) -> tuple[str, str]:
    """A text cut after half of its words."""
    words = text.split()
    return " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])


def exchange(prompt: str, answer: str) -> list[Turn]:
    """The shortest chat to learn from."""
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def chat(turns: Sequence[Turn]) -> str:
    """Turns as a column holds them."""
    return json.dumps(list(turns), ensure_ascii=False, separators=(",", ":"))


def shortened(turns: Sequence[Turn], most: int) -> list[Turn]:
    """The last turns, of each at most so many characters: of an answer the first, else the last."""
    first, rest = list(turns[:1]), list(turns[1:])
    if len(rest) > MOST_TURNS:
        rest = rest[-MOST_TURNS:]
        rest = rest[rest[0]["role"] == "assistant" :]
        first = first if first[0]["role"] == "system" else []
    return [
        turn | {"content": said[:most] if turn["role"] == "assistant" else said[-most:]}
        for turn in first + rest
        for said in [turn["content"]]
    ]


def marked(turns: Sequence[Turn], template: Template) -> str:
    """What the template makes of a chat, marked where an assistant's turn begins and ends.

    An assistant's turn is what the template puts after the words that ask for it, up to its token
    that ends a turn; white space behind that is given.

    Raises:
        ValueError: the template says earlier turns otherwise once later ones are there.
    """
    pieces, done = list[str](), ""
    for place, turn in enumerate(turns):
        if turn["role"] == "assistant":
            asked = template(list(turns[:place]), True)
            whole = template(list(turns[: place + 1]), False)
            if not (asked.startswith(done) and whole.startswith(asked)):
                raise ValueError("the template rewrites earlier turns")
            answer = whole[len(asked) :].rstrip()
            pieces += [asked[len(done) :], answer]
            done = asked + answer
    return MARK.join(pieces)


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A record's tokens.

    Attributes:
        ids: from the vocabulary.
        counted: of each, whether its loss counts.
        last: where the last thing said begins.
    """

    ids: list[int]
    counted: list[bool]
    last: int

    @classmethod
    def of(cls, pieces: Sequence[list[int]]) -> Tokens:
        """Of pieces that are given and said in turns."""
        ids = [one for piece in pieces for one in piece]
        counted = [bool(n % 2) for n, piece in enumerate(pieces) for _ in piece]
        return cls(ids=ids, counted=counted, last=len(ids) - len(pieces[-1]))

    def cut(self, max_length: int, *, kept: int, from_right: bool = False) -> Tokens:
        """The last thing said from its first token, and as much before it as there is room for.

        Args:
            max_length: tokens that are left.
            kept: given tokens before the last thing said that stay in any case.
            from_right: what is before them keeps its first tokens, else its last.
        """
        end = min(len(self.ids), self.last + max(0, max_length - min(kept, self.last)))
        start = max(0, end - max_length)
        if from_right:
            border = max(0, self.last - kept)
            order = [*range(border - start), *range(border, end)]
            ids, counted = ([of[i] for i in order] for of in (self.ids, self.counted))
            return replace(self, ids=ids, counted=counted, last=self.last - start)
        counted = self.counted[start:end]
        counted[:1] = [False] * len(counted[:1])  # nothing before it from which to foretell it
        last = self.last - start
        return replace(self, ids=self.ids[start:end], counted=counted, last=last)

    @property
    def given(self) -> list[int]:
        """The ids before the last thing said."""
        return self.ids[: self.last]
