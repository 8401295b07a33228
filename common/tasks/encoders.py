"""Which base models the tasks that need an encoder reading both ways are tried with.

Example:
    >>> ENCODERS
    ('bert', 'roberta', 'xlm-roberta')
"""

from __future__ import annotations

from typing import Any

from presspool.common.base.errors import ModelError

ENCODERS = ("bert", "roberta", "xlm-roberta")
"""The kinds of base models whose gradients are tried against the definition."""


def require_encoder(loaded: Any, advice: str = "") -> None:
    """Refuse a loaded base model that is none.

    Args:
        loaded: as transformers loaded it.
        advice: what to do instead.

    Raises:
        ModelError: another kind, or one that reads one way.
    """
    kind = loaded.config.model_type
    if kind not in ENCODERS or loaded.config.is_decoder:
        raise ModelError(
            "a base model that this task is not tried with",
            where="[model] config.json",
            expected=f"an encoder that reads both ways: {', '.join(ENCODERS)}",
            got=kind,
            advice=advice,
        )
