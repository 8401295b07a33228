r"""Public examples before every prompt: the rival of a tuned model that nobody has to train.

Example:
    >>> shown([("News:", "rain again")])
    'News:\nrain again\n\n'
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa


def shown(examples: Iterable[tuple[str, str]]) -> str:
    """Prompts and answers as they stand before another prompt."""
    return "".join(f"{prompt}\n{answer}\n\n" for prompt, answer in examples)


def preceded(table: pa.Table, examples: str) -> pa.Table:
    """The same records with `examples` before every prompt."""
    prompts = pa.array([examples + prompt for prompt in table["prompt"].to_pylist()])
    return table.set_column(table.column_names.index("prompt"), "prompt", prompts)
