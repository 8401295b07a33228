"""Which column of a foreign table is the reader, the text, the label, the outlet; and why.

A guess weighs the column's name (words of several languages; the last word counts most) and its
content in a sample of rows: a text is long and seldom twice the same, a label is short and often
the same, a reader's id is one word. Where names say nothing, content decides only if it leaves one
column; else nothing is guessed, and the person is told which option names the column.

Invariants:
    * A guess says why it was made, and what else it might have been.
    * A column stands for one thing. What the person named is never guessed over.

Example:
    >>> rows = [(f"u{i % 40}", f"the council votes on bridge {i}", "ab"[i % 2]) for i in range(99)]
    >>> table = {n: list(v) for n, v in zip(("uid", "headline", "desk"), zip(*rows))}
    >>> {role: found.column for role, found in guess(table, ("text", "reader", "label")).items()}
    {'text': 'headline', 'reader': 'uid', 'label': 'desk'}
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from presspool.common.base.errors import DataError
from presspool.common.data.table_refusals import quoted

Sample = Mapping[str, Sequence[str]]

# By role: words that name such a column.
WORDS = {
    "text": "text headline title body content article comment message post abstract description "
    "sentence tweet review titel inhalt kommentar schlagzeile texte titre contenu texto titulo",
    "reader": "reader user userid uid subscriber visitor member account person customer client "
    "commenter leser nutzer abonnent lecteur utilisateur abonne lector usuario author",
    "outlet": "outlet publisher newspaper paper site publication newsroom brand source medium "
    "portal domain host station zeitung journal periodico",
    "label": "label category topic section class desk genre subject tag sentiment stance bias "
    "leaning rubrik ressort kategorie thema rubrique categorie sujet seccion categoria tema",
    "prompt": "prompt question instruction input query context frage pregunta",
    "answer": "answer response completion output reply antwort reponse respuesta",
}
_ORDER = ("text", "prompt", "answer", "reader", "outlet", "label")  # who chooses first
_HINTS = {role: words.split() for role, words in WORDS.items()}
_SUFFIXES = {"id", "name", "key", "hash", "code", "no", "nr"}  # say nothing about what it is
MOST_LABELS = 1000


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A column and the reason for it.

    Attributes:
        column: as the file calls it.
        why: in words.
        others: columns that might be meant as well.
    """

    column: str
    why: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Profile:
    """What a sample of a column looks like."""

    rows: int
    distinct: int
    characters: float
    words: float
    number: bool
    digits: bool

    @classmethod
    def of(cls, values: Sequence[str]) -> _Profile:
        filled = [value for value in values if value.strip()]
        rows = max(1, len(filled))
        return cls(
            rows=len(filled),
            distinct=len(set(filled)),
            characters=sum(map(len, filled)) / rows,
            words=sum(len(value.split()) for value in filled) / rows,
            number=all(re.fullmatch(r"[-+\d.,:/ TZ]+", value) for value in filled),  # or a time
            digits=all(map(str.isdigit, filled)),
        )

    @property
    def repeated(self) -> bool:
        return 2 <= self.distinct <= min(MOST_LABELS, self.rows / 2)

    def can_be(self, role: str) -> bool:
        """Whether the content allows it."""
        if role == "reader":
            return self.distinct >= 2 and self.words < 1.5 and self.characters <= 64
        if role in ("label", "outlet"):
            return self.repeated and self.characters <= 60
        return not self.number and self.characters >= 8 and self.distinct > min(20, self.rows / 4)

    def looks_like(self, role: str) -> bool:
        """Whether the content alone would make one think of it."""
        if role == "reader":
            several = 20 <= self.distinct < self.rows
            return self.can_be(role) and several and (self.digits or not self.number)
        if role in ("label", "outlet"):
            return self.can_be(role) and not self.number
        return self.can_be(role) and (self.words >= 3 or self.characters >= 20)


def guess(
    sample: Sample, roles: Sequence[str], named: Mapping[str, str] | None = None
) -> dict[str, Guess]:
    """A column for each role.

    Args:
        sample: column to its values in some rows, "" where nothing stands.
        roles: names of `WORDS`.
        named: role to column, as the person said.

    Raises:
        DataError: for a role no column can be guessed, or one column is named for two.
    """
    found = dict[str, Guess]()
    for role, column in (named or {}).items():
        if role in roles:
            _require_free(role, column, found)
            found[role] = Guess(column=column, why=f"named by --{role}")
    profiles = {column: _Profile.of(values) for column, values in sample.items()}
    for by in (_by_name, _by_look):  # what a name says is taken before content is asked
        for role in sorted(roles, key=_ORDER.index):
            taken = {each.column for each in found.values()}
            free = {column: p for column, p in profiles.items() if column not in taken}
            if role not in found and (one := by(role, free)):
                found[role] = one
    return {role: found[role] for role in roles}


def _require_free(role: str, column: str, found: Mapping[str, Guess]) -> None:
    """Raise `DataError` where a column is named twice; outlets may be told by a label's."""
    twin = next((other for other, one in found.items() if one.column == column), None)
    if twin is not None and "outlet" not in (role, twin):
        raise DataError(
            "one column is named twice",
            where=f"--{twin}, --{role}",
            expected="another column for each",
            got=quoted([column]),
        )


def hinted(role: str, columns: Sequence[str]) -> list[str]:
    """Columns whose names say this role, the likeliest first."""
    ranked = sorted((_rank(role, column), place) for place, column in enumerate(columns))
    return [columns[place] for rank, place in ranked if rank < _NONE]


_NONE = 1000


def _rank(role: str, column: str) -> int:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column).lower()
    words = [word for word in re.split(r"[^a-zà-ÿ0-9]+", spaced) if word]
    words = [word for word in words if word not in _SUFFIXES] or words
    other = {word for name, hints in _HINTS.items() if name != role for word in hints}
    for penalty, some in ((0, words[-1:]), (100, words[:-1])):
        ranks = [_HINTS[role].index(word) for word in some if word in _HINTS[role]]
        if ranks and not (penalty and words[-1] in other):
            return min(ranks) + penalty
    return _NONE


def _by_name(role: str, free: Mapping[str, _Profile]) -> Guess | None:
    likely = [column for column in hinted(role, list(free)) if free[column].can_be(role)]
    if not likely:
        return None
    if role == "reader":  # of user_type and user_id, the one with more values
        likely.sort(key=lambda column: -free[column].distinct)
    column, *others = likely
    why = f"its name says so; {_said(free[column], role)}"
    return Guess(column=column, why=why, others=tuple(others))


def _by_look(role: str, free: Mapping[str, _Profile]) -> Guess:
    likely = [column for column in free if free[column].looks_like(role)]
    if len(likely) != 1:
        raise _none(role, likely, list(free))
    why = f"the only one that looks like it; {_said(free[likely[0]], role)}"
    return Guess(column=likely[0], why=why)


def _said(profile: _Profile, role: str) -> str:
    if role in ("text", "prompt", "answer"):
        return f"{profile.characters:.0f} characters on the mean"
    return f"{profile.distinct:,} different values in {profile.rows:,} rows"


_WRITES = "; or both columns of a model that writes: --prompt COLUMN --answer COLUMN"
_ELSE = {
    "reader": "; if each record is another person's, name its own id",
    "text": _WRITES,
    "label": _WRITES,
}


def _none(role: str, likely: Sequence[str], columns: Sequence[str]) -> DataError:
    what = "several columns might be" if likely else "no column looks like"
    return DataError(
        f"{what} the {role}",
        where="--data",
        expected=f"one whose name says it, such as {quoted(_HINTS[role][:4])}",
        got=quoted(likely or columns) or "no column is left",
        advice=f"name it: --{role} COLUMN" + _ELSE.get(role, ""),
    )
