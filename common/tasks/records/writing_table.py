"""What [task] says of a model that writes: `generation` beside this folder gives it meaning.

Invariant: keys that came later are no part of a contract that does not use them, so contracts of
before keep bytes and digest.

Example:
    >>> table = GenerationTable(beams=4, length_penalty=2.0)
    >>> sorted(table.model_dump())[:3]
    ['answer_length', 'beams', 'format']
    >>> "beams" in GenerationTable().model_dump()
    False
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from presspool.common.contract.contract_schema import TaskTable
from presspool.common.tasks.scores.text_metrics import Words
from presspool.common.tasks.task import MaxLength

FORMATS = {
    "text": ("text",),
    "prompt": ("prompt", "answer"),
    "chat": ("messages",),
    "summary": ("article", "summary"),
}
"""The columns of each format."""
MOST_WORDS = 200

Unwanted = Annotated[str, Field(min_length=1, max_length=64)]


class GenerationTable(TaskTable):
    """The contract's [task].

    Attributes:
        format: what a record is: "text", "prompt", "chat" or "summary".
        prompt: public words before each text of format "text", and between an article and its
            summary.
        max_length: tokens a record is truncated to; what is given is cut first, from the left, of
            an article from the right.
        answer_length: tokens that the model writes at most, where it is asked to.
        answer_at_least: tokens that it writes at least, before it may end.
        beams: beginnings that are kept side by side; 1 takes the likeliest token every time.
        length_penalty: with beams: a text's log-likelihood is divided by its tokens to this power,
            so above 0 long ones gain.
        unwanted: public words that no answer should have; counted in reports, never filtered.
    """

    kind: Literal["generation"] = "generation"
    format: Literal["text", "prompt", "chat", "summary"] = "text"
    prompt: Annotated[str, Field(max_length=1000, pattern=r"^[^\x00]*$")] = ""
    max_length: MaxLength = 64
    answer_length: Annotated[int, Field(strict=True, ge=1, le=4096)] = 64
    answer_at_least: Annotated[
        int, Field(strict=True, ge=0, le=4096, exclude_if=lambda tokens: tokens == 0)
    ] = 0
    beams: Annotated[int, Field(strict=True, ge=1, le=16, exclude_if=lambda many: many == 1)] = 1
    length_penalty: Annotated[
        float, Field(strict=True, ge=-10, le=10, exclude_if=lambda power: power == 1)
    ] = 1.0
    unwanted: Annotated[
        tuple[Unwanted, ...], Field(max_length=MOST_WORDS, exclude_if=lambda words: not words)
    ] = ()

    @model_validator(mode="after")
    def _consistent(self) -> GenerationTable:
        for fault in self._faults():
            raise ValueError(fault)
        return self

    def _faults(self) -> Iterator[str]:
        if self.prompt and self.format not in ("text", "summary"):
            yield f"prompt goes with formats 'text' and 'summary', not with {self.format!r}"
        if self.answer_at_least > self.answer_length:
            yield f"answer_at_least is at most answer_length, {self.answer_length}"
        if self.length_penalty != 1 and self.beams == 1:
            yield "length_penalty chooses between beams: give beams = 2 or more"
        if not all(Words().tokenize(word) for word in self.unwanted):
            yield "each of unwanted has a letter or a digit"
