"""What a table of somebody's own is for, by the columns that it has.

Texts with labels and prompts with answers may be called anything, and are guessed (`guessing`). A
chat, a summary, tags, spans and clicks are known by the names that their tasks' documentation gives
the columns, and by nothing else.

Example:
    >>> shape_of(["reader", "messages"], {}).table
    {'kind': 'generation', 'format': 'chat'}
    >>> shape_of(["uid", "headline", "desk"], {}).roles
    ('text', 'label')
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from presspool.common.base.errors import DataError
from presspool.simulations.newsroom.guessing import hinted


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One form of records.

    Attributes:
        roles: the record's columns, as the task calls them.
        table: what a run file's [task] says of it, but for labels.
        guessed: whether the columns may have other names.
    """

    roles: tuple[str, ...]
    table: Mapping[str, str]
    guessed: bool = False

    @property
    def kind(self) -> str:
        """The task's name."""
        return self.table["kind"]


LABELS = Shape(roles=("text", "label"), table={"kind": "classification"}, guessed=True)
ANSWERS = Shape(
    roles=("prompt", "answer"), table={"kind": "generation", "format": "prompt"}, guessed=True
)
KNOWN = (
    Shape(roles=("messages",), table={"kind": "generation", "format": "chat"}),
    Shape(roles=("article", "summary"), table={"kind": "generation", "format": "summary"}),
    Shape(roles=("tokens", "tags"), table={"kind": "tagging", "format": "tokens"}),
    Shape(roles=("text", "spans"), table={"kind": "tagging", "format": "spans"}),
    Shape(roles=("history", "candidates", "clicks"), table={"kind": "recommendation"}),
)
"""Known by their columns' very names."""


def shape_of(columns: Sequence[str], named: Collection[str]) -> Shape:
    """The form that a table's columns have.

    Args:
        columns: the table's.
        named: roles for which the person named a column.

    Raises:
        DataError: showings of adverts, whose contexts a run file has to name one by one.
    """
    for shape in (ANSWERS, LABELS):
        if {*shape.roles} & {*named}:
            return shape
    if {"text", "clicked"} <= {*columns} and "label" not in columns:
        raise DataError(
            "showings of adverts, of which no run file is guessed",
            where="--data",
            expected="texts with labels, or the columns of another task",
            got="the columns 'text' and 'clicked'",
            advice='write the file by hand with kind = "ad-response" (examples/ads.toml), or name '
            "the column of labels: --label COLUMN",
        )
    for shape in KNOWN:
        if {*shape.roles} <= {*columns}:
            return shape
    return ANSWERS if all(hinted(role, columns) for role in ANSWERS.roles) else LABELS
