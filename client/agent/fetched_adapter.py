"""A finished run as this outlet keeps it, and what holds of it without asking anybody.

::

    adapters/NAME-DIGEST/       mode 0700, its files 0600; `presspool predict` takes this folder
        adapter/                the adapter's folder, built here from the bare arrays; with the card
        contract.json           the run's contract, of the digest that this outlet trained
        result.json             the run's figures: the coordinator's word
        log.proof               the last round's entry of the consortium log, with cosignatures
        lineage.json            every round's entry, base model, weights and who has cosigned

Invariants:
    * The folder's name comes from the contract, whose digest was checked, and from nothing else.
    * The weights are those that the log names after the contract's last round; what the method
      freezes is derived from the public seed and compared.

Example: `FetchedAdapter(home / "adapters" / "spring-0a1b2c3d4e5f").verify(rule, required=True)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from presspool.client.witnessing.witness_rule import WitnessRule
from presspool.common.audit.cards.card_reading import card_beside
from presspool.common.base.errors import EvidenceError, InputError
from presspool.common.contract.contract import Contract
from presspool.common.models import adapters
from presspool.common.transparency.checkpoints import Proof, parse_proof
from presspool.common.transparency.consortium_entries import parse_entry

if TYPE_CHECKING:
    from torch import nn

FOLDER = "adapters"


def folder_of(home: Path, contract: Contract) -> Path:
    """Where an outlet keeps what a contract's run came to."""
    return home / FOLDER / f"{contract.name[:40]}-{contract.digest.removeprefix('sha256:')[:12]}"


def kept(home: Path, run: str | None = None) -> list[FetchedAdapter]:
    """What was fetched, or of it what a name or a digest means.

    Raises:
        InputError: it means nothing that was fetched.
    """
    folders = sorted(path for path in (home / FOLDER).glob("[!.]*") if path.is_dir())
    found = [one for one in map(FetchedAdapter, folders) if one.is_meant(run)]
    if run is not None and not found:
        raise InputError(
            "no such adapter here",
            where=str(home / FOLDER),
            expected=", ".join(path.name for path in folders) or "an adapter that was fetched",
            got=ascii(run),
            advice="presspool outlet adapters list says what there is",
        )
    return found


@dataclass(frozen=True)
class FetchedAdapter:
    """One of the folders.

    Attributes:
        path: where it is.
    """

    path: Path

    @property
    def adapter(self) -> Path:
        """The adapter's own folder."""
        return self.path / "adapter"

    @property
    def proof(self) -> Path:
        """The last round's entry of the log and its proof."""
        return self.path / "log.proof"

    @property
    def lineage(self) -> Path:
        """Where the adapter comes from."""
        return self.path / "lineage.json"

    def is_meant(self, run: str | None) -> bool:
        """Whether an operator who types this means this folder."""
        if run is None or run == self.path.name:
            return True
        short = run.removeprefix("sha256:")[:12]
        return run.startswith("sha256:") and self.path.name.endswith(f"-{short}")

    def verify(self, rule: WitnessRule, *, required: bool) -> dict[str, object]:
        """Check everything that can be checked here; what holds, as JSON values.

        Args:
            rule: whose keys and witnesses count.
            required: whether enough approved peers must have cosigned.

        Raises:
            FolderError: the folder contradicts itself.
            EvidenceError: the adapter is not the one that the log names, or the log's word is not
                witnessed.
            GuardError: the coordinator was caught with two histories.
            ModelError: the base model is not here.
        """
        from presspool.common.models.models import base, restored
        from presspool.common.released.adapter_folder import read_adapter

        rule.check_undivided()
        found = read_adapter(self.adapter)
        try:
            proof = parse_proof(self.proof.read_bytes())
        except OSError as error:
            raise EvidenceError(
                "no proof", where=str(self.proof), expected="a file", got=error.strerror
            ) from None
        rule.verify(found.contract.digest, found.contract.federation.rounds, proof.extra, proof)
        check_witnessed(rule, found.contract, proof, required=required)
        try:
            model = restored(base(found.contract), found.contract, found.path)
        except ValueError as error:
            raise EvidenceError(
                "not this run's adapter", where=str(found.path), got=error
            ) from None
        check_model(model, found.contract, proof)
        card = card_beside(self.adapter, found.adapter, found.contract)
        return {
            "run": self.path.name,
            "folder": str(self.path),
            "adapter": found.adapter,
            "statement": found.statement,
            "witnessed_by": list(witnesses_of(rule, proof)),
            "card": card.statement if card else None,
        }


def check_witnessed(rule: WitnessRule, contract: Contract, proof: Proof, *, required: bool) -> None:
    """See that a verified proof of the contract's last round is witnessed where that is asked for.

    Raises:
        EvidenceError: it is not.
    """
    if not required:
        return
    rule.check_peers()
    try:
        rule.require(proof)
    except EvidenceError as error:
        raise EvidenceError(
            "the adapter is not witnessed yet",
            where=f"round {contract.federation.rounds} of {contract.digest}",
            expected="this outlet's cosignature and those of enough approved peers",
            got=error.got or error.what,
            advice="let presspool outlet run work for a minute, then try again; outlet doctor says "
            "who is missing",
        ) from None


def check_model(model: nn.Module, contract: Contract, proof: Proof) -> None:
    """See that a model holds the adapter that a proof's entry names, on the run's public constants.

    Raises:
        EvidenceError: another adapter.
        SelfTestError: another frozen constant.
    """
    from presspool.client.consent.received_adapter import check_frozen

    said, got = parse_entry(proof.extra).adapter, adapters.digest(adapters.read(model))
    if said != got:
        raise EvidenceError(
            "another adapter than the witnessed log names",
            where=f"round {contract.federation.rounds} of {contract.digest}",
            expected=said,
            got=got,
            advice="do not use it; compare with the other outlets' operators",
        )
    check_frozen(model, contract)


def witnesses_of(rule: WitnessRule, proof: Proof) -> Sequence[str]:
    """Of this outlet and its approved peers those who have cosigned a proof's head."""
    from presspool.common.transparency.checkpoints import open_checkpoint

    keys = [rule.own, *(peer.witness for peer in rule.approved)]
    _, seen = open_checkpoint(proof.checkpoint, log=rule.log, witnesses=keys)
    return sorted(seen)
