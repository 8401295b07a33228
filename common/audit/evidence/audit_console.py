"""What an audit reads and shows: files and keys in, sentences, tables and JSON out.

Invariants:
    * A file that cannot be read and a malformed option are an `InputError`; what a file says
      wrongly is an `EvidenceError`.
    * What was not compared with anything from elsewhere is said, every time.

Example:
    >>> known("no key", [])
    Traceback (most recent call last):
    ...
    presspool.common.base.errors.InputError: --key: not a verifier key:
      expected name+8 hex digits+base64
      got      no key
"""

from __future__ import annotations

import io
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from rich.table import Table

from presspool.common.base.console import err, progress
from presspool.common.base.errors import EvidenceError, InputError, LedgerError
from presspool.common.base.numbers import bound
from presspool.common.ledger.recompute import TOLERANCE, Recomputed, RecomputedRun
from presspool.common.ledger.store import Ledger
from presspool.common.ledger.verification import Verified
from presspool.common.pki.keys import KEY_BYTES, SigningKey
from presspool.common.transparency import contradictions, forks, notes
from presspool.common.transparency.checkpoints import Checkpoint

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LINES = 2.0
Moved = Callable[[int, int], None]
"""Called with what is done and the total."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the auditor has from elsewhere than the file.

    Attributes:
        key: the ledger's first key.
        heads: heads of the ledger that others kept.
    """

    key: notes.VerifierKey | None
    heads: tuple[Checkpoint, ...]


def known(key: str | None, heads: Sequence[Path]) -> Known:
    """Read the options `--key` and `--head`.

    Raises:
        InputError: not a key that signs ledgers, or a file that is no checkpoint.
    """
    found = ledger_key(key) if key is not None else None
    return Known(key=found, heads=tuple(kept_head(path) for path in heads))


def ledger_key(text: str) -> notes.VerifierKey:
    """A value of `--key`; raises `InputError` unless it is a key that signs ledgers."""
    found = verifier_key(text, "--key")
    if found.kind != notes.NOTE:
        raise InputError(
            "not a key that signs a ledger",
            where="--key",
            got=found.text,
            expected="the ledger's own key, not a witness's",
        )
    return found


def verifier_key(text: str, option: str) -> notes.VerifierKey:
    """Read a verifier key; raises `InputError` naming the option."""
    try:
        return notes.parse_key(text)
    except EvidenceError as error:
        raise InputError(
            "not a verifier key", where=option, expected=error.expected, got=text
        ) from None


@contextmanager
def reading(path: Path, moved: Moved = lambda _done, _total: None) -> Iterator[BinaryIO]:
    """An open file that says how much of it was read; raises `InputError` where it cannot be."""
    try:
        with _Watched(path, moved) as stream:
            yield stream
    except OSError as error:
        raise InputError("cannot read", where=str(path), got=error.strerror) from None


@contextmanager
def percents(what: str) -> Iterator[Moved]:
    """A bar in hundredths on a terminal; elsewhere a log line every few seconds."""
    with progress(what, total=100) as advance:
        shown, last = 0, time.monotonic()

        def moved(done: int, total: int) -> None:
            nonlocal shown, last
            reached = min(100, 100 * done // max(total, 1))
            if reached == shown:
                return
            for _ in range(reached - shown):
                advance()
            shown = reached
            if not err.is_terminal and time.monotonic() - last > SECONDS_BETWEEN_LINES:
                log.info("%s: %d %%", what, shown)
                last = time.monotonic()

        yield moved


def require_new(path: Path, option: str) -> None:
    """Raise `InputError` if something is at `path`, which might be the ledger itself."""
    if path.exists():
        raise InputError(
            "the file exists",
            where=option,
            expected="a new file",
            got=path,
            advice="choose another name, or delete it first",
        )


@contextmanager
def opened(path: Path) -> Iterator[Ledger]:
    """An open ledger.

    Raises:
        InputError: none there.
        EvidenceError: a damaged one.
    """
    try:
        ledger = Ledger(path)
    except LedgerError as error:
        raise InputError(
            error.what,
            where=error.where,
            expected=error.expected,
            got=error.got,
            advice="name the file of an outlet's ledger",
        ) from None
    with ledger:
        yield ledger


def signer(path: Path, ledger: Ledger) -> notes.Signer:
    """The ledger's signing key: an outlet's `log.key`, or PEM (PKCS 8, not encrypted).

    Raises:
        InputError: no such file, no such key, or not the one that signs this ledger.
    """
    seed = _seed(path)
    origin = ledger.book.opened.origin
    found = notes.Signer.load(origin, seed, kind=notes.NOTE)
    if found.key.text != ledger.book.key:
        raise InputError(
            "not the key that signs this ledger",
            where=str(path),
            expected=ledger.book.key,
            got=found.key.text,
        )
    return found


def _seed(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError("cannot read", where=str(path), got=error.strerror) from None
    if len(data.strip()) == 2 * KEY_BYTES:
        return SigningKey.read(path).secret
    try:
        private = load_pem_private_key(data, password=None)
    except (ValueError, TypeError):  # TypeError: encrypted
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise InputError(
            "signing key",
            where=str(path),
            expected="an Ed25519 private key: an outlet's log.key, or PEM (PKCS 8), not encrypted",
        )
    return private.private_bytes_raw()


def head_json(head: Checkpoint) -> dict[str, Any]:
    """A head for machines."""
    return {"origin": head.origin, "entries": head.size, "root": head.root.hex()}


def verified_json(found: Verified) -> dict[str, Any]:
    """A verified export for machines."""
    return {
        "holds": True,
        **head_json(found.head),
        "checkpoints": found.checkpoints,
        "cosigned": dict(found.cosigned),
        "key": found.book.key,
        "key_known": found.key_known,
        "heads_known": found.heads_known,
        "open_reservations": len(found.book.dangling),
    }


def show_verified(found: Verified, screen: Console) -> None:
    """A verified export for people."""
    head = found.head
    _say(
        screen,
        f"{head.origin}: {head.size} entries and "
        f"{found.checkpoints} signed head{'s' * (found.checkpoints != 1)} hold.",
    )
    _say(screen, f"Newest head: {head.size} entries, root {head.root.hex()}.")
    for witness, size in found.cosigned.items():
        _say(screen, f"Cosigned up to entry {size - 1} by {witness}.")
    if not found.cosigned:
        _say(screen, "No witness cosigned a head in this file.")
    if found.book.dangling:
        _say(screen, f"{len(found.book.dangling)} reservations are open; they count as spent.")
    _say_what_was_not_compared(found, screen)


def recomputed_json(found: Recomputed) -> dict[str, Any]:
    """A recomputed export for machines; an infinite ε is the string "inf"."""
    book = found.verified.book
    return {
        **verified_json(found.verified),
        "holds": not found.failures,
        "failures": list(found.failures),
        "sentence": found.sentence,
        "order": book.opened.order,
        "unit": book.opened.unit,
        "claim": {"epsilon": book.highest.epsilon_max, "delta": book.opened.delta},
        "spent_nats": found.spent,
        "capacity_nats": found.capacity,
        "epsilon_pld_together": _number(found.pld_together),
        "dp_accounting": found.library,
        "runs": [_run_json(run) for run in found.runs],
    }


def show_recomputed(found: Recomputed, screen: Console) -> None:
    """A recomputed export for people."""
    _say(screen, found.sentence)
    order = found.verified.book.opened.order
    if found.runs:
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for heading in (
            "entry",
            "run",
            "steps",
            "charged",
            "own",
            "library",
            "ε Rényi",
            "ε PLD",
            "stated",
        ):
            table.add_column(heading, justify="left" if heading == "run" else "right")
        for run in found.runs:
            table.add_row(*_row(run))
        screen.print(table, markup=False)
        _say(
            screen,
            f"charged: Rényi cost at order {order} in nats, by the ledger; own: by our "
            f"accountant; library: by dp_accounting {found.library}.",
        )
        _say(
            screen,
            f"ε of one run at δ = {bound(found.verified.book.opened.delta)}: by this "
            "Rényi order, by PLD, and as its contract stated it.",
        )
    if found.pld_together is not None:
        _say(
            screen,
            f"All runs together by PLD, had they been fixed beforehand: "
            f"ε = {found.pld_together:.4f}. The claim is the filter's.",
        )
    _say_what_was_not_compared(found.verified, screen)
    for failure in found.failures:
        _say(screen, f"DIFFERS: {failure}")


def require_agreement(found: Recomputed) -> None:
    """Raise `EvidenceError` if anything differs by more than the tolerance."""
    if found.failures:
        origin = found.verified.head.origin
        raise EvidenceError(
            f"{len(found.failures)} differences",
            where=origin,
            got=found.failures[0],
            expected=f"every number again to {TOLERANCE:g}",
        )


def show_exported(path: Path, head: Checkpoint, left_out: int, screen: Console) -> None:
    """What was exported, for people."""
    _say(screen, f"{path}: {head.size} entries of {head.origin}, root {head.root.hex()}.")
    if left_out:
        _say(
            screen,
            f"{left_out} later entries are not signed yet and were left out; give "
            "--signing-key to include them.",
        )


def convicted(proof: BinaryIO, log: notes.VerifierKey) -> str:
    """What a fork proof or a contradiction proves; raises `EvidenceError` where it is nothing."""
    data = proof.read(contradictions.LARGEST + 1)
    if contradictions.is_contradiction(data):
        return contradictions.verify_contradiction(data, log=log)
    one, other = forks.verify_fork(data, log=log)
    return (
        f"{one.origin} signed two different histories of {one.size} entries: root "
        f"{one.root.hex()} and root {other.root.hex()}."
    )


def show_convicted(sentence: str, screen: Console) -> None:
    """What was proven against a log, for people."""
    _say(screen, sentence)
    _say(screen, "Whoever holds its key did this; nothing that the log says can be relied on.")


class _Watched(io.BufferedReader):
    """A file that says after each line how many of its bytes were read."""

    def __init__(self, path: Path, moved: Moved) -> None:
        super().__init__(io.FileIO(path))
        self._moved, self._done, self._total = moved, 0, path.stat().st_size

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        self._done += len(line)
        self._moved(self._done, self._total)
        return line


def kept_head(path: Path) -> Checkpoint:
    """A file given to `--head`; raises `InputError` unless it is a checkpoint."""
    with reading(path) as stream:
        data = stream.read(notes.LARGEST_NOTE + 1)
    try:
        return Checkpoint.parse(notes.parse_note(data).text)
    except EvidenceError as error:
        raise InputError("not a checkpoint", where=str(path), got=error) from None


def _run_json(run: RecomputedRun) -> dict[str, Any]:
    return {
        "entry": run.seq,
        "run": run.run,
        "steps": run.steps,
        "charged_nats": run.charged,
        "renyi_nats": run.renyi,
        "renyi_nats_dp_accounting": run.renyi_library,
        "epsilon_renyi": run.epsilon_renyi,
        "epsilon_pld": _number(run.epsilon_pld),
        "stated": _number(run.stated),
        "stated_again": _number(run.stated_again),
        "failures": list(run.failures),
    }


def _row(run: RecomputedRun) -> list[str]:
    nats = [f"{value:.6f}" for value in (run.charged, run.renyi, run.renyi_library)]
    epsilons = [f"{value:.4f}" for value in (run.epsilon_renyi, run.epsilon_pld)]
    stated = "–" if run.stated is None else f"{run.stated:.4f}"
    digest = run.run.removeprefix("sha256:")[:8]
    return [str(run.seq), digest, str(run.steps), *nats, *epsilons, stated]


def _number(value: float | None) -> float | str | None:
    return "inf" if value is not None and math.isinf(value) else value


def _say_what_was_not_compared(found: Verified, screen: Console) -> None:
    if not found.key_known:
        _say(screen, "Not compared: the ledger's key (give --key from its outlet).")
    if not found.heads_known:
        _say(
            screen,
            "Not compared: heads that others kept (give --head). A whole rewritten or "
            "shortened ledger would look the same.",
        )


def _say(screen: Console, sentence: str) -> None:
    screen.print(sentence, markup=False, soft_wrap=True)
