"""What a card takes from the run's folder and the outlets' ledgers, and whether they agree.

Invariants:
    * ε is computed again from the contract's plan, and must be what ledgers and result say.
    * A run without noise, or with reproducible noise, has no privacy to put on a card: refused.
    * What was given is never ignored: a ledger that says nothing about the run is refused.

Example: `released(run)` is the adapter's hash, or a `FolderError` that says why there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from presspool.common.audit.cards import card as cards
from presspool.common.audit.evidence.evidence import RunReading
from presspool.common.audit.evidence.ledger_view import OutletReading, ReservedRun
from presspool.common.base.errors import EvidenceError, FolderError, GuardError, InputError
from presspool.common.base.validation import expected
from presspool.common.contract.cohorts import turn_of
from presspool.common.contract.contract import Contract

TOLERANCE = 1e-6


def released(run: RunReading) -> str:
    """The adapter's hash, of the file that lies there and that the run released."""
    where = str(run.path / "adapter")
    if run.result.adapter_sha256 is None or run.adapter is None:
        raise FolderError(
            "no released adapter",
            where=where,
            expected="a run that is complete",
            got=run.result.status,
        )
    if run.adapter != run.result.adapter_sha256:
        raise FolderError(
            "not the adapter that the run released",
            where=where,
            expected=run.result.adapter_sha256,
            got=run.adapter,
        )
    if not run.contract.plan.protected or run.deterministic:
        raise InputError(
            "there is no privacy to put on a card",
            where=str(run.path),
            expected="a run with secret noise",
            got="a simulation whose noise can be drawn again"
            if run.deterministic
            else 'a run without noise (epsilon = "inf")',
        )
    return f"sha256:{run.adapter}"


def covered(contract: Contract, covers: Sequence[str]) -> list[str]:
    """The outlets that the card speaks for; all of the run's where `covers` is empty."""
    strange = sorted(set(covers) - contract.outlets.keys())
    if strange:
        raise InputError(
            "no such outlet in the run",
            where="--outlet",
            got=", ".join(strange),
            expected=", ".join(sorted(contract.outlets)),
        )
    return sorted(covers or contract.outlets)


def reserved(ledger: OutletReading, contract: Contract, covered: Sequence[str]) -> ReservedRun:
    """The ledger's entry of this run; what was given is never ignored."""
    if ledger.claim is None:
        raise InputError(
            "there is no privacy to put on a card",
            where=ledger.source,
            expected="a ledger whose runs drew secret noise",
            got=ledger.no_claim,
        )
    found = next((entry for entry in ledger.runs if entry.run == contract.digest), None)
    if ledger.name in covered and found is not None:
        return found
    raise InputError(
        "a ledger that has nothing to say on this card",
        where=ledger.source,
        expected=f"a ledger of {', '.join(covered)} in which run {contract.digest} was reserved",
        got=f"{ledger.name}'s, without that run" if found is None else f"{ledger.name}'s",
        advice="give the ledger that the run was trained under, or take this --ledger away",
    )


def require_same(where: str, ours: float, theirs: float | None) -> None:
    """Raise `EvidenceError` unless an ε is what the contract's plan costs."""
    if theirs is None or abs(ours - theirs) > TOLERANCE:
        raise EvidenceError(
            "another ε than the contract's plan costs",
            where=where,
            expected=f"{ours:.9g}",
            got=theirs,
        )


def require_agreement(
    ledger: OutletReading, found: ReservedRun, contract: Contract, epsilon: float
) -> None:
    """Raise `EvidenceError` unless the ledger reserved what the contract says.

    An outlet that joined late pays for the rounds from there on, and may have released no other.
    """
    planned = contract.trust.event(contract)
    missed = planned.steps - found.event.steps
    joined, apart = divmod(missed, contract.federation.local_steps)
    first = min(_turns(ledger, found, contract), default=joined + 1)
    tail = missed >= 0 and not apart and found.event == planned.after(missed) and first > joined
    if not tail or ledger.unit != contract.privacy.unit:
        raise EvidenceError(
            "the ledger reserved something else than the contract says",
            entry=found.seq,
            where=f"{ledger.source}, entry {found.seq}",
            got=found.event,
            expected=planned,
        )
    if found.stated is not None:
        if missed:
            epsilon = contract.trust.epsilon(contract, charged=found.event)
        require_same(f"{ledger.source}, entry {found.seq}", epsilon, found.stated.epsilon)


def _turns(ledger: OutletReading, found: ReservedRun, contract: Contract) -> Iterator[int]:
    """The turns in which an outlet released; 0 for a round of another cohort, which none pays."""
    for release in found.releases:
        try:
            yield turn_of(contract, ledger.name, number=release.round)
        except GuardError:
            yield 0


def outlet(ledger: OutletReading | None, found: ReservedRun | None) -> dict[str, Any]:
    """One outlet's ledger; blank fields where it is not at hand, or signs nothing yet."""
    if ledger is None or found is None:
        return dict.fromkeys(cards.OutletGovernance.model_fields)
    head, approval = ledger.head, ledger.approval(found.run)
    signed = head.size > found.last
    return {
        "ledger": ledger.origin,
        "ledger_index": found.seq,
        "claim_epsilon": ledger.claim,
        "claim_delta": ledger.delta,
        "budget_used": ledger.lifetime.share,
        "budget_left": ledger.lifetime.free / ledger.lifetime.room,
        "runs_composed": len(ledger.runs),
        "checkpoint": {"entries": head.size, "root": head.root} if signed else None,
        "cosignatures": {
            "count": len(head.cosigned),
            "by": dict(head.cosigned),
            "note": "checked with the keys in the export; which of them to believe is for the "
            "reader to know"
            if head.cosigned
            else "no witness cosigned a head of this ledger",
        },
        "approved": "written at the outlet, in no export"
        if approval is None
        else f"{approval.by or 'nobody named'}, {approval.day or 'day not written down'}",
    }


def empirical(run: RunReading) -> Mapping[str, Any]:
    """An attack's result, if the run's folder has one."""
    path = run.path / cards.EMPIRICAL_FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        why = f"no attack was run on this adapter (the run folder has no {path.name})"
        return {"status": "not measured", "why": why}
    except OSError as error:
        raise InputError("cannot read", where=str(path), got=error.strerror) from None
    try:
        found = cards.Measured.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            "not an attack's result", where=f"{path} {place}".strip(), expected=expected(first)
        ) from None
    if found.contract != run.contract.digest:
        raise InputError(
            "an attack on another run",
            where=str(path),
            expected=run.contract.digest,
            got=found.contract,
            advice="attack this one: `presspool audit attack`",
        )
    return found.model_dump(mode="json")
