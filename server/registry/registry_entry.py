"""One entry of the registry: what an adapter is, and the digests of all that belongs to it.

An entry says nothing of names and stages, which change; those stand in the log (`stage_records`).

Invariants:
    * An entry's canonical bytes have one spelling (RFC 8785), and their sha256 is its id.
    * The same run with the same card, brought twice, is the same entry.
    * Paths lead nowhere but below the entry's own folder.

Example: `parse_entry(store.read_digest(entry_file(id), id), where=id).files["contract.json"]`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from presspool.common.base.validation import CanonicalDocument, StrictDocument
from presspool.common.contract.contract_schema import Name, Sha256
from presspool.server.registry.object_store import sha256

LARGEST_ENTRY, MOST_FILES = 1 << 20, 64
CONTRACT, RESULT, LINEAGE, LOG_PROOF = "contract.json", "result.json", "lineage.json", "log.proof"
ADAPTER, ENTRY = "adapter", "entry.json"
Language = Annotated[str, Field(pattern=r"^[a-z]{2}\z")]
_Path = Annotated[
    str, Field(pattern=r"^(adapter/)?[A-Za-z0-9][A-Za-z0-9._-]{0,63}\z", max_length=80)
]


class StoredFile(StrictDocument):
    """One file of an entry, and where its content lies: by its digest."""

    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]


def _complete(files: dict[str, StoredFile]) -> dict[str, StoredFile]:
    missing = {CONTRACT, RESULT, LINEAGE} - files.keys()
    if missing or ENTRY in files:
        raise ValueError(f"with {', '.join(sorted(missing)) or 'no file of the entry itself'}")
    return files


class RegistryEntry(CanonicalDocument):
    """An adapter with its papers.

    Attributes:
        task: what it is used for; the contract's kind of task, or a word of the operator's.
        language: of what it reads and writes, ISO 639-1.
        adapter: of the weights, as card and statement name them.
        contract: digest of the run's.
        base_model: of the base model's weights.
        files: path in the entry's folder to content.
    """

    format: Literal["presspool-registry-entry/1"] = "presspool-registry-entry/1"
    task: Name
    language: Language
    adapter: Sha256
    contract: Sha256
    base_model: Sha256
    files: Annotated[
        dict[_Path, StoredFile], Field(max_length=MOST_FILES), AfterValidator(_complete)
    ]

    @property
    def id(self) -> str:
        """`sha256:` of the bytes."""
        return sha256(self.canonical())


def parse_entry(data: bytes, *, where: str) -> RegistryEntry:
    """Read an entry; raises `EvidenceError` for none in its one spelling."""
    what = "not an entry of a registry"
    return RegistryEntry.parse(data, what=what, most=LARGEST_ENTRY, where=where)


def hexadecimal(digest: str) -> str:
    """The part of a digest that names a file."""
    return digest.removeprefix("sha256:")


def entry_file(identity: str) -> str:
    """Where an entry lies in the store."""
    return f"entries/{hexadecimal(identity)}.json"


def signature_file(identity: str) -> str:
    """Where an entry's signature lies."""
    return f"signatures/{hexadecimal(identity)}.json"


def blob_file(digest: str) -> str:
    """Where content lies."""
    return f"blobs/{hexadecimal(digest)}"
