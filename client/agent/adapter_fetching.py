"""Bringing a finished run's adapter to its outlet, which believes the witnessed log alone.

What comes is the contract, the bare arrays, the result and the card where there is one. The arrays
must be exactly those that the consortium log names after the last round; the folder around them,
with everything that a loader reads, is written here.

Invariants:
    * Nothing that comes is larger than this outlet knows it can be, and no name of a file comes.
    * The log is read entry by entry up to the head that names the adapter, and on to the one that
      was cosigned; what contradicts it is kept as evidence.
    * A folder appears whole, readable by its owner alone, or not at all.

Example: `fetch(identity, policy, contract, Links.to(identity))`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as from_bytes
from torch import nn

from presspool.client.agent import fetched_adapter as kept
from presspool.client.agent.fetched_adapter import FetchedAdapter
from presspool.client.consent.policy import Policy
from presspool.client.identity.adapter_client import AdapterClient
from presspool.client.identity.dialling import reach
from presspool.client.identity.identity import Identity
from presspool.client.witnessing.witness_client import WitnessClient
from presspool.client.witnessing.witness_rule import WitnessRule
from presspool.common.audit.cards.card_reading import LARGEST_CARD, read_card
from presspool.common.audit.cards.model_card import CARD_FILE
from presspool.common.base.errors import CardError, EvidenceError, InputError
from presspool.common.base.files import private_folder, replace_file
from presspool.common.contract.contract import Contract, read_canonical
from presspool.common.contract.statement import statement
from presspool.common.models import adapters
from presspool.common.models.adapters import State
from presspool.common.models.models import build
from presspool.common.released.adapter_folder import storing, write_adapter
from presspool.common.runs.result_file import RESULT_FILE, parse_result, write_result
from presspool.common.runs.results import RunResult
from presspool.common.transparency.checkpoints import Proof
from presspool.common.transparency.consortium_entries import Entry, parse_entry

LARGEST_CONTRACT, LARGEST_RESULT = 4 << 20, 64 << 20
ROOM = 1 << 20  # for the names and shapes before the arrays
STEPS = 5  # of `fetch`, for progress


@dataclass(frozen=True, kw_only=True)
class Links:
    """An outlet's two lines to its coordinator.

    Attributes:
        adapters: for the parts of a run.
        witness: for the log.
    """

    adapters: AdapterClient
    witness: WitnessClient

    @classmethod
    @contextmanager
    def to(cls, identity: Identity) -> Iterator[Self]:
        """Lines that are hung up when the block is left."""
        found = cls(
            adapters=AdapterClient(identity.address, lambda: reach(identity)),
            witness=WitnessClient(identity.address, lambda: reach(identity)),
        )
        try:
            yield found
        finally:
            found.adapters.close()
            found.witness.close()


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """What was checked before anything is written.

    Attributes:
        contract: the run's.
        model: the contract's, built here.
        state: the arrays that the log names.
        proof: the last round's entry, as the extra data of its proof.
        entries: of all rounds.
        result: the run's figures; the coordinator's word.
        card: the bytes of a privacy card, not looked at yet.
    """

    contract: Contract
    model: nn.Module
    state: State
    proof: Proof
    entries: list[Entry]
    result: RunResult
    card: bytes


def fetch(
    identity: Identity,
    policy: Policy,
    digest: str,
    links: Links,
    advance: Callable[[], None] = lambda: None,
) -> tuple[FetchedAdapter, str]:
    """Fetch the adapter of a finished run.

    Args:
        identity: who this outlet is.
        policy: says whether witnesses are required.
        digest: of the run's contract.
        links: to the coordinator.
        advance: called after each of `STEPS`.

    Returns:
        Where it is now, and why the coordinator's card is not with it, or "".

    Raises:
        EvidenceError: what came is not what the log says, or too large, or not witnessed yet.
        GuardError: the coordinator was caught with two histories.
        ModelError: the base model is not here.
        LinkError, AdmissionError: see `AdapterClient`.
        StorageError: the disk refuses.
    """
    rule = WitnessRule.of(identity, liars=policy.witnesses.liars)
    rule.check_undivided()
    contract = _contract(identity, digest, links.adapters)
    advance()
    proof, entries = _logged(rule, contract, links.witness, required=policy.witnesses.required)
    advance()
    model = build(contract)
    state = _state(links.adapters, contract, model, parse_entry(proof.extra).adapter)
    advance()
    arrived = Arrived(
        contract=contract,
        model=model,
        state=state,
        proof=proof,
        entries=entries,
        result=_result(links.adapters, contract),
        card=links.adapters.part(digest, AdapterClient.CARD, most=LARGEST_CARD),
    )
    advance()
    found = _write(identity.home, arrived, kept.witnesses_of(rule, proof))
    advance()
    return found


# --- What comes -----------------------------------------------------------------------------------


def _contract(identity: Identity, digest: str, link: AdapterClient) -> Contract:
    """The contract of this digest, in which this outlet is named."""
    data = link.part(digest, AdapterClient.CONTRACT, most=LARGEST_CONTRACT)
    contract = read_canonical(data, digest=digest)
    if identity.name not in contract.outlets:
        raise EvidenceError(
            "a run without this outlet",
            where=digest,
            expected=identity.name,
            got=", ".join(contract.outlets),
        )
    return contract


def _logged(
    rule: WitnessRule, contract: Contract, link: WitnessClient, *, required: bool
) -> tuple[Proof, list[Entry]]:
    """The last round's proof, checked and witnessed, and the entries of all rounds."""
    last = contract.federation.rounds
    found = link.prove(contract.digest, last)
    if found is None:
        raise EvidenceError(
            "the log does not say that this run is over",
            where=contract.digest,
            expected=f"an entry for round {last}",
            got="none",
        )
    proof = replace(found[1], extra=found[0])
    rule.verify(contract.digest, last, proof.extra, proof)
    entries = rule.read_log(proof, link.entries).of(contract.digest)
    kept.check_witnessed(rule, contract, proof, required=required)
    return proof, entries


def _state(link: AdapterClient, contract: Contract, model: nn.Module, named: str) -> State:
    """The arrays that the log names, of exactly the form that this outlet's own model has."""
    shapes = {name: tuple(p.shape) for name, p in adapters.trainable(model).items()}
    most = ROOM + 4 * sum(int(np.prod(shape)) for shape in shapes.values())
    data = link.part(contract.digest, AdapterClient.STATE, most=most)
    try:
        state = from_bytes(data)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise _other("arrays", got=type(error).__name__) from None
    if any(array.dtype != np.float32 for array in state.values()):
        raise _other("float32 arrays", got="others")
    if fault := adapters.fault(state, shapes=shapes, largest=np.inf):
        raise _other(fault.expected, got=fault.got)
    if (got := adapters.digest(state)) != named:
        raise _other(f"{named}, after round {contract.federation.rounds}", got=got)
    return state


def _other(expected: str, *, got: object) -> EvidenceError:
    return EvidenceError(
        "not the adapter that the witnessed log names",
        where="what the coordinator sent",
        expected=expected,
        got=got,
        advice="nothing was kept; compare with the other outlets' operators",
    )


def _result(link: AdapterClient, contract: Contract) -> RunResult:
    data = link.part(contract.digest, AdapterClient.RESULT, most=LARGEST_RESULT)
    try:
        result = parse_result(data)
    except InputError as error:
        raise EvidenceError(error.what, **error.parts) from None
    if (result.contract_digest, result.status) != (contract.digest, "complete"):
        raise EvidenceError(
            "another run's result",
            where=RESULT_FILE,
            expected=f"{contract.digest}, complete",
            got=f"{result.contract_digest}, {result.status}",
        )
    return result


# --- What is written ------------------------------------------------------------------------------


def _write(home: Path, arrived: Arrived, witnesses: Sequence[str]) -> tuple[FetchedAdapter, str]:
    """The folder, whole; and why the card is not in it, or ""."""
    contract = arrived.contract
    path = kept.folder_of(home, contract)
    private_folder(path.parent)
    _require_own_place(path, contract)
    draft = FetchedAdapter(path.with_name(f".{path.name}.tmp"))
    shutil.rmtree(draft.path, ignore_errors=True)
    with _gone_if_it_fails(draft.path), storing(path):
        private_folder(draft.path)
        weights = write_adapter(
            draft.adapter,
            arrived.model,
            arrived.state,
            contract,
            lambda adapter: statement(contract, adapter=adapter, reproducible=False),
            arrived.result.figures,
        )
        kept.check_model(arrived.model, contract, arrived.proof)
        card = _keep_card(draft, arrived.card, f"sha256:{weights}", contract)
        replace_file(draft.path / "contract.json", contract.canonical())
        write_result(draft.path, arrived.result)
        replace_file(draft.proof, arrived.proof.encode())
        lineage = _lineage(arrived, weights, witnesses)
        replace_file(draft.lineage, json.dumps(lineage, indent=1).encode())
        for file in draft.path.rglob("*"):
            file.chmod(0o700 if file.is_dir() else 0o600)
        shutil.rmtree(path, ignore_errors=True)
        draft.path.rename(path)
    return FetchedAdapter(path), card


@contextmanager
def _gone_if_it_fails(draft: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _require_own_place(path: Path, contract: Contract) -> None:
    """Raise `EvidenceError` where another run's adapter has the name: it is never replaced."""
    there = path / "contract.json"
    if there.exists() and there.read_bytes() != contract.canonical():
        raise EvidenceError(
            "another run's adapter is here under this name",
            where=str(path),
            expected=contract.digest,
            got="another contract",
            advice="move it away first",
        )


def _keep_card(draft: FetchedAdapter, data: bytes, weights: str, contract: Contract) -> str:
    """Put a card of these weights beside them; why it was not, or ""."""
    if not data:
        return "the coordinator has none"
    try:
        read_card(data, weights, contract)
    except CardError as error:
        return f"{error.what}: {error.got}" if error.got else error.what
    replace_file(draft.adapter / CARD_FILE, data)
    return ""


def _lineage(arrived: Arrived, weights: str, witnesses: Sequence[str]) -> dict[str, Any]:
    """Where the adapter comes from, as JSON values."""
    last = parse_entry(arrived.proof.extra)
    return {
        "format": "presspool-lineage/1",
        "run": last.run,
        "contract": arrived.contract.digest,
        "base_model": arrived.contract.model.model_dump(mode="json"),
        "adapter": f"sha256:{weights}",
        "adapter_at_coordinator": f"sha256:{arrived.result.adapter_sha256}",
        "rounds": [
            {"round": one.round, "adapter": one.adapter, "outlets": list(one.outlets)}
            for one in arrived.entries
        ],
        "witnessed_by": list(witnesses),
    }
