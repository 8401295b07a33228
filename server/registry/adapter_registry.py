"""A registry: adapters with their papers in a store, and a log of which of them is in use.

::

    registry.json      its name and public keys
    blobs/DIGEST       the files' contents
    entries/ID.json    what an adapter is (`registry_entry`)
    signatures/ID.json over the entry's files, in the OpenSSF Model Signing format
    log/N.proof        who moved what, when and why (`stage_log`)

Invariants:
    * What is signed is what was checked: the papers are read again where they are laid out.
    * The record in the log is written last: whatever is killed before it leaves files that nothing
      names, and the registry as it was.
    * A folder that `checkout` gave holds exactly the entry's files, each with its digest; what
      leaves the registry (`registry_verdict.hand_out`) has its overrides beside the card as well.

Example: `AdapterRegistry.open("s3://newsroom/adapters").shelves.find("topics@2").stage`.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal, Self

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import Field, ValidationError

from presspool.common.base.errors import (
    EvidenceError,
    FolderError,
    InputError,
    RollbackError,
    asked_wrongly,
)
from presspool.common.base.files import replace_file
from presspool.common.base.numbers import moment
from presspool.common.base.validation import StrictDocument, validate
from presspool.common.contract.contract_schema import Name
from presspool.common.transparency import notes
from presspool.server.registry import model_signature
from presspool.server.registry.gate_report import read_gate_report
from presspool.server.registry.intake import FinishedAdapter, read_papers
from presspool.server.registry.object_store import ObjectStore
from presspool.server.registry.registry_entry import (
    ENTRY,
    LARGEST_ENTRY,
    RegistryEntry,
    blob_file,
    entry_file,
    hexadecimal,
    parse_entry,
    signature_file,
)
from presspool.server.registry.registry_keys import RegistryKeys
from presspool.server.registry.stage_log import StageLog, moved_meanwhile
from presspool.server.registry.stage_records import Action, Shelved, Shelves, StageRecord

ABOUT, LARGEST_ABOUT = "registry.json", 1 << 14


class AboutRegistry(StrictDocument):
    """What `registry.json` says.

    Attributes:
        signing: public half of the key that signs entries, PEM.
        log: verifier key of the log.
    """

    format: Literal["presspool-registry-about/1"] = "presspool-registry-about/1"
    name: Name
    signing: Annotated[str, Field(max_length=1000)]
    log: Annotated[str, Field(max_length=600)]


@dataclass(frozen=True, kw_only=True)
class Move:
    """What a person wants to be written down.

    Attributes:
        by: who.
        reason: why.
        gate: the release gate's report, for a way into production.
        without_gate: nobody asked it, and `by` answers for that.
        inputs: `sha256:` of the policy and its files, by which the report must have judged; None
            for any.
    """

    by: str
    reason: str
    gate: bytes | None = None
    without_gate: bool = False
    inputs: Mapping[str, str] | None = None


class AdapterRegistry:
    """An open registry, as it was when it was opened.

    Args:
        store: where it is.
        about: its `registry.json`.
        log: its log, checked.
    """

    def __init__(self, store: ObjectStore, about: AboutRegistry, log: StageLog) -> None:
        self.store, self.about, self.log = store, about, log

    @classmethod
    def create(cls, store: ObjectStore, keys: RegistryKeys, *, name: str) -> Self:
        """A new, empty registry.

        Raises:
            FolderError: there is one already.
            StorageError: the store refuses, or cannot keep two writers apart.
        """
        about = AboutRegistry(name=name, signing=keys.public, log=keys.log.key.text)
        store.prove()
        if not store.create(ABOUT, about.model_dump_json(indent=1).encode() + b"\n"):
            raise FolderError(
                "there is a registry already", where=store.url, advice="choose another place"
            )
        return cls.open(store)

    @classmethod
    def open(cls, store: ObjectStore) -> Self:
        """Read a registry and check its log.

        Raises:
            FolderError: there is none.
            EvidenceError: it is damaged; nothing was loaded.
            StorageError: the store cannot be reached.
        """
        if not store.has(ABOUT):
            raise FolderError(
                "no registry here",
                where=store.url,
                expected=ABOUT,
                advice="presspool adapters init makes one",
            )
        try:
            about = AboutRegistry.model_validate_json(store.read(ABOUT, most=LARGEST_ABOUT))
            load_pem_public_key(about.signing.encode())
        except (ValidationError, ValueError):
            raise EvidenceError("the registry is damaged", where=f"{store.url} {ABOUT}") from None
        key = notes.parse_key(about.log)
        if key.name.split("/")[1:2] != [about.name]:
            raise EvidenceError(
                "a registry that calls itself by another's name",
                where=f"{store.url} {ABOUT}",
                expected=f"the name in its log's key, {key.name}",
                got=about.name,
            )
        return cls(store, about, StageLog.read(store, key))

    @property
    def shelves(self) -> Shelves:
        """Who is at which stage."""
        return self.log.shelves

    def entry(self, identity: str) -> RegistryEntry:
        """An entry by its id; raises `EvidenceError` where it is damaged."""
        where = entry_file(identity)
        return parse_entry(
            self.store.read_digest(where, identity, most=LARGEST_ENTRY),
            where=f"{self.store.url} {where}",
        )

    def checkout(self, identity: str, parent: Path) -> Path:
        """The entry as a folder below `parent`, for `presspool predict` and for serving.

        Raises:
            EvidenceError: something of it is damaged; no folder is there then.
            StorageError: store or disk refuse.
        """
        entry, path = self.entry(identity), parent / hexadecimal(identity)
        draft = parent / f".{path.name}.tmp"
        shutil.rmtree(draft, ignore_errors=True)
        (draft / "adapter").mkdir(parents=True)
        try:
            for name, file in entry.files.items():
                content = self.store.read_digest(blob_file(file.sha256), file.sha256)
                replace_file(draft / name, content)
            replace_file(draft / ENTRY, entry.canonical())
            shutil.rmtree(path, ignore_errors=True)
            draft.rename(path)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return path

    def add(
        self,
        brought: FinishedAdapter,
        keys: RegistryKeys,
        move: Move,
        *,
        name: str | None = None,
        advance: Callable[[], None] = lambda: None,
    ) -> Shelved:
        """Store a run's adapter as a candidate.

        Args:
            brought: the run, checked.
            keys: the registry's.
            move: who brings it, and why.
            name: what to call it; None for the contract's name.
            advance: called after each file.

        Raises:
            InputError: it is here already, or its name is another task's or language's.
            BusyError: somebody else wrote to the log at this moment.
            FolderError, CardError: the files changed while they were read.
            EvidenceError: somebody else's signature is where this entry's belongs.
            StorageError, RollbackError: see `_write`.
        """
        entry, called = brought.entry, name or brought.contract.name
        record = self._record(
            "add",
            entry.id,
            move,
            name=called,
            version=self.shelves.versions(called) + 1,
            task=entry.task,
            language=entry.language,
        )
        if entry.id in self.shelves.entries:
            title = self.shelves.entries[entry.id].title
            raise InputError("this adapter is here already", where=str(self.store.url), got=title)
        if (slot := self.shelves.slot(called)) not in (None, (entry.task, entry.language)):
            raise InputError(
                "a name that stands for another task or language",
                where="--name",
                expected=f"{' '.join(slot)}, or another name",
                got=f"{called} for {entry.task} {entry.language}",
            )
        self.require_mine(keys)
        with keys.held():
            for path, content in brought.files.items():
                self.store.create(blob_file(entry.files[path].sha256), content)
                advance()
            self.store.create(entry_file(entry.id), entry.canonical())
            self._sign(entry.id, keys)
            return self._write(record, keys)

    def _sign(self, identity: str, keys: RegistryKeys) -> None:
        """Put an entry's signature beside it; one that is there already must hold."""
        name = signature_file(identity)
        with TemporaryDirectory() as place:
            folder = self.checkout(identity, Path(place))
            read_papers(folder)
            if not self.store.create(name, model_signature.sign(folder, key=keys.signing)):
                there = self.store.read(name, most=model_signature.LARGEST)
                model_signature.verify(folder, there, public=keys.public)

    def move(self, action: Action, one: Shelved, keys: RegistryKeys, move: Move) -> Shelved:
        """Promote an entry, roll back to it, or retire it.

        Raises:
            InputError: not a move that can be made, or one into production without a word of the
                gate.
            BusyError: somebody else wrote to the log at this moment.
            StorageError, RollbackError: see `_write`.
        """
        self.require_mine(keys)
        there = self.shelves.in_production(one.slot)
        leads = action == "rollback" or (action == "promote" and one.stage == "staging")
        said: dict[str, Any] = {"replaces": there.entry if leads and there else None}
        if move.without_gate:
            said["without_gate"] = True
        with keys.held():
            if move.gate is not None:
                beside = there if there is not one else None
                in_use = [beside.title] if beside else []
                said["gate"] = read_gate_report(
                    move.gate, entry=one.entry, inputs=move.inputs, in_use=in_use
                )
            record = self._record(action, one.entry, move, **said)
            with asked_wrongly(EvidenceError):  # before anything is stored
                copy.deepcopy(self.shelves).take(record)
            if move.gate is not None:
                self.store.create(blob_file(said["gate"]), move.gate)
            return self._write(record, keys)

    def _record(self, action: Action, entry: str, move: Move, **more: Any) -> StageRecord:
        body = {
            "number": self.shelves.size,
            "time": moment(),
            "action": action,
            "entry": entry,
            "by": move.by,
            "reason": move.reason,
            **more,
        }
        return validate(StageRecord, body, where="the move", fault=InputError)

    def require_mine(self, keys: RegistryKeys) -> None:
        """See that these keys may write what comes next.

        Raises:
            InputError: another registry's keys.
            RollbackError: the log has lost its end.
            BusyError: it has become longer since it was opened.
        """
        if (keys.public, keys.log.key.text) != (self.about.signing, self.about.log):
            raise InputError(
                "the keys of another registry",
                where=str(keys.path),
                expected=self.about.log,
                got=keys.log.key.text,
            )
        try:
            keys.check(self.log)
        except RollbackError:
            keys.check(StageLog.read(self.store, self.log.key))
            raise moved_meanwhile(self.store.url) from None

    def _write(self, record: StageRecord, keys: RegistryKeys) -> Shelved:
        """Append a record; what it moved."""
        with asked_wrongly(EvidenceError):
            self.log = self.log.append(record, keys.log)
        keys.remember(self.log)
        return self.shelves.entries[record.entry]


def open_registry(url: str) -> AdapterRegistry:
    """The registry at a path or URL; raises as `AdapterRegistry.open`."""
    return AdapterRegistry.open(ObjectStore(url))
