"""Where the frozen base model lies on this machine, and proof that it is the pinned one.

A model is pinned by its *manifest*: the sha256 of the sorted lines `name sha256` of every file that
may be loaded (`LOADED`), and by the sha256 of its weights and of its tokenizer alone. It is loaded
from a folder that holds these files and nothing else (`BaseModelFolder.alone`), so that what lies
beside them, code or another model's configuration say, is never looked at. No torch here.

Invariants:
    * Hashes are compared before anything is loaded, wherever the files came from.
    * A converted model's name stands for the catalogue's manifest, pinned in the contract or not.
    * A model whose configuration names code (`auto_map`, a kernel of the hub) is refused.
    * A model that was `placed` is found by its manifest; the name in a contract is then no address.

Example:
    >>> resolve("no/such-folder/anywhere", weights=None, tokenizer=None)
    Traceback (most recent call last):
    ...
    presspool.common.base.errors.ModelError: ...
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from presspool.common.base.errors import ModelError
from presspool.common.base.files import file_sha256
from presspool.common.models.base_model_sources import located
from presspool.common.models.catalogue import CATALOGUE, ModelDigests

WEIGHT_FILES = ("*.safetensors",)
TOKENIZER_FILES = ("tokenizer.json",)
FALLBACK_TOKENIZER_FILES = ("vocab.*", "merges.txt", "*.model", "tokenizer_config.json")
_SETTINGS = ("config.json", "tokenizer_config.json")
# All that transformers reads of a folder, but for code and PEFT's adapters.
LOADED = (
    *WEIGHT_FILES,
    *TOKENIZER_FILES,
    *FALLBACK_TOKENIZER_FILES,
    "*.safetensors.index.json",
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "special_tokens_map.json",
)
LARGEST_SETTINGS = 1 << 20  # bytes

_PLACED: ContextVar[tuple[str, Path] | None] = ContextVar("placed", default=None)


@dataclass(frozen=True, kw_only=True)
class BaseModelFolder(ModelDigests):
    """A base model on disk whose hashes have been computed.

    Attributes:
        path: folder where its files lie.
        files: name to sha256 (hex) of each that may be loaded.
    """

    path: Path
    files: Mapping[str, str]

    @contextmanager
    def alone(self) -> Iterator[Path]:
        """A private folder of exactly these files, for `from_pretrained`, while the block runs."""
        with tempfile.TemporaryDirectory(prefix="presspool-base-") as folder:
            for name in self.files:
                (Path(folder) / name).symlink_to((self.path / name).resolve())
            yield Path(folder)


def resolve(
    id: str,
    *,
    weights: str | None,
    tokenizer: str | None,
    manifest: str | None = None,
    fetch: bool = False,
) -> BaseModelFolder:
    """Find the base model and compare it with the pinned hashes.

    Args:
        id: folder or hub id; a name alone, and never an address, if the model was `placed`.
        weights: pinned `sha256:…` of the weights, or None to accept what is there.
        tokenizer: the same for the tokenizer.
        manifest: the same for all that is loaded.
        fetch: whether the hub may be asked for what is not here.

    Raises:
        ModelError: not found, incomplete, not the pinned one, or one that names code.
    """
    there = _PLACED.get()
    path = there[1] if there and there[0] == manifest else located(id, fetch=fetch)
    found = examine(path)
    _refuse_namesake(id, found)
    for key, pinned in (("weights", weights), ("tokenizer", tokenizer), ("manifest", manifest)):
        if pinned is not None and pinned != found.pins[key]:
            raise ModelError(
                f"model {key} are not the pinned ones",
                where=f"[model] {id}",
                expected=pinned,
                got=found.pins[key],
                advice="use the model that the contract names, or agree on a new contract",
            )
    return found


def _refuse_namesake(id: str, found: BaseModelFolder) -> None:
    """Refuse what lies in the cache under a converted model's name and is another one."""
    known = CATALOGUE.get(id)
    if known and found.path == known.place and found.manifest != known.manifest:
        raise ModelError(
            "the folder of this base model holds another one, or a damaged one",
            where=str(found.path),
            expected=known.manifest,
            got=found.manifest,
            advice=known.advice,
        )


@contextmanager
def placed(path: Path, *, manifest: str) -> Iterator[None]:
    """Find the model of a manifest in this folder while the block runs, whatever it is called.

    Raises:
        ModelError: the folder holds another one, or none.
    """
    got = examine(path).manifest
    if got != manifest:
        raise ModelError(
            "the folder holds another base model than the pinned one",
            where=str(path),
            expected=manifest,
            got=got,
            advice="name the right folder, or pin this one: presspool outlet policy pin FOLDER",
        )
    token = _PLACED.set((manifest, path))
    try:
        yield
    finally:
        _PLACED.reset(token)


def examine(path: Path) -> BaseModelFolder:
    """Hash what would be loaded from a folder.

    Raises:
        ModelError: it lacks weights, tokenizer or configuration, or names code.
    """
    files = {file.name: file_sha256(file) for file in _matching(path, LOADED)}
    found = BaseModelFolder(
        path=path,
        files=files,
        weights=_digest(path, files, WEIGHT_FILES, what="weights"),
        tokenizer=_digest(path, files, TOKENIZER_FILES, FALLBACK_TOKENIZER_FILES, what="tokenizer"),
        manifest=_manifest(files),
    )
    if "config.json" not in files:
        raise _incomplete(path, "configuration", ["config.json"])
    for name in _SETTINGS:
        if name in files:
            _refuse_code(path / name)
    return found


def _refuse_code(file: Path) -> None:
    """Refuse settings that name Python files, or kernels that transformers fetches and runs."""
    named = set[str]()

    def look(settings: dict[str, Any]) -> dict[str, Any]:  # also at those of a model's parts
        named.update(key for key, value in settings.items() if _names_code(key, value))
        return settings

    try:
        if file.stat().st_size > LARGEST_SETTINGS:
            raise ValueError(f"larger than {LARGEST_SETTINGS} bytes")
        body = json.loads(file.read_text(encoding="utf-8"), object_hook=look)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError("cannot be read", where=str(file), got=str(error)) from None
    if not isinstance(body, dict) or named:
        raise ModelError(
            "a base model that brings its own code is never loaded",
            where=str(file),
            expected="an architecture that transformers has",
            got=", ".join(sorted(named)) or type(body).__name__,
            advice="use another base model; if transformers knows this one, take the key out",
        )


def _names_code(key: str, value: Any) -> bool:
    if key == "auto_map":
        return True
    return key.endswith("_implementation") and value not in (None, "eager", "sdpa")


def _digest(folder: Path, files: Mapping[str, str], *candidates: Sequence[str], what: str) -> str:
    """sha256 of the one file that matches, or the manifest of several."""
    for patterns in candidates:
        found = {file.name: files[file.name] for file in _matching(folder, patterns)}
        if found:
            return "sha256:" + next(iter(found.values())) if len(found) == 1 else _manifest(found)
    raise _incomplete(folder, what, candidates[0])


def _incomplete(folder: Path, what: str, names: Sequence[str]) -> ModelError:
    return ModelError(
        f"the model folder has no {what}",
        where=f"[model] {folder}",
        expected=" or ".join(names),
        advice="save it with save_pretrained",
    )


def _manifest(files: Mapping[str, str]) -> str:
    """sha256 of the sorted `name sha256` lines."""
    lines = "".join(f"{name} {files[name]}\n" for name in sorted(files))
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def _matching(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})
