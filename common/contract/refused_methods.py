"""Methods of the field that this version does not offer: each name, and why.

With `doors.METHODS` this is the closed list: `method = "…"` is one that trains, or says why it does
not. What becomes exact moves from here to there.

Invariant: no name is in both lists.

Example:
    >>> REFUSED_METHODS["adalora"].partition(":")[0]
    'ranks would be moved by the sensitivity of what is trained'
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_TOKENS = (
    "trained tokens before a text: the batches' public shapes and the frozen layers, which run "
    "once a record, count a record's own tokens alone"
)
_FACTORS = "; 'ffa' with one public A averages products exactly already"

REFUSED_METHODS: Mapping[str, str] = MappingProxyType(
    {
        "full": "every weight would train: rows of a whole model for each reader do not fit into "
        "memory, and noise on so many numbers drowns what readers teach; take 'fedit' or 'ffa'",
        "qlora": "a 4-bit base: its kernels need CUDA, and no exact gradient of ours is tried "
        "through them; quantise the released adapter's base instead",
        "8bit": "an 8-bit base: its kernels need CUDA, and its outlier columns are chosen by the "
        "whole batch, so one reader's text would change another's gradient",
        "adalora": "ranks would be moved by the sensitivity of what is trained: of readers' "
        "gradients that is a release to be paid for, of noised ones it is mostly noise; give "
        "[adapter] rank and layers",
        "prefix-tuning": "keys and values before a text: they go round the layers whose gradients "
        "a reader are exact",
        "prompt-tuning": _TOKENS,
        "p-tuning": _TOKENS,
        "fedex-lora": "the residual of averaged factors would change the frozen base every round, "
        "which contracts pin by its hash" + _FACTORS,
        "flora": "stacked factors make the adapter grow with outlets and rounds, and another "
        "adapter have other shapes at each" + _FACTORS,
        "flexlora": "ranks of their own at each outlet: one contract has one rank, and one public "
        "number of trained numbers" + _FACTORS,
        "fedsvd": "A would be refreshed from the averaged product: a factor that does not train is "
        "the contract's public constant, and is never received from anybody",
        "vera": "vectors inside a product of shared random factors have no exact gradient a "
        "reader in this version; 'fed-sb' trains a whole small matrix there",
        "loha": "a Hadamard product of factors has no exact gradient a reader in this version",
        "lokr": "a Kronecker product of factors has no exact gradient a reader in this version",
        "oft": "a rotation of the frozen weights has no exact gradient a reader in this version",
        "pissa": "it would start from singular vectors of the base, which differ between machines "
        "in their last bits; public factors come from the contract's seed",
        "lora-ga": "it would start from the gradient of readers' records, which is a release; "
        "public factors come from the contract's seed",
    }
)
