"""The loss of each token of a language model, without the logits of more than a few tokens at once.

With a vocabulary of 49,152 the logits of 1,024 tokens are 200 MB, and their gradient as much again.
So tokens are taken in blocks: of each the logits are made, give the loss and, as softmax minus the
wanted token, at once the gradient of the states, and are forgotten. What stays is as large as the
states, and a larger vocabulary makes blocks shorter. Its vectors are frozen, without gradient.

Invariants:
    * Losses and gradients are exact: no token, no part of the vocabulary is left out.
    * A token's loss depends on its own state alone; all blocks of a vocabulary have the same rows,
      the last one filled with zeros, so that no product's shape depends on the records.

Example:
    >>> states, words = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.eye(2)
    >>> token_losses(states, words, torch.tensor([0, -1]))
    tensor([0.1269, 0.0000])
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from presspool.common.base.errors import ModelError
from presspool.common.models.frozen_product import product

LOGITS = 1 << 22
"""Logits that are there at once: 17 MB, 64 tokens at a vocabulary of 49,152."""
UNCOUNTED = -1
"""The target of a token whose loss does not count."""


def token_losses(states: Tensor, words: Tensor, targets: Tensor) -> Tensor:
    """Minus the log-likelihood of each wanted token, -log softmax(W h)[target], in nats.

    Args:
        states: (tokens, hidden) floating, the model's last; gradients flow here alone.
        words: W, (vocabulary, hidden), one frozen vector a word.
        targets: (tokens,) int64; `UNCOUNTED` where no loss counts, which is then 0.

    Returns:
        (tokens,) float32.
    """
    losses: Tensor = _TokenLosses.apply(states, words.detach(), targets)  # type: ignore[no-untyped-call]
    return losses


def last_counted(counted: Tensor) -> Tensor:
    """Where the last place that counts is in each row, (rows, 1) int64; 0 where none does."""
    places = torch.arange(counted.shape[1], device=counted.device)
    return (places * counted).amax(1, keepdim=True)


class _TokenLosses(torch.autograd.Function):
    """Inputs states, words, targets; gradients flow to the states."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, words: Tensor, targets: Tensor) -> Tensor:
        rows = rows_at_once(len(words))
        losses = states.new_zeros(len(states), dtype=torch.float32)
        gradients = torch.zeros_like(states) if ctx.needs_input_grad[0] else None
        for start in range(0, len(states), rows):
            some = slice(start, start + rows)
            block = _filled(states[some], rows, 0.0), words, _filled(targets[some], rows, UNCOUNTED)
            found, gradient = _block(*block, differentiate=gradients is not None)
            losses[some] = found[: len(losses[some])]
            if gradients is not None and gradient is not None:
                gradients[some] = gradient[: len(losses[some])]
        ctx.save_for_backward(gradients)
        return losses

    @staticmethod
    def backward(ctx: Any, losses: Tensor) -> tuple[Tensor | None, None, None]:
        (gradients,) = ctx.saved_tensors
        if gradients is None:
            return None, None, None
        return gradients * losses.unsqueeze(-1).to(gradients.dtype), None, None


@torch.no_grad()
def check_foretells(loaded: Any) -> None:
    """Try on two tokens that a language model's own logits are W h, and that none sees the next.

    Raises:
        ModelError: a bias, a scale or a cap is put on them, or the model reads both ways: it would
            be trained by a loss that is not its own.
    """
    ids = torch.tensor([[0, 1]], device=loaded.device)
    own, first = loaded(input_ids=ids).logits, loaded(input_ids=ids[:, :1]).logits
    states = loaded.base_model(input_ids=ids).last_hidden_state
    plain = states @ loaded.get_output_embeddings().weight.T
    for got, what in ((plain, "plain products of states and words"), (first, "blind to the next")):
        if not torch.allclose(got, own[:, : got.shape[1]], rtol=1e-3, atol=1e-3):
            raise ModelError(
                "a language model whose loss cannot be computed here",
                where=f"[model] {loaded.config.model_type}",
                expected=f"logits that are {what}",
                got="others",
                advice="use another base model: a Llama, Mistral, Qwen or GPT-2, say",
            )


def rows_at_once(vocabulary: int) -> int:
    """Tokens of a block: a power of two, at least one."""
    return 1 << (max(1, LOGITS // vocabulary).bit_length() - 1)


def _filled(values: Tensor, rows: int, filling: float) -> Tensor:
    free = values.new_full((rows - len(values), *values.shape[1:]), filling)
    return torch.cat([values, free]) if len(free) else values


def _block(
    states: Tensor, words: Tensor, targets: Tensor, *, differentiate: bool
) -> tuple[Tensor, Tensor | None]:
    """Losses of a block's tokens, and their gradients by the states."""
    counted, wanted = (targets >= 0).float(), targets.clamp(min=0).unsqueeze(-1)
    logs = product(states, words).float()
    logs -= logs.logsumexp(dim=-1, keepdim=True)  # closer than log_softmax in a large vocabulary
    losses = -logs.gather(1, wanted).squeeze(-1) * counted
    if not differentiate:
        return losses, None
    errors = logs.exp_()  # softmax, minus one at the wanted word
    errors.scatter_add_(1, wanted, errors.new_full(wanted.shape, -1.0))
    return losses, product((errors * counted.unsqueeze(-1)).to(words.dtype), words.T)
