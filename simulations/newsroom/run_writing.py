"""The run file that `presspool new run` writes: what was found, and beside it why it was guessed.

Invariant: the file is written whole, and never over another one.

Example: `write_run(draft(RunRequest(data=Path("clicks"))), Path("run.toml"))`.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from presspool.common.base.files import new_file
from presspool.common.base.toml_values import toml_value
from presspool.common.contract.contract import parse_contract
from presspool.common.runs.default_recipe import filled
from presspool.common.runs.named_files import stem
from presspool.common.runs.run_file import slug
from presspool.simulations.newsroom.guessing import Guess
from presspool.simulations.newsroom.new_run import Draft, task_of_draft


def write_run(found: Draft, out: Path) -> None:
    """Write the run file.

    Raises:
        FolderError: something is at `out`, or there is no folder for it.
        ContractError: what was found makes no contract, such as labels that command a terminal.
        StorageError: the disk refuses.
    """
    with new_file(out, private=False) as stream:
        text = run_toml(found, out.parent)
        body = tomllib.loads(text)
        for outside in ("simulation", "evaluation"):
            body.pop(outside, None)
        parse_contract(filled(body, where=str(out), name="run"), where=str(out))
        stream.write(text.encode())


def said(found: Draft) -> list[tuple[str, str, str]]:
    """(what, value, why) of everything that was guessed, for comments and the screen."""
    rows = [(role, each.column, _why(each)) for role, each in found.guesses.items()]
    if "outlet" not in found.guesses:
        rows.append(("outlet", "each file", f"{len(found.files)} files, one for each outlet"))
    if found.held_out is None:
        rows.append(("held-out", "none", "no file called held_out or test, no --held-out"))
    else:
        why = "named by --held-out" if found.request.held_out else "its name says so"
        rows.append(("held-out", found.held_out.name, why))
    return rows + [("not used", path.name, "another held-out file") for path in found.unused]


def _why(found: Guess) -> str:
    others = f"; or is it {', '.join(map(repr, found.others))}?" if found.others else ""
    return found.why + others


def run_toml(found: Draft, folder: Path) -> str:
    """The text of a run file that will lie in `folder`."""
    why = {what: reason for what, _, reason in said(found)}
    epsilon = found.request.epsilon
    data = found.files[0] if "outlet" in found.guesses else found.request.data
    own = [f"{name} = {toml_value(column)}" for name, column in found.columns.items()]
    partition = "files"
    if "outlet" in found.guesses:
        partition = f"column:{found.guesses['outlet'].column}"
    lines = [
        "# Written by `presspool new run`; what was guessed is marked, so look it through.",
        "# Above [simulation] all is public in a run, the names of outlets and labels too.",
        f'name = "{slug(stem(found.request.data.resolve())) or "run"}"',
        'recipe = "default"     # all else; `presspool contract check` prints every value',
        "",
        "[task]",
        *(_comment(role, found.guesses[role].column, why[role]) for role in found.shape.roles),
        *(f"{key} = {_value(value)}" for key, value in task_of_draft(found).items()),
        *_federation(found),
        "",
        "[outlets]",
        "# Readers, counted in the data. A declared population is a public number: before real",
        "# outlets run this, each names one that it may tell, a round one, say, below what it has.",
        *(f"{name} = {readers}" for name, readers in found.outlets.items()),
        "",
        "[privacy]",
        f"epsilon = {_value(epsilon)}          # for each reader at each outlet, of the whole run",
        "",
        "# Below stands outside the contract: only a simulation reads it.",
        "[simulation]",
        _comment("reader", found.columns["reader"], why["reader"]),
        _comment("outlet", found.guesses["outlet"].column, why["outlet"])
        if "outlet" in found.guesses
        else f"# guessed outlet: {_one_line(why['outlet'])}",
        f"data = {toml_value(_path(data, folder))}",
        f"columns = {{ {', '.join(own)} }}",
        f"partition = {toml_value(partition)}",
        *_evaluation(found, folder, why["held-out"]),
    ]
    return "\n".join(lines) + "\n"


def _federation(found: Draft) -> list[str]:
    """How many outlets a round asks, where not all are."""
    if (cohort := found.request.cohort) is None:
        return []
    return [
        "",
        "[federation]",
        f"cohort = {cohort}             # outlets in a round; they take turns",
    ]


def _evaluation(found: Draft, folder: Path, why: str) -> list[str]:
    if found.held_out is None:
        return ["", f"# No [evaluation]: {_one_line(why)}."]
    named = (
        f"{name} = {toml_value(column)}"
        for name, column in found.columns.items()
        if name != "reader"
    )
    return [
        "",
        "[evaluation]",
        f"# guessed: {_one_line(why)}. It counts as public, and is no reader's training data.",
        f"data = {toml_value(_path(found.held_out, folder))}",
        f"columns = {{ {', '.join(named)} }}",
    ]


def _comment(role: str, column: str, why: str) -> str:
    return _one_line(f"# guessed {role}: column {column!r}; {why}")


def _one_line(text: str) -> str:
    """A comment cannot end early, whatever a column is called."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def _value(value: object) -> str:
    if value == float("inf"):
        return '"inf"'
    return toml_value(value)


def _path(path: Path, folder: Path) -> str:
    """From the run file's folder, where the data lies in or below it; else the whole path."""
    whole, start = path.resolve(), folder.resolve()
    return os.path.relpath(whole, start) if whole.is_relative_to(start) else str(whole)
