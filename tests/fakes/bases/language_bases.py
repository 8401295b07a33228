"""Language models as bases: a tiny one with random weights, and the converted SmolLM2.

The tiny one has what goes wrong with real ones: grouped keys and values, tied embeddings, a chat
template, and a padding token that is the end token (id 2). Its byte-level tokenizer spells any
text.

Example: `write_tiny_llama(folder)`; then `[model] id = str(folder)`.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from presspool.common.models.catalogue import entry
from presspool.common.models.gguf_conversion import converted

SMOLLM2 = "smollm2-135m-instruct"
LLAMA = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
"""The smallest Llama whose heads share keys and values."""
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write_tiny_llama(
    folder: Path,
    words: Sequence[str] = (),
    *,
    seed: int = 0,
    hidden: int = 32,
    vocabulary: int = 320,
    layers: int = 2,
    positions: int = 128,
) -> Path:
    """Write a Llama, and a tokenizer of bytes and the pairs of some words.

    Args:
        folder: where it goes.
        words: what the tokenizer learns merges from.
        seed: of the weights.
        hidden: width of the layers.
        vocabulary: tokens, at most.
        layers: how many.
        positions: tokens that it can read.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        words,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=list(SPECIAL),
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    unknown, begin, end = SPECIAL
    tokens = {"unk_token": unknown, "bos_token": begin, "eos_token": end, "pad_token": end}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **tokens)
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=core.get_vocab_size(),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def converted_smollm2() -> Path:
    """The cache in which the converted SmolLM2 lies, as a value of `XDG_CACHE_HOME`.

    All workers and later sessions of this user share it: whoever needs it first converts (some
    seconds, 538 MB), the others wait. Skips where the package is missing.
    """
    model = entry(SMOLLM2)
    if model.packaged is None:
        pytest.skip(f"no language model here: {model.install}")
    shared = Path(tempfile.gettempdir()) / f"presspool-tests-{os.getuid()}"
    shared.mkdir(mode=0o700, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch, (shared / "converting").open("w") as turn:
        patch.setenv("XDG_CACHE_HOME", str(shared))
        fcntl.flock(turn, fcntl.LOCK_EX)
        converted(model)
    return shared
