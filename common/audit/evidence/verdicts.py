"""What an audit shows: sentences and tables for people, documents for machines.

Invariants:
    * What was not compared with anything from elsewhere is said, every time.
    * An infinite ε is the string "inf" in a document, for JSON has no infinity.

Example: `show_verified(verification.verify(stream), console.out)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from presspool.common.base.errors import EvidenceError
from presspool.common.base.numbers import bound
from presspool.common.ledger.ledger_state import LedgerState
from presspool.common.ledger.recompute import TOLERANCE, Recomputed, RecomputedRun
from presspool.common.ledger.restored_entries import restored_sentence
from presspool.common.ledger.verification import Verified
from presspool.common.transparency.checkpoints import Checkpoint

if TYPE_CHECKING:
    from rich.console import Console

HEADINGS = ("entry", "run", "steps", "charged", "own", "library", "ε Rényi", "ε PLD", "stated")


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
        "restored": [entry.model_dump(mode="json") for entry in found.book.restored],
        "non_private": found.book.unclaimed,
    }


def show_verified(found: Verified, screen: Console) -> None:
    """A verified export for people."""
    head = found.head
    _say(
        screen,
        f"{head.origin}: {head.size} entries and "
        f"{found.checkpoints} signed head{'s' * (found.checkpoints != 1)} hold"
        f"{restored_sentence(found.book.restored)}.",
    )
    _say(screen, f"Newest head: {head.size} entries, root {head.root.hex()}.")
    for witness, size in found.cosigned.items():
        _say(screen, f"Cosigned up to entry {size - 1} by {witness}.")
    if not found.cosigned:
        _say(screen, uncosigned(found.heads_known))
    say_if_non_private(found.book, screen)
    if found.book.dangling:
        _say(screen, f"{len(found.book.dangling)} reservations are open; they count as spent.")
    _say_what_was_not_compared(found, screen)


def uncosigned(heads_known: int) -> str:
    """What it means that an export holds no cosignature.

    Args:
        heads_known: heads from elsewhere that the entries agree with.
    """
    said = (
        "No witness's cosignature is in this file. That alone is no sign of a fault: the outlet's "
        "own signatures and all hashes hold, and an export has the cosignatures of those witnesses "
        "only that were named when it was made (--witness)."
    )
    if heads_known:
        return f"{said} A head that somebody else kept agrees with it, which tells as much."
    return (
        f"{said} It matters if the outlet may have shown others another history: ask a peer for "
        "the head that it kept, and compare it (--head)."
    )


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
        "claim": None
        if book.claim is None
        else {"epsilon": book.claim, "delta": book.opened.delta},
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
        screen.print(_table(found.runs), markup=False)
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


def say_if_non_private(book: LedgerState, screen: Console) -> None:
    """What nobody may overlook in a ledger that protects nobody."""
    if book.no_claim:
        _say(screen, f"{book.no_claim} (entry {book.unclaimed})")


def show_exported(
    path: Path, head: Checkpoint, book: LedgerState, left_out: int, screen: Console
) -> None:
    """What was exported, for people."""
    _say(screen, f"{path}: {head.size} entries of {head.origin}, root {head.root.hex()}.")
    say_if_non_private(book, screen)
    if left_out:
        _say(
            screen,
            f"{left_out} later entries are not signed yet and were left out; give "
            "--signing-key to include them.",
        )


def show_convicted(sentence: str, screen: Console) -> None:
    """What was proven against a log, for people."""
    _say(screen, sentence)
    _say(screen, "Whoever holds its key did this; nothing that the log says can be relied on.")


def _run_json(run: RecomputedRun) -> dict[str, Any]:
    return {
        "entry": run.seq,
        "run": run.run,
        "steps": run.steps,
        "charged_nats": run.charged,
        "renyi_nats": run.renyi,
        "renyi_nats_dp_accounting": run.renyi_library,
        "epsilon_renyi": _number(run.epsilon_renyi),
        "epsilon_pld": _number(run.epsilon_pld),
        "stated": _number(run.stated),
        "stated_again": _number(run.stated_again),
        "failures": list(run.failures),
    }


def _table(runs: Sequence[RecomputedRun]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "run" else "right")
    for run in runs:
        table.add_row(*_row(run))
    return table


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
