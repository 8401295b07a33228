"""What a contract's [task] says where labels are learned.

Invariants:
    * A key that has its default is not written: a contract that was frozen before there was the key
      keeps its bytes and its digest.
    * Priors are the contract's, which everybody reads: nobody counts readers' labels for them.

Example:
    >>> table = ClassificationTable(labels=("fine", "rude"), priors=(0.9, 0.1))
    >>> sorted(table.model_dump())
    ['head', 'kind', 'labels', 'max_length', 'priors']
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from presspool.common.base.errors import InputError
from presspool.common.contract.contract_schema import UNSURE, TaskTable
from presspool.common.tasks.task import MaxLength

if TYPE_CHECKING:
    from presspool.common.contract.contract import Contract

BETWEEN = "|"
"""Between the labels of one record, where it may have several."""
NONE = "none"
"""In place of labels, where a record has none: an empty cell is one that nobody filled in."""

# The rarest label that is weighted up, and in "multi" also the rarest absence of one.
LEAST_PRIOR = 1e-4
_UNLIKE_ONE = 1e-6

Prior = Annotated[float, Field(strict=True, ge=LEAST_PRIOR, le=1 - LEAST_PRIOR)]
Share = Annotated[float, Field(strict=True, gt=0, lt=1)]


def _absent(value: object) -> bool:
    return value is None


class ClassificationTable(TaskTable):
    """The contract's [task].

    Attributes:
        labels: public label names, in order.
        max_length: tokens a record is truncated to.
        head: where the head starts: "zero", or "names": what the base model makes of the labels'
            names, which costs nothing because they are public.
        bias: whether the head has one. Without, a reader's whole clip norm is left to the weights,
            which are what says something; the key is written only then.
        mode: "single": one label a record; "multi": any number of them, none too; "ordinal": one
            of labels that stand in an order, as grades do.
        priors: the labels' public shares, in the labels' order. Rare labels then count more in a
            record's loss, before its reader's gradient is clipped.
        sure: how often answers shall be right on public rows; an answer that is less sure than
            that asks for becomes `UNSURE`.
    """

    kind: Literal["classification"] = "classification"
    labels: Annotated[tuple[str, ...], Field(min_length=2, max_length=10_000)]
    max_length: MaxLength = 48
    head: Literal["zero", "names"] = "zero"
    bias: Annotated[bool, Field(strict=True, exclude_if=lambda there: there)] = True
    mode: Annotated[
        Literal["single", "multi", "ordinal"], Field(exclude_if=lambda mode: mode == "single")
    ] = "single"
    priors: Annotated[tuple[Prior, ...] | None, Field(exclude_if=_absent)] = None
    sure: Annotated[Share | None, Field(exclude_if=_absent)] = None

    @model_validator(mode="after")
    def _distinct(self) -> ClassificationTable:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must be distinct")
        if fault := next(self._faults(), None):
            raise ValueError(fault)
        return self

    def _faults(self) -> Iterator[str]:
        """What its keys say against each other, and against words that have a meaning."""
        if self.head == "names" and self.mode != "single":
            yield f"head = 'names' goes with mode 'single' alone, not with {self.mode!r}"
        if self.sure is not None and UNSURE in self.labels:
            yield f"with sure, {UNSURE!r} is no label: it is what stands in place of an answer"
        if self.mode == "multi":
            yield from map(_unfit_among_several, filter(_unfit, self.labels))
        if self.priors is not None and len(self.priors) != len(self.labels):
            yield f"{len(self.priors)} priors for {len(self.labels)} labels: give one a label"
        if self.priors is not None and self.mode != "multi":
            total = math.fsum(self.priors)
            if abs(total - 1) > _UNLIKE_ONE:
                yield f"priors are shares of all records and add up to 1, not to {total:g}"

    @property
    def needs_public(self) -> str:
        """The key that needs public rows."""
        return "sure" if self.sure is not None else ""


def _unfit(label: str) -> bool:
    return BETWEEN in label or label != label.strip() or label == NONE


def _unfit_among_several(label: str) -> str:
    return (
        f"where records have several labels, none is {NONE!r} or has {BETWEEN!r} in it or spaces "
        f"around it: {label!r}"
    )


def labels_of(contract: Contract) -> tuple[str, ...]:
    """The labels of a contract that gives each record one of them, in no order.

    Raises:
        InputError: its task is another.
    """
    table = contract.task
    if not isinstance(table, ClassificationTable):
        raise InputError(
            "this works with labels",
            where="[task] kind",
            expected="classification",
            got=table.kind,
        )
    if table.mode != "single":
        raise InputError(
            "this works with one label a record, and labels in no order",
            where="[task] mode",
            expected="single",
            got=table.mode,
        )
    return table.labels
