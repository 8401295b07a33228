"""Where an adapter comes from: run, base model, outlets, and where their ledgers say so.

What a card says of the ledgers stands here too, by outlet, and beside it the period under which
each ledger charged the run, where its export was given. An outlet for which the card does not speak
is named and says nothing.

Invariant: what contract and card say is said here in their words, or `check` finds it.

Example: `check(parse_lineage(data), contract, card)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from presspool.common.audit.cards import card_evidence
from presspool.common.audit.cards.card import Card
from presspool.common.audit.cards.model_card import CARD_FILE
from presspool.common.audit.evidence.ledger_view import OutletReading
from presspool.common.base.errors import EvidenceError, InputError
from presspool.common.base.validation import CanonicalDocument, StrictDocument, validate
from presspool.common.contract.contract import Contract
from presspool.common.contract.contract_schema import Name, Sha256

LARGEST = 16 << 20  # bytes; one of a thousand outlets has half of one


class LedgerPlace(StrictDocument):
    """Where an outlet's ledger speaks of the run.

    Attributes:
        entry: of the reservation.
        entries: (with `root`) the signed head that covers it.
        cosigned_by: keys of witnesses.
        period: under which the run was charged; None where no export was given.
    """

    ledger: Annotated[str, Field(max_length=300)]
    entry: Annotated[int, Field(ge=0)]
    entries: Annotated[int, Field(ge=1)]
    root: Annotated[str, Field(pattern=r"^[0-9a-f]{64}\z")]
    cosigned_by: Annotated[list[str], Field(max_length=64)]
    period: Annotated[str | None, Field(max_length=40)] = None


class AdapterLineage(CanonicalDocument):
    """The whole of it.

    Attributes:
        run: as it was called where it was made.
        base_model: id and hashes; `manifest` over all files that are loaded.
        outlets: of the contract, and what is known of their ledgers.
        covered: what the privacy statement says of records and time.
    """

    format: Literal["presspool-registry-lineage/1"] = "presspool-registry-lineage/1"
    run: Annotated[str, Field(max_length=200)]
    contract: Sha256
    adapter: Sha256
    base_model: dict[str, str]
    rounds: Annotated[int, Field(ge=1)]
    outlets: dict[Name, LedgerPlace | None]
    covered: Annotated[str, Field(max_length=5000)]


def made(
    run: str, contract: Contract, card: Card, ledgers: Mapping[str, OutletReading]
) -> AdapterLineage:
    """The lineage of a run's adapter.

    Args:
        run: its name.
        contract: the run's.
        card: of its adapter, checked.
        ledgers: outlets' exports, by outlet, as many as are at hand.

    Raises:
        InputError: a ledger that says nothing of this run.
        EvidenceError: one that reserved something else than the contract says.
    """
    epsilon = contract.trust.epsilon(contract)
    periods = {}
    for name, ledger in ledgers.items():
        found = card_evidence.reserved(ledger, contract, card.outlets_covered)
        card_evidence.require_agreement(ledger, found, contract, epsilon)
        periods[name] = found.period
    return AdapterLineage(
        run=run,
        outlets={name: _place(card, name, periods.get(name)) for name in sorted(contract.outlets)},
        **_said(contract, card),
    )


def parse_lineage(data: bytes, *, where: str) -> AdapterLineage:
    """Read a lineage; raises `EvidenceError` where it is none in its one spelling."""
    return AdapterLineage.parse(data, what="no lineage", most=LARGEST, where=where)


def check(lineage: AdapterLineage, contract: Contract, card: Card, *, where: str) -> None:
    """Return if a lineage says what contract and card say.

    Raises:
        EvidenceError: it does not; names the first field.
    """
    places = {
        name: _place(card, name, place.period if place else None)
        for name, place in lineage.outlets.items()
    }
    wanted = {"outlets": places, **_said(contract, card)}
    for field, expected in wanted.items():
        got = getattr(lineage, field)
        if expected != got or lineage.outlets.keys() != contract.outlets.keys():
            raise EvidenceError(
                "a lineage that contract and card contradict",
                where=f"{where} {field}",
                expected=expected,
                got=got,
            )


def _said(contract: Contract, card: Card) -> dict[str, Any]:
    """What follows from contract and card."""
    return {
        "contract": contract.digest,
        "adapter": card.governance.hashes.adapter,
        "base_model": contract.model.model_dump(mode="json"),
        "rounds": contract.federation.rounds,
        "covered": card.statement,
    }


def _place(card: Card, outlet: str, period: str | None) -> LedgerPlace | None:
    said = card.governance.outlets.get(outlet)
    if said is None:
        return None
    body = {
        "ledger": said.ledger,
        "entry": said.ledger_index,
        "entries": said.checkpoint.entries,
        "root": said.checkpoint.root,
        "cosigned_by": sorted(said.cosignatures.by),
        "period": period,
    }
    return validate(LedgerPlace, body, where=f"{CARD_FILE} {outlet}", fault=InputError)
