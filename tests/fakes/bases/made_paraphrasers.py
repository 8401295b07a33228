"""Tiny chat models that know one paraphrase of each of some texts by heart, and nothing else.

They are asked as any other model is, token by token: only their weights are made for the test.

Example: `write_paraphraser(folder, {"gold rises": "a rise of gold"})`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from tests.fakes.bases.language_bases import write_tiny_llama
from torch.nn.functional import cross_entropy

from presspool.common.contract.contract_schema import Model
from presspool.common.models.base_model import resolve
from presspool.common.models.models import loaded_by
from presspool.common.tasks.generation import Generation, GenerationTable
from presspool.server.gate.paraphraser import request

POSITIONS = 256
STEPS = 400
ENOUGH = 0.03  # nats a token: what is likeliest is then what was shown


def untrained(folder: Path, words: Iterable[str] = ()) -> Path:
    """A chat model with random weights that can be asked, and writes nonsense."""
    known = " ".join([*words, *(turn["content"] for turn in request(""))])
    sizes = {"hidden": 64, "vocabulary": 1200, "positions": POSITIONS}
    return write_tiny_llama(folder, [known] * 3, **sizes)


def write_paraphraser(folder: Path, pairs: Mapping[str, str]) -> Path:
    """Write a model that says these texts so; it is trained until it does.

    Args:
        folder: where it goes.
        pairs: text to paraphrase.
    """
    untrained(folder, [*pairs, *pairs.values()])
    found = resolve(str(folder), weights=None, tokenizer=None)
    spec = Model(id=str(folder), **found.pins)
    task = Generation(GenerationTable(format="chat", max_length=POSITIONS), spec)
    loaded = loaded_by(spec, task)
    chats = [
        [*request(text), {"role": "assistant", "content": said}] for text, said in pairs.items()
    ]
    whole = task.wording.tokens([task.wording.marked(chat) for chat in chats])
    batch = task.wording.padded([each.ids for each in whole])
    wanted = torch.full_like(batch["input_ids"], -100)
    for row, each in enumerate(whole):
        wanted[row, each.last : len(each.ids)] = torch.tensor(each.ids[each.last :])
    moved = torch.optim.Adam(loaded.parameters(), lr=0.005)
    for _ in range(STEPS):
        moved.zero_grad()
        logits = loaded(**batch).logits[:, :-1]
        loss = cross_entropy(logits.flatten(0, 1), wanted[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(loaded.parameters(), 1.0)
        moved.step()
        if loss.item() < ENOUGH:
            loaded.save_pretrained(folder)
            return folder
    raise AssertionError(f"not learnt: {loss.item():.3f} nats a token")
