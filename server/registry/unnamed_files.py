"""Files of a registry that its log does not name: what an `add` that was broken off has left.

Invariants:
    * What an entry in the log needs, or its gate's report, is never among them, and nothing that a
      registry does not write.
    * They are removed while nobody adds: both hold the lock beside the keys. Who has copies of the
      keys on several machines must see to that.
    * Whatever ends a removal leaves fewer of them, and the registry as it was.

Example: `remove_unnamed("/srv/registry", keys)` names what it has removed.
"""

from __future__ import annotations

import re

from presspool.server.registry.adapter_registry import AdapterRegistry
from presspool.server.registry.registry_entry import blob_file, entry_file, signature_file
from presspool.server.registry.registry_keys import RegistryKeys

_WRITTEN = re.compile(r"blobs/[0-9a-f]{64}|(entries|signatures)/[0-9a-f]{64}\.json")


def unnamed(registry: AdapterRegistry) -> list[str]:
    """Names of such files; raises as `AdapterRegistry.entry`."""
    named, store = set[str](), registry.store
    for one in registry.shelves.entries.values():
        entry = registry.entry(one.entry)
        named |= {entry_file(one.entry), signature_file(one.entry)}
        named |= {blob_file(file.sha256) for file in entry.files.values()}
        named |= {blob_file(record.gate) for record in one.records if record.gate}
    folders = ("entries", "signatures", "blobs")
    found = [f"{folder}/{name}" for folder in folders for name in store.names(folder)]
    return [name for name in found if _WRITTEN.fullmatch(name) and name not in named]


def remove_unnamed(registry: AdapterRegistry, keys: RegistryKeys) -> list[str]:
    """Remove them; their names.

    Raises:
        InputError, RollbackError, BusyError: as of every change.
        EvidenceError, StorageError: as `unnamed`, and where the store refuses.
    """
    with keys.held():
        now = AdapterRegistry.open(registry.store)
        now.require_mine(keys)
        found = unnamed(now)
        for name in found:
            now.store.remove(name)
    return found
