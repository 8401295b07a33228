"""Where the files of a base model may come from; nothing here says whether they are the right ones.

Looked for in this order: a folder of that name; for a name of the catalogue the folder that an
installed package carries or was converted to; the local hub cache; and the hub only where the
caller allows it, which is a person who typed the name, or an outlet's policy, never a contract that
came over the wire. A converted model's name is no hub id, so the hub is not asked for it.

Example: `located("sentence-transformers/all-MiniLM-L6-v2", fetch=False)`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from presspool.common.base.errors import ModelError
from presspool.common.models.catalogue import CATALOGUE, suggestion

_PATTERNS = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]


def located(id: str, *, fetch: bool) -> Path:
    """The folder that a person named, or what is installed under the name.

    Args:
        id: folder or hub id.
        fetch: whether the hub may be asked for what is not here.

    Raises:
        ModelError: it is not to be had.
    """
    return Path(id) if Path(id).is_dir() else installed(id, fetch=fetch)


def installed(id: str, *, fetch: bool, largest: int | None = None) -> Path:
    """What a package, the hub cache, or if allowed the hub has under a hub id.

    Args:
        id: hub id; folders of that name are not looked at.
        fetch: whether the hub may be asked.
        largest: bytes that may be fetched; asked for before the first of them is.

    Raises:
        ModelError: it is not to be had, or is larger.
    """
    known = CATALOGUE.get(id)
    if known and (folder := known.folder):
        return folder
    if known and known.gguf:
        raise _nowhere(id, str(known.place), "no such folder")
    if fetch and largest is not None:
        _check_size(id, largest)
    return Path(_snapshot(id, local_files_only=not fetch))


def _check_size(id: str, largest: int) -> None:
    """Ask the hub how large the files are, before any of them is fetched."""
    files = _snapshot(id, local_files_only=False, dry_run=True)
    sizes = [file.file_size for file in files if file.will_download]
    if None in sizes or sum(sizes) > largest:
        raise ModelError(
            "the base model is larger than the policy lets this outlet fetch",
            where=f"policy.toml [[base_models]] {id}",
            expected=f"max_bytes = {largest}",
            got="a size that the hub does not say" if None in sizes else f"{sum(sizes)} bytes",
            advice="fetch it yourself and name its folder, or raise max_bytes",
        )


def _snapshot(id: str, **options: Any) -> Any:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return snapshot_download(id, allow_patterns=_PATTERNS, **options)
    except Exception as error:  # noqa: BLE001 - the hub client raises dozens of kinds
        among = "a folder, a name of `presspool models list`, or a hub id that is cached"
        if not options["local_files_only"]:
            among += " or can be downloaded"
        known = isinstance(error, LocalEntryNotFoundError | HFValidationError)
        raise _nowhere(id, among, "none" if known else type(error).__name__) from None


def _nowhere(id: str, expected: str, got: str) -> ModelError:
    known = CATALOGUE.get(id)
    return ModelError(
        "no base model here",
        where=f"[model] {id}",
        expected=expected,
        got=got,
        advice=known.advice
        if known
        else suggestion(id, alike=0.8)
        or "check the spelling, or give the folder of a model saved with save_pretrained",
    )
