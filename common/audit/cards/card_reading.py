"""A privacy card that somebody brings: whether it is of these weights, and claims what they cost.

Invariant: whoever wrote the card is not believed; what people judge privacy by is computed again
from the contract.

Example: `read_card(data, "sha256:…", contract).statement`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from presspool.common.audit.cards import card as cards
from presspool.common.audit.cards.card_evidence import TOLERANCE
from presspool.common.audit.cards.model_card import CARD_FILE
from presspool.common.base.errors import CardError
from presspool.common.base.files import read_most
from presspool.common.contract.contract import Contract
from presspool.common.contract.statement import statement

LARGEST_CARD = 4 << 20


def card_beside(adapter: Path, weights: str, contract: Contract) -> cards.Card | None:
    """The privacy card beside an adapter; None where there is none.

    Raises:
        CardError: as `read_card`.
    """
    path = adapter / CARD_FILE
    if not path.exists():
        return None
    try:
        data = read_most(path, LARGEST_CARD + 1)
    except OSError as error:
        raise CardError(
            "a privacy card that cannot be read", fields=(), where=str(path), got=error.strerror
        ) from None
    return read_card(data, weights, contract)


def read_card(data: bytes, weights: str, contract: Contract) -> cards.Card:
    """A privacy card of these weights, which claims what their contract costs.

    Args:
        data: its bytes; whoever wrote them is not believed.
        weights: `sha256:` of the adapter.
        contract: the run's.

    Raises:
        CardError: no card, another adapter's, or one that claims another privacy.
    """
    try:
        body = json.loads(data[:LARGEST_CARD])
        card = cards.parse(body if isinstance(body, dict) else {})
    except (ValueError, RecursionError):
        raise CardError("not a privacy card", fields=(), where=CARD_FILE) from None
    hashes = card.governance.hashes
    _require_field("another adapter's", "governance.hashes.adapter", weights, hashes.adapter)
    _require_field("another run's", "governance.hashes.contract", contract.digest, hashes.contract)
    base, tokenizer = contract.model.weights, contract.model.tokenizer
    _require_field("another base model's", "governance.hashes.base_model", base, hashes.base_model)
    _require_field(
        "another tokenizer's", "governance.hashes.tokenizer", tokenizer, hashes.tokenizer
    )
    strange = sorted(card.governance.outlets.keys() - contract.outlets.keys())
    _require_field("another run's", "governance.outlets", [], strange)
    for field, ours, theirs in _claims(card, weights, contract):
        _require_field("a false", field, ours, theirs)
    return card


def _claims(
    card: cards.Card, weights: str, contract: Contract
) -> Iterator[tuple[str, object, object]]:
    """Fields of a card by which people judge privacy: name, by the contract, as it says."""
    plan, said = contract.plan, card.registry.privacy_loss.privacy_parameters
    yield "registry.privacy_loss.privacy_parameters.delta", plan.delta, said.delta
    claimed = "registry.privacy_loss.privacy_parameters.epsilon"
    epsilon = contract.trust.epsilon(contract)
    yield (
        claimed,
        said.epsilon if abs(said.epsilon - epsilon) <= TOLERANCE else epsilon,
        said.epsilon,
    )
    training = (dict(plan.clip), plan.noise_multiplier, plan.sampling_rate, plan.steps)
    own = card.training
    found = (own.clip, own.noise_multiplier, own.sampling_rate, own.steps)
    yield "training", training, found
    claim = statement(contract, adapter=weights, reproducible=False).partition(", covering")[0]
    yield "statement", claim, card.statement[: len(claim)]


def _require_field(whose: str, field: str, ours: object, theirs: object) -> None:
    if ours != theirs:
        raise CardError(
            f"{whose} privacy card",
            fields=(field,),
            where=f"{CARD_FILE} {field}",
            expected=ours,
            got=theirs,
        )
