r"""Values in files that people may edit: TOML spells texts, lists and numbers nearly as JSON does.

Example:
    >>> toml_value("Pré\x7f"), toml_value(["a", "b"]), toml_value(3.0)
    ('"Pré\\u007f"', '["a", "b"]', '3.0')
"""

from __future__ import annotations

import json


def toml_value(value: object) -> str:
    """A text, a number, a truth value or a list of them as TOML: JSON's, with DEL escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
