"""A contract of which an attack sees much for little work, on one wide, randomly initialised layer.

Example: `attack(attacked_contract(tmp_path / "base"), "north-post", Options(out=tmp_path / "a"))`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tests.fakes.bases.whole_words import save_words

from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.models.base_model import resolve

LABELS = tuple(f"topic {i}" for i in range(8))


def attacked_contract(folder: Path) -> Contract:
    """ε = 3, on a base model that is written into a folder."""
    base = wide_base(folder)
    found = resolve(str(base), weights=None, tokenizer=None)
    model = {"id": str(base), **found.pins}
    return parse_contract(
        {
            "name": "attacked",
            "model": model,
            "task": {"labels": LABELS, "max_length": 12},
            "adapter": {"rank": 4, "alpha": 8, "targets": ["query", "value"]},
            "federation": {"rounds": 3, "local_steps": 2},
            "outlets": {"north-post": 300, "south-echo": 40},
            "privacy": {
                "epsilon": 3.0,
                "clip": {"adapter": 0.5, "head": 1.0},
                "sampling_rate": 0.06,
            },
            "optimizer": {"learning_rate": {"adapter": 0.5, "head": 5.0}},
        }
    ).with_noise()


def wide_base(folder: Path) -> Path:
    """A BERT of one layer, 256 wide, whose 600 words are one token each."""
    from transformers import BertConfig, BertModel

    letters = "abcdefghij"
    known = save_words(folder, [a + b + c for a in letters for b in letters for c in letters[:6]])
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=known,
        hidden_size=256,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=16,
        initializer_range=0.3,
    )
    model = BertModel(config, add_pooling_layer=False)
    with torch.no_grad():  # words, not places, make one text different from another
        model.embeddings.position_embeddings.weight.mul_(0.05)
        model.embeddings.token_type_embeddings.weight.zero_()
    model.save_pretrained(folder)
    return folder
