"""The blockwise loss is the plain one, and no more logits are there than a block's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from presspool.common.models.token_losses import LOGITS, UNCOUNTED, rows_at_once, token_losses


def made(tokens: int, vocabulary: int) -> tuple[Tensor, Tensor, Tensor]:
    """States, vectors of words, and targets of which some do not count."""
    random = torch.Generator().manual_seed(tokens)
    states = torch.randn((tokens, 8), generator=random)
    words = torch.randn((vocabulary, 8), generator=random)
    targets = torch.randint(vocabulary, (tokens,), generator=random)
    targets[::3] = UNCOUNTED
    return states, words, targets


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers the numbers in the largest tensor that any operation made."""

    numbers = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            self.numbers = max(self.numbers, made.numel())
        return made


@pytest.mark.parametrize(("tokens", "vocabulary"), [(1, 2), (5, 3), (130, 7), (70, 1 << 17)])
def test_losses_and_gradients_are_those_of_plain_cross_entropy(
    tokens: int, vocabulary: int
) -> None:
    states, words, targets = made(tokens, vocabulary)
    weights = torch.rand(tokens)
    plain, ours = (states.clone().requires_grad_() for _ in range(2))
    expected = cross_entropy(
        plain.double() @ words.double().T, targets, reduction="none", ignore_index=UNCOUNTED
    )
    found = token_losses(ours, words, targets)
    torch.autograd.backward([(expected * weights).sum(), (found * weights).sum()])
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-6)
    assert plain.grad is not None
    assert ours.grad is not None
    apart, size = (ours.grad - plain.grad).norm(dim=1), plain.grad.norm(dim=1)
    assert bool((apart <= 2e-4 * size).all())


def test_without_gradients_nothing_is_kept() -> None:
    states, words, targets = made(9, 5)
    with torch.no_grad():
        assert not token_losses(states, words, targets).requires_grad
    assert not token_losses(states, words.requires_grad_(), targets).requires_grad


@pytest.mark.parametrize("vocabulary", [1 << 10, 1 << 14, 1 << 18])
def test_memory_is_flat_in_tokens_and_vocabulary(vocabulary: int) -> None:
    states, words, targets = made(3 * rows_at_once(vocabulary), vocabulary)
    states.requires_grad_()
    with Largest() as largest:  # type: ignore[no-untyped-call]
        torch.autograd.backward(token_losses(states, words, targets).sum())
    assert LOGITS // 2 < largest.numbers <= max(LOGITS, words.numel())


def test_a_token_knows_nothing_of_the_others_to_the_last_bit() -> None:
    states, words, targets = made(200, 1000)
    others = torch.randn(200, 8)
    others[:70] = states[:70]
    assert torch.equal(
        token_losses(states, words, targets)[:70], token_losses(others, words, targets)[:70]
    )
