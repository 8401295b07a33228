r"""The README.md of an adapter's folder: what it is, and the lines that use it.

Invariant: a run's name and labels are others' words, and no markup of theirs has an effect.

Example:
    >>> plain("<b>*north*</b>")
    '&lt;b&gt;\\*north\\*&lt;/b&gt;'
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from presspool.common.contract.contract import Contract
from presspool.common.contract.contract_schema import UNSURE
from presspool.common.contract.doors import task_of

ADAPTER_MARK = "presspool-adapter-folder"
_MOST_LABELS = 50
_INPUTS = {
    "text": '["Cup final goes to penalties", "Central bank raises rates"]',
    "prompt": '["Write a headline about the cup final."]',
    "messages": '["What did the minister say?"]',
    "article": '["The council met until midnight. The bridge will be built."]',
}


def readme(contract: Contract, statement: str) -> str:
    """The whole file, which a privacy card's replaces later."""
    lines = [
        f"<!-- {ADAPTER_MARK} -->",
        f"# {plain(contract.name)}",
        "",
        f"**{plain(statement)}**",
        "",
        *use(contract),
    ]
    return "\n".join(lines)


def use(contract: Contract) -> list[str]:
    """How the adapter is used, and what of it has to be known: the section's lines."""
    task = task_of(contract)
    return [
        "## Use",
        "",
        "From this folder, with `pip install presspool`:",
        "",
        *(_of_texts(task.inputs[0]) if len(task.inputs) == 1 else _of_columns(task.inputs)),
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {what} | {plain(value)} |" for what, value in _facts(contract)),
        "",
    ]


def _of_texts(column: str) -> list[str]:
    return [
        "```python",
        "import presspool",
        "",
        'adapter = presspool.load(".")',
        f"for said in adapter.predict({_INPUTS.get(column, _INPUTS['text'])}):",
        "    print(said.answer, dict(said.probabilities))",
        "print(adapter.statement)",
        "```",
        "",
        "or, for a file of texts, `presspool predict . FILE`.",
    ]


def _of_columns(columns: Sequence[str]) -> list[str]:
    """A record that is more than a text comes in a file."""
    return [f"`presspool predict . FILE`, for a file with the columns {', '.join(columns)}."]


def _facts(contract: Contract) -> list[tuple[str, str]]:
    task = task_of(contract)
    facts = [
        ("Task", contract.task.kind),
        ("A record", ", ".join(task.inputs)),
        ("Tokens of a record", f"at most {contract.task.max_length}"),
        ("Pooling", task.pooling),
        ("Base model", f"weights {contract.model.weights}"),
        ("Tokenizer", str(contract.model.tokenizer)),
    ]
    labels: tuple[str, ...] = getattr(contract.task, "labels", ())
    if labels:
        more = f" and {len(labels) - _MOST_LABELS} more" if len(labels) > _MOST_LABELS else ""
        facts.insert(1, ("Labels", ", ".join(labels[:_MOST_LABELS]) + more))
    if (wanted := getattr(contract.task, "sure", None)) is not None:
        said = (
            f"what is less sure than it takes to be right {wanted:.1%} of the time on public rows"
        )
        facts.append((f'Answer "{UNSURE}"', said))
    return facts


def plain(text: str) -> str:
    """Foreign text as Markdown text: one paragraph, no markup, no HTML."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_{}\[\]#|!~])", r"\\\1", escaped)
