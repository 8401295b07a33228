"""Per-reader gradients of every trainable parameter, exact, for about the price of plain ones.

The unit of privacy is the reader, so what is clipped is a reader's mean gradient. `ReaderGradients`
attaches to a model and leaves that mean in ``parameter.grad_sample``, where Opacus's
`DPOptimizer` looks for it. LoRA layers run as one fused function
(`presspool.client.engine.fused_lora`); linear heads, biases and layer norms are tapped
(`presspool.client.engine.grad_formulas`).

Invariants:
- Every trainable parameter gets a gradient in every pass, or the pass fails with its name: an
  adapter that silently never trains (opacus issue 820) is an error.
- The engine owns the reduction. It takes one loss per record and refuses a loss that is already
  reduced; a batch-wide token mean would let one reader's length change another's gradient.
- Each record's gradient depends on that record alone; a model's first pass proves it.
- Nothing trainable is approximated: what has no exact formula is refused by name.

Example:
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> records = torch.tensor([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    >>> with ReaderGradients(model) as engine:       # records 0 and 1 are reader 0's
    ...     engine.backward(model(records).squeeze(1), torch.tensor([0, 0, 1]), readers=2)
    ...     model.weight.grad_sample.squeeze(1)
    tensor([[0.5000, 0.5000],
            [5.0000, 5.0000]])
"""

from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Self
from weakref import WeakSet

import torch
from peft.tuners.lora.dora import DoraLinearLayer
from torch import Tensor, nn

from presspool.client.engine.fused_lora import FusedDora, FusedLora, fusable, unsupported_lora
from presspool.client.engine.grad_formulas import Tap, formula_for
from presspool.client.engine.reader_sums import Inbox, IsolationProof, ReaderSums
from presspool.client.engine.together.row_weights import RowWeights
from presspool.common.base.errors import EngineError

_ISOLATED: WeakSet[nn.Module] = WeakSet()
"""Models that were seen to keep records apart: the proof costs one backward pass a model."""


class ReaderGradients:
    """Computes per-reader gradients of a model until `close`; also a context manager.

    Args:
        model: a PEFT model, or any module. Which parameters are trainable must not change while
            the engine is attached.

    Attributes:
        by_rows: whether rows of a batch may have weights of their own.

    Raises:
        EngineError: a trainable parameter lies in a module without an exact formula, nothing is
            trainable, or another engine is attached. The model is then left as it was.
    """

    def __init__(self, model: nn.Module) -> None:
        self._trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        if not self._trained:
            raise EngineError("the model has no trainable parameter")
        layers = [(name or type(m).__name__, m) for name, m in model.named_modules()]
        for name, layer in layers:
            _check(name, layer)
        self._model, self._inbox = model, Inbox()
        self._attached: list[nn.Module] = []
        self.by_rows = True
        for name, layer in layers:
            self._attach(name, layer)

    def _attach(self, name: str, layer: nn.Module) -> None:
        stand_in: FusedLora | Tap
        if not any(p.requires_grad for p in layer.parameters()):
            return
        if fusable(layer):
            kind = FusedDora if layer.lora_variant else FusedLora
            stand_in = kind(name, layer, self._inbox)
        elif isinstance(layer, DoraLinearLayer):
            return  # the layer that it is of delivers
        elif _own_trained(layer):
            stand_in = Tap(name, layer, self._inbox)
        else:
            return
        layer.forward = stand_in
        self.by_rows = self.by_rows and stand_in.by_rows
        self._attached.append(layer)

    def backward(self, losses: Tensor, reader_of: Tensor, readers: int) -> None:
        """Leaves each reader's mean gradient in `grad_sample` of every trainable parameter.

        Args:
            losses: (records,) floating, one loss per record, from one forward pass whose first
                dimension is the records. May be empty: then all gradients are zero.
            reader_of: (records,) int64, non-decreasing: the reader of each record. Readers with
                equally many records are cheapest when they follow each other.
            readers: rows of the result; a reader without a record gets zeros.

        Afterwards every trainable p has p.grad_sample, (readers, *p.shape) float32, and p.grad
        is None. A non-finite loss makes only its own reader's row non-finite.

        Raises:
            EngineError: the losses are reduced or detached, the readers are not in order, a
                parameter got no gradient or got one outside its layer, or records are mixed.
        """
        counts = _records_of_readers(losses, reader_of, readers)
        for parameter in self._trained.values():
            parameter.grad = parameter.grad_sample = None  # type: ignore[attr-defined]
        sums = ReaderSums(counts)
        if counts and sums.records:
            losses = losses.float()
            self._prove_isolation(losses, counts)
            # The weights 1/m turn a reader's sum into its mean before anything is summed.
            weights = torch.tensor([1.0 / m for m in counts for _ in range(m)])
            with self._inbox.receiving(sums):
                losses.backward(weights.to(losses.device))  # type: ignore[no-untyped-call]
            self._check_complete(sums)
        for parameter in self._trained.values():
            rows = sums.of(parameter)
            shape = (readers, *parameter.shape)
            parameter.grad_sample = (  # type: ignore[attr-defined]
                parameter.new_zeros(shape, dtype=torch.float32) if rows is None else rows
            )

    def _prove_isolation(self, losses: Tensor, counts: list[int]) -> None:
        """Once per model, with the first pass of two records or more."""
        if self._model in _ISOLATED or len(losses) < 2:
            return
        every_second = torch.zeros_like(losses)
        every_second[::2] = 1.0
        with self._inbox.receiving(IsolationProof(counts)):
            losses.backward(every_second, retain_graph=True)  # type: ignore[no-untyped-call]
        _ISOLATED.add(self._model)

    def _check_complete(self, sums: ReaderSums) -> None:
        for name, parameter in self._trained.items():
            if parameter.grad is not None:
                parameter.grad = None
                raise EngineError(
                    "a trained parameter is also used outside its own layer's forward pass",
                    where=name,
                    advice="freeze it, or untie it from the layer that shares it",
                )
            if sums.of(parameter) is None:
                raise EngineError(
                    "a trained parameter received no gradient: it would silently never train",
                    where=name,
                    advice="leave its layer out of the adapter's targets if the loss does not use "
                    "it; with reentrant checkpointing call enable_input_require_grads() first",
                )

    def rows_of(self, rows: RowWeights | None) -> AbstractContextManager[None]:
        """Compute each row with weights of its own inside the block; None for the model's."""
        return self._inbox.rows_of(rows)

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """Name to parameter of what it is attached to, in sorted order."""
        return dict(sorted(self._trained.items()))

    @property
    def gradients(self) -> list[Tensor]:
        """`grad_sample` of every trainable parameter, in the model's order of names."""
        return [p.grad_sample for p in self._trained.values()]  # type: ignore[attr-defined]

    def close(self) -> None:
        """Gives the model its own forward passes back; may be called twice."""
        while self._attached:
            del self._attached.pop().forward
        for parameter in self._trained.values():
            parameter.__dict__.pop("grad_sample", None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _own_trained(layer: nn.Module) -> list[str]:
    return [name for name, p in layer.named_parameters(recurse=False) if p.requires_grad]


def _check(name: str, layer: nn.Module) -> None:
    """Raises EngineError where the layer cannot be trained per reader, or is already taken."""
    if not any(p.requires_grad for p in layer.parameters()):
        return
    reason = unsupported_lora(layer)
    if reason:
        raise EngineError(reason, where=name)
    trained = _own_trained(layer)
    if trained and formula_for(layer) is None and not isinstance(layer, DoraLinearLayer):
        raise EngineError(
            f"no exact per-reader gradient for {' and '.join(trained)} of {type(layer).__name__}",
            where=name,
            expected="LoRA on linear layers or Conv1D; trained linear layers, biases, layer norms",
            advice="freeze it, or leave it out of the adapter's targets and modules_to_save",
        )
    if "forward" in vars(layer) and (trained or fusable(layer)):
        raise EngineError(
            "the layer's forward pass is already replaced by something else",
            where=name,
            advice="close the other engine, or remove the hook that replaced it",
        )


def _records_of_readers(losses: Tensor, reader_of: Tensor, readers: int) -> list[int]:
    """Records of each reader, once losses and readers are found to fit together."""
    if losses.dim() != 1 or losses.shape != reader_of.shape:
        raise EngineError(
            "the engine takes one loss per record, not yet summed or averaged",
            where="losses",
            expected=tuple(reader_of.shape),
            got=tuple(losses.shape),
            advice="use reduction='none' and average over a record's own tokens only",
        )
    if len(losses) and not (losses.is_floating_point() and losses.requires_grad):
        raise EngineError("the losses are detached from the model", where="losses")
    order = reader_of.tolist()
    in_range = not order or (order[0] >= 0 and order[-1] < readers)
    sorted_numbers = not reader_of.is_floating_point() and all(a <= b for a, b in pairwise(order))
    if not (in_range and sorted_numbers):
        raise EngineError(
            "a batch's records must be ordered by reader",
            where="reader_of",
            expected=f"non-decreasing whole numbers from 0 to {readers - 1}",
            got=order if len(order) < 20 else f"{order[:20]}...",
        )
    counts = [0] * readers
    for reader in order:
        counts[reader] += 1
    return counts
