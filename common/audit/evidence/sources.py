"""Evidence from files: ledger exports, ledgers, outlets' homes and run folders.

What a path is, is seen from what is there: a folder with `result.json` is a run, one with
`outlet.toml` an outlet's home, a SQLite file a ledger, and anything else an export.

Invariants:
    * An export is verified whole before anything of it is shown; a ledger's own file is replayed
      by the same rules and its stored tree compared.
    * Nothing is written, apart from what SQLite keeps beside an open ledger.
    * One ledger is read once: two files of one origin are refused, because their sum would lie.

Example:
    >>> read([Path("/no/such/file")])
    Traceback (most recent call last):
    ...
    presspool.common.base.errors.InputError: /no/such/file: cannot read:
      got      No such file or directory
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from presspool.common.audit.evidence import audit_console, projection
from presspool.common.audit.evidence.evidence import Evidence, RunReading
from presspool.common.audit.evidence.ledger_view import HeadReading, OutletReading
from presspool.common.base.errors import EvidenceError, FolderError, InputError
from presspool.common.base.files import file_sha256, read_file
from presspool.common.ledger import entries, verification
from presspool.common.ledger.history import History
from presspool.common.runs.result_file import RESULT_FILE, read_result
from presspool.common.runs.run_folder import RunFolder
from presspool.common.transparency import notes
from presspool.common.transparency.checkpoints import Checkpoint
from presspool.common.wire.approval import LONGEST, Approval

WEIGHTS = "adapter_model.safetensors"
OUTLET, LEDGER, POLICY, APPROVALS = "outlet.toml", "ledger.db", "policy.toml", "approvals"
_SQLITE = b"SQLite format 3\0"
_APPROVED = re.compile(r"[0-9a-f]{64}\.approved")


@dataclass(frozen=True, kw_only=True)
class Brought:
    """What the auditor has from elsewhere than the files, for any of their ledgers.

    Attributes:
        keys: first keys of ledgers.
        heads: heads that others kept.
    """

    keys: tuple[notes.VerifierKey, ...] = ()
    heads: tuple[Checkpoint, ...] = ()

    @classmethod
    def of(cls, keys: Sequence[str] | None, heads: Sequence[Path] | None) -> Brought:
        """The values of `--key` and `--head`; raises `InputError` for what is none, or two keys."""
        first = dict[str, notes.VerifierKey]()
        for key in map(audit_console.ledger_key, keys or []):
            if first.setdefault(key.name, key) != key:  # only one of them would be compared
                raise InputError("two first keys of one ledger", where="--key", got=key.text)
        kept = tuple(map(audit_console.kept_head, heads or []))
        return cls(keys=tuple(first.values()), heads=kept)

    @property
    def origins(self) -> list[str]:
        """The ledgers that they are of."""
        return [key.name for key in self.keys] + [head.origin for head in self.heads]


NOTHING = Brought()


def read(
    paths: Sequence[Path],
    *,
    brought: Brought = NOTHING,
    moved: audit_console.Moved = lambda _done, _total: None,
) -> Evidence:
    """Read everything that these paths name.

    Args:
        paths: exports, ledgers, outlets' homes and run folders, in any order.
        brought: keys and heads that the auditor has from elsewhere; each is held against the
            export of the ledger whose name it carries.
        moved: called with the bytes read and the total, file after file.

    Raises:
        InputError: a path that is none of these, one ledger or run twice, or a key or head of no
            export here: what was brought is compared, never ignored.
        EvidenceError: an export that does not hold, or a damaged ledger.
    """
    outlets: dict[str, OutletReading] = {}
    runs: dict[str, RunReading] = {}
    for path in paths:
        if path.is_dir() and (path / RESULT_FILE).exists():
            run = read_run(path)
            _require_once("run", path, run.contract.digest, runs)
            runs[run.contract.digest] = run
        else:
            outlet = read_outlet(path, brought=brought, moved=moved)
            _require_once("ledger", path, outlet.origin, outlets)
            outlets[outlet.origin] = outlet
    require_used(brought, outlets)
    return Evidence(
        outlets=tuple(outlets[name] for name in sorted(outlets)),
        runs=tuple(sorted(runs.values(), key=lambda run: (run.contract.name, run.contract.digest))),
    )


def read_outlet(
    path: Path,
    *,
    brought: Brought = NOTHING,
    moved: audit_console.Moved = lambda _done, _total: None,
) -> OutletReading:
    """One outlet's ledger: an export, a ledger's file, or a home.

    Raises:
        InputError: nothing of these.
        EvidenceError: it does not hold.
    """
    if path.is_dir():
        return _home(path)
    if not is_ledger(path):
        return _export(path, brought, moved)
    shown = f"{path.resolve().parent.name}/{path.name}"
    return _ledger(path, shown, approvals_beside(path))


def read_run(path: Path) -> RunReading:
    """A run folder.

    Raises:
        FolderError: not a run folder, or one whose files are of different runs.
        InputError: a result that is not valid.
    """
    folder = RunFolder(path)
    contract, result = folder.read_contract(), read_result(path)
    if result.contract_digest != contract.digest:
        raise FolderError(
            "two runs in one folder",
            where=str(path),
            expected=contract.digest,
            got=result.contract_digest,
        )
    trust = contract.federation.trust
    if result.trust != trust or (result.pooled is None) != (contract.pooled is None):
        raise FolderError(
            "a result of another trust model than the contract's",
            where=str(path),
            expected=trust,
            got=result.trust if result.pooled is None else "figures of shared noise",
        )
    return RunReading(
        path=path,
        contract=contract,
        result=result,
        adapter=_adapter(folder.adapter / WEIGHTS),
        deterministic=folder.read_setup().deterministic is not None,
    )


def _adapter(path: Path) -> str | None:
    try:
        return file_sha256(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError("cannot read", where=str(path), got=error.strerror) from None


def _export(path: Path, brought: Brought, moved: audit_console.Moved) -> OutletReading:
    history, origin = History(), _origin(path)
    heads = [head for head in brought.heads if head.origin == origin]
    key = next((key for key in brought.keys if key.name == origin), None)
    with audit_console.reading(path, moved) as stream:
        try:
            found = verification.verify(stream, key=key, heads=heads, book=history)
        except EvidenceError as error:  # of which of the files that were given
            parts = error.parts | {"where": ", ".join(filter(None, (path.name, error.where)))}
            raise type(error)(error.what, entry=error.entry, **parts) from None
    head = HeadReading(
        size=found.head.size,
        root=found.head.root.hex(),
        cosigned=dict(found.cosigned),
        signed_heads=found.checkpoints,
        key_known=found.key_known,
        heads_known=found.heads_known,
    )
    return projection.reading(history, source=path.name, verified=True, head=head)


def _origin(path: Path) -> str:
    """Which ledger an export says it is; checked with everything else afterwards."""
    with audit_console.reading(path) as stream:
        line = stream.readline(verification.LONGEST_LINE)
    try:
        return str(json.loads(line)["origin"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _ledger(path: Path, source: str, approvals: Sequence[Approval]) -> OutletReading:
    history = History()
    with audit_console.opened(path) as ledger:
        size = ledger.refresh().size
        for body in ledger.bodies(0, size):
            history.apply(entries.parse_entry(body))
        note, count = ledger.newest_checkpoint()
    return projection.reading(
        history,
        source=source,
        verified=False,
        head=own_head(note, count),
        approvals=approvals,
    )


def own_head(newest: notes.Note | None, count: int) -> HeadReading:
    """The head that a ledger's own file shows: the newest of so many that it signed."""
    if newest is None:
        return projection.UNSIGNED
    head = Checkpoint.parse(newest.text)
    return HeadReading(size=head.size, root=head.root.hex(), cosigned={}, signed_heads=count)


def is_ledger(path: Path) -> bool:
    """Whether a file is a ledger's own and not an export; raises `InputError` if not readable."""
    with audit_console.reading(path) as stream:
        return stream.read(len(_SQLITE)) == _SQLITE


def approvals_beside(path: Path) -> list[Approval]:
    """What the people approved in whose home this ledger or policy lies."""
    return _approvals(path.parent / APPROVALS)


def ledger_in(home: Path) -> tuple[Path, list[Approval]]:
    """Where the ledger of an outlet's home lies, and the home's approvals.

    Raises:
        InputError: not an outlet's home.
    """
    file = home / OUTLET
    try:
        body = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            "neither a run folder nor an outlet's home",
            where=str(home),
            got=str(error),
            expected=f"a folder with {RESULT_FILE} or {OUTLET}, or a ledger's export",
        ) from None
    ledger, policy = body.get("ledger", LEDGER), body.get("policy", POLICY)
    if not isinstance(ledger, str) or not isinstance(policy, str):
        raise InputError("ledger and policy", where=str(file), expected="names of files")
    return home / ledger, approvals_beside(home / policy)


def _home(path: Path) -> OutletReading:
    file, approvals = ledger_in(path)
    return _ledger(file, f"{path.resolve().name}/{file.name}", approvals)


def _approvals(folder: Path) -> list[Approval]:
    if not folder.is_dir():
        return []
    files = sorted(file for file in folder.iterdir() if _APPROVED.fullmatch(file.name))
    return [_approval(file) for file in files]


def _approval(file: Path) -> Approval:
    return Approval.decode(f"sha256:{file.stem}", read_file(file, most=LONGEST + 1))


def _require_once(what: str, path: Path, name: str, known: Mapping[str, object]) -> None:
    if name in known:
        raise InputError(
            f"one {what} twice",
            where=str(path),
            expected=f"each {what} once",
            got=name,
            advice="leave one of them out",
        )


def require_used(brought: Brought, outlets: Mapping[str, OutletReading]) -> None:
    """Raise `InputError` where a key or head that was brought belongs to no export here."""
    verified = sorted(outlet.origin for outlet in outlets.values() if outlet.verified)
    strange = [origin for origin in brought.origins if origin not in verified]
    if strange:
        raise InputError(
            "a key or a head of another ledger",
            where="--key, --head",
            got=strange[0],
            expected=", ".join(verified) or "an export to compare it with",
        )
