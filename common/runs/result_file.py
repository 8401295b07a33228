"""`result.json` on disk: checked on the way in, replaced as a whole or not at all.

Invariants:
    * Reading back what was written gives an equal value.
    * A file of an older schema is brought to today's form before anything else looks at it.

Example: `read_result(Path("runs/demo")).final.metrics`.
"""

import contextlib
import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from presspool.common.base.errors import FolderError, InputError
from presspool.common.base.files import replace_file
from presspool.common.base.validation import expected
from presspool.common.runs.old_results import upgraded
from presspool.common.runs.results import RunResult

RESULT_FILE = "result.json"
_MAX_BYTES = 64 * 2**20  # 30 outlets and 10 000 rounds stay below; a larger file is not ours
_ADVICE = "give a run folder that PressPool wrote, or run it again"
_RUN = TypeAdapter(RunResult)


def _short(value: object) -> str:
    shown = ascii(value)  # a file may hold anything, and this goes to a terminal
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _step(part: int | str) -> str:
    return f".{part}" if str(part).isidentifier() else f"[{_short(part)}]"  # a key may be foreign


def _told(error: ValidationError) -> InputError:
    fault = error.errors(include_url=False)[0]
    where = "".join(map(_step, fault["loc"])).lstrip(".")
    got = None if fault["type"] == "missing" else _short(fault["input"])
    return InputError(
        "not a valid result", where=where, expected=expected(fault), got=got, advice=_ADVICE
    )


def _decode(text: str | bytes) -> Any:
    """Strict JSON: no key twice (readers differ in which they keep), no NaN, no endless nesting."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(items)) < len(items):
            raise ValueError("a key stands twice in one object")
        return dict(items)

    def constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        got = _short(str(error) or "too deeply nested")
        raise InputError(
            "broken JSON", expected="one JSON object", got=got, advice=_ADVICE
        ) from None


def parse_result(text: str | bytes) -> RunResult:
    """The result that this text describes.

    Raises:
        InputError: not JSON, an unknown schema or key, a missing key, or a wrong value.
    """
    body = _decode(text)
    schema = body.get("schema") if isinstance(body, dict) else 2
    if type(schema) is not int or schema not in (1, 2):
        raise InputError(
            "unknown schema",
            where="schema",
            expected="1 or 2",
            got=_short(schema),
            advice="read it with the PressPool version that wrote it",
        )
    try:
        return _RUN.validate_json(text if schema == 2 else json.dumps(upgraded(body)))
    except ValidationError as error:
        raise _told(error) from None


def read_result(folder: Path) -> RunResult:
    """The result of the run in this folder.

    Raises:
        FolderError: no such folder, or no readable result.json in it.
        InputError: a result.json that is not a valid result; names file and key.
    """
    path = folder / RESULT_FILE
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise FolderError(
            "not a run folder",
            where=str(folder),
            expected=f"a folder with a {RESULT_FILE}",
            got=error.strerror,
            advice=_ADVICE,
        ) from None
    if len(text) > _MAX_BYTES:
        raise InputError(
            "too large", where=str(path), expected=f"{_MAX_BYTES} bytes or fewer", advice=_ADVICE
        )
    try:
        return parse_result(text)
    except InputError as error:
        where = f"{path} {error.where}".rstrip()
        raise InputError(error.what, **error.parts | {"where": where}) from None


def write_result(folder: Path, result: RunResult) -> Path:
    """Write or replace the folder's result.json as a whole; returns its path.

    Raises:
        StorageError: the disk refused; an earlier result.json is still there and whole.
    """
    with contextlib.suppress(OSError):  # what is wrong, the writing will tell
        folder.mkdir(parents=True, exist_ok=True)
    return replace_file(folder / RESULT_FILE, result.to_json().encode())
