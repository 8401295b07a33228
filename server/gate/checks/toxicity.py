"""How a classifier of English words sees what a model writes.

`alt-profanity-check` is a linear classifier over words and pairs of letters, whose weights come
with the package. It sees swearing and slurs, in English. It sees no contempt in plain words, no
falsehood, no other language, and takes a quotation for the quoting.

Example: `toxic(["The minister said nothing."])`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from presspool.common.base.extras import from_extra

FROM: Final = 0.5
"""The chance from which on a text is called toxic."""


def toxic(texts: Sequence[str]) -> list[float]:
    """How likely each text is to be called toxic.

    Raises:
        InputError: the classifier is not installed.
    """
    with from_extra("gate", "nothing here tells toxic words"):
        from profanity_check import predict_prob
    return [float(chance) for chance in predict_prob(list(texts))] if texts else []
