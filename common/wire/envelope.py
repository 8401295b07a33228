"""Signed headers: what the coordinator says of a task and an outlet of its update.

A header is canonical JSON (RFC 8785). Its exact bytes travel and are signed under a tag of their
own; the receiver verifies those bytes first and parses them afterwards, strictly. The body (a
message's content, `presspool.common.wire.flower.to_bytes`) is bound by its digest and length.

Invariants:
    * A header names outlet, key, run, contract, round, phase, task, base adapter, body and a nonce,
      so that no part of one exchange is of any use in another.
    * Unknown, missing and wrong-typed fields, and bytes that are not canonical, are refused.
    * A task's id is a function of run, round, phase and outlet: sending a phase again finds its
      tasks.

Versions: the fields of a version are fixed and its tag names it; version 2 brought the phase. What
was signed under another version is refused by that name ("wrong-version"), never taken for damage.
A pool changes version between rounds, its coordinator first: an outlet of the older version waits
until it is upgraded too. Tasks that were open in the older version are closed and handed out anew;
an outlet whose answer to one was already paid for misses that round, and nobody pays twice.

Example:
    >>> key = SigningKey.generate()
    >>> header = TaskHeader(
    ...     outlet="north-post", key=key_id(key.public), run="r1", contract="sha256:" + "0" * 64,
    ...     round=1, phase=1, task=task_id("r1", 1, 1, "north-post"), base="sha256:" + "1" * 64,
    ...     body=body_digest(b"..."), bytes=3, nonce=new_nonce(), allowance=1027)
    >>> open_task(sign_task(header, key), key.public) == header
    True
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import asdict, dataclass, fields
from typing import TypeVar

import rfc8785

from presspool.common.base.errors import EvidenceError
from presspool.common.pki.keys import SigningKey, key_id, verify
from presspool.common.trust.trust_model import MOST_PHASES
from presspool.common.wire.update import FAILURES

VERSION = 2
TASK_TAG, UPDATE_TAG = f"presspool/task/v{VERSION}", f"presspool/update/v{VERSION}"
_MOST_VERSIONS = 9  # that a signature is tried with, to say what is wrong with it
HEADER_BYTES = 4096
CHUNK_BYTES = 2**20
EXTRA_BYTES = 8192  # what an update may be larger than its task: words about masks, at 50 outlets
MOST_PUT_OFF = 64  # tasks that an outlet names as put off when it asks for the next
_MOST_BYTES = 2**31 - 1  # protobuf's own limit of a body

# The only words that a call is refused with; texts stay where they arose.
CALL_REFUSALS = (
    "not-a-member",
    "revoked",
    "malformed",
    "bad-signature",
    "wrong-outlet",
    "wrong-version",
    "wrong-run",
    "wrong-contract",
    "wrong-round",
    "wrong-phase",
    "wrong-base",
    "wrong-nonce",
    "too-large",
    "truncated",
    "wrong-digest",
    "duplicate",
    "replayed",
    "late",
    "too-many-streams",
    "too-fast",
    "unavailable",
)

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_PATTERNS = {
    "outlet": _NAME,
    "key": re.compile(r"[0-9a-f]{16}"),
    "run": _RUN,
    "contract": _SHA256,
    "task": re.compile(r"[0-9a-f]{32}"),
    "base": _SHA256,
    "body": _SHA256,
    "nonce": re.compile(r"[0-9a-f]{32}"),
    "root": re.compile(r"[0-9a-f]{64}"),
}
_RANGES = {
    "round": (1, 10_000),
    "phase": (1, MOST_PHASES),
    "bytes": (0, _MOST_BYTES),
    "allowance": (0, _MOST_BYTES),
    "reserve": (0, 2**53 - 1),  # the largest that RFC 8785 has
}


@dataclass(frozen=True, kw_only=True)
class _Header:
    """What both headers say.

    Attributes:
        outlet: who is asked, or answers.
        key: `key_id` of the key that signs.
        run: the run's id at the coordinator.
        contract: digest of the run's contract.
        round: from 1.
        phase: of the round, from 1.
        task: `task_id` of run, round, phase and outlet.
        base: digest of the adapter that training starts from.
        body: digest of the body.
        bytes: length of the body.
        nonce: the coordinator's, drawn for this task; the update repeats it.
    """

    outlet: str
    key: str
    run: str
    contract: str
    round: int
    phase: int
    task: str
    base: str
    body: str
    bytes: int
    nonce: str

    def __post_init__(self) -> None:
        for field in fields(self):
            if not _valid(field.name, getattr(self, field.name)):
                raise EvidenceError("not a valid value", where=f"header: {field.name}")
        if self.task != task_id(self.run, self.round, self.phase, self.outlet):
            raise EvidenceError(
                "not the task of this run, round, phase and outlet", where="header: task"
            )

    @property
    def place(self) -> tuple[int, int]:
        """Round and phase: later tasks of a run have a greater one."""
        return self.round, self.phase


@dataclass(frozen=True, kw_only=True)
class TaskHeader(_Header):
    """What the coordinator signs of one outlet's work in one phase.

    Attributes:
        allowance: most bytes that the update's body may have.
    """

    allowance: int


@dataclass(frozen=True, kw_only=True)
class UpdateHeader(_Header):
    """What an outlet signs of its answer to one task.

    Attributes:
        reserve: index of the run's reservation in the outlet's ledger.
        root: the ledger's root that includes it, in hexadecimal.
        failure: a number of `presspool.common.wire.update.FAILURES` instead of a body, or None.
    """

    reserve: int
    root: str
    failure: int | None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.failure is None) != (self.bytes > 0):
            raise EvidenceError("either a body or a failure", where="header: failure")


H = TypeVar("H", bound=_Header)


@dataclass(frozen=True)
class Signed:
    """A header as it travels.

    Attributes:
        body: canonical JSON, at most `HEADER_BYTES`.
        signature: over tag and body.
    """

    body: bytes
    signature: bytes


def task_id(run: str, round: int, phase: int, outlet: str) -> str:
    """The id of an outlet's task, in 32 hexadecimal digits."""
    named = f"presspool/task-id/v{VERSION}\0{run}\0{round}\0{phase}\0{outlet}"
    return hashlib.sha256(named.encode()).hexdigest()[:32]


def body_digest(body: bytes) -> str:
    """`sha256:` and the hash of a body."""
    return "sha256:" + hashlib.sha256(body).hexdigest()


def new_nonce() -> str:
    """128 random bits in hexadecimal."""
    return secrets.token_hex(16)


def sign_task(header: TaskHeader, key: SigningKey) -> Signed:
    """The task's header as it travels."""
    return _sign(TASK_TAG, header, key)


def open_task(signed: Signed, public: bytes) -> TaskHeader:
    """The header that the coordinator's contract key signed.

    Raises:
        EvidenceError: it did not, or it is no task's header.
    """
    return _open(TASK_TAG, TaskHeader, signed, public)


def sign_update(header: UpdateHeader, key: SigningKey) -> Signed:
    """The update's header as it travels."""
    return _sign(UPDATE_TAG, header, key)


def open_update(signed: Signed, public: bytes) -> UpdateHeader:
    """The header that an outlet's update key signed.

    Raises:
        EvidenceError: it did not, or it is no update's header.
    """
    return _open(UPDATE_TAG, UpdateHeader, signed, public)


def read_header(kind: type[H], body: bytes) -> H:
    """A header whose signature was verified before, when it was stored.

    Raises:
        EvidenceError: not exactly the fields of `kind`.
    """
    try:
        found = json.loads(body)
        exact = isinstance(found, dict) and rfc8785.dumps(found) == body
    except (ValueError, RecursionError):
        exact = False
    if not exact or set(found) != {field.name for field in fields(kind)}:
        raise EvidenceError("not a header", where="header", expected=kind.__name__)
    return kind(**found)


def is_task_of_before_phases(body: bytes) -> bool:
    """Whether a stored header is a task's of version 1, which lacks nothing but the phase."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return False
    older = {field.name for field in fields(TaskHeader)} - {"phase"}
    return isinstance(found, dict) and set(found) == older


def _sign(tag: str, header: _Header, key: SigningKey) -> Signed:
    body = rfc8785.dumps(asdict(header))
    return Signed(body, key.sign(tag, body))


def _open(tag: str, kind: type[H], signed: Signed, public: bytes) -> H:
    if len(signed.body) > HEADER_BYTES:
        raise EvidenceError("too long", where="header", expected=f"at most {HEADER_BYTES} bytes")
    try:
        verify(public, tag, signed.body, signed.signature)
    except EvidenceError:
        _refuse_version(tag, signed, public)
        raise
    header = read_header(kind, signed.body)
    if header.key != key_id(public):
        raise EvidenceError("names another key than signed it", where="header: key")
    return header


def _refuse_version(tag: str, signed: Signed, public: bytes) -> None:
    """Raise if what does not bear our tag is rightly signed under that of another version."""
    for version in set(range(1, _MOST_VERSIONS + 1)) - {VERSION}:
        try:
            verify(public, f"{tag.rpartition('v')[0]}v{version}", signed.body, signed.signature)
        except EvidenceError:
            continue
        raise EvidenceError(
            "of another version of PressPool",
            where="header: version",
            expected=f"version {VERSION}",
            got=f"version {version}",
            advice="upgrade the older side; a pool's coordinator comes first",
        )


def _valid(name: str, value: object) -> bool:
    if name in _PATTERNS:
        return isinstance(value, str) and _PATTERNS[name].fullmatch(value) is not None
    if name == "failure":
        return value is None or (type(value) is int and value in FAILURES)
    low, high = _RANGES[name]
    return type(value) is int and low <= value <= high
