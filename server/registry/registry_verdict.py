"""What holds of an adapter, checked offline from its bytes up, in one sentence; and differences.

Invariants:
    * Nothing that is said here rests on an earlier check: files, signature, papers, lineage and log
      are looked at each time.
    * The sentence says by whose key, so that who does not know the key knows what is left to do.

Example: `verified(registry, registry.shelves.find("topics@1")).sentence`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from presspool.common.audit.cards.card import Card
from presspool.common.base.errors import EvidenceError
from presspool.common.base.files import read_file
from presspool.common.base.numbers import bound
from presspool.common.released.gate_overrides import write_overrides
from presspool.common.runs.result_file import read_result
from presspool.common.transparency import notes
from presspool.server.registry import intake, model_signature, registry_lineage
from presspool.server.registry.adapter_registry import ABOUT, LARGEST_ABOUT, AdapterRegistry
from presspool.server.registry.gate_report import GateReport, read_gate_report
from presspool.server.registry.registry_entry import ADAPTER, LINEAGE, blob_file, signature_file
from presspool.server.registry.stage_records import Shelved


@dataclass(frozen=True, kw_only=True)
class AdapterVerdict:
    """An adapter of which everything holds.

    Attributes:
        folder: where it is laid out.
        papers: what is in there.
        sentence: what holds.
    """

    one: Shelved
    folder: Path
    papers: intake.Papers
    sentence: str


def verified(registry: AdapterRegistry, one: Shelved) -> AdapterVerdict:
    """Check one adapter, which is laid out for no longer than that; raises as `laid_out`."""
    with TemporaryDirectory() as place:
        return laid_out(registry, one, Path(place))


def hand_out(registry: AdapterRegistry, one: Shelved, parent: Path) -> Path:
    """A checked adapter's folder that leaves the registry: its overrides lie beside its card.

    They are no part of what is signed, for they come later; raises as `laid_out`.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=parent) as place:  # nothing stands there before it is checked
        folder = laid_out(registry, one, Path(place)).folder
        write_overrides(folder / ADAPTER, one.overrides)
        path = parent / folder.name
        shutil.rmtree(path, ignore_errors=True)
        folder.rename(path)
    return path


def laid_out(registry: AdapterRegistry, one: Shelved, parent: Path) -> AdapterVerdict:
    """Lay an adapter out in a folder below `parent`, and check it there.

    Raises:
        EvidenceError: files, signature, lineage or log do not hold.
        FolderError, CardError: papers of two runs.
        StorageError: the store cannot be reached.
    """
    folder = registry.checkout(one.entry, parent)
    signature = registry.store.read(signature_file(one.entry), most=model_signature.LARGEST)
    model_signature.verify(folder, signature, public=registry.about.signing)
    entry = registry.entry(one.entry)
    papers = intake.read_papers(folder)
    contract, where = papers.adapter.contract, f"{one.title} {LINEAGE}"
    lineage = registry_lineage.parse_lineage((folder / LINEAGE).read_bytes(), where=where)
    registry_lineage.check(lineage, contract, papers.card, where=where)
    said = (entry.adapter, entry.contract, entry.base_model, (entry.task, entry.language))
    found = (papers.adapter.adapter, contract.digest, contract.model.weights, one.slot)
    if said != found:
        raise EvidenceError(
            "an entry of another adapter", where=one.title, expected=found, got=said
        )
    for record in one.records:
        if record.gate and record.entry == one.entry:
            report = registry.store.read_digest(blob_file(record.gate), record.gate)
            read_gate_report(report, entry=one.entry)
    known = sum(place is not None for place in lineage.outlets.values())
    spent = papers.card.registry.privacy_loss.privacy_parameters
    sentence = (
        f"{one.title} ({one.stage}) is signed by {registry.about.name} over all its "
        f"{len(entry.files)} files, its privacy card is of these weights and claims "
        f"ε = {bound(spent.epsilon)}, δ = {bound(spent.delta)} as its contract costs, its lineage "
        f"names the ledgers of {known} of {len(lineage.outlets)} outlets, and the log of "
        f"{registry.shelves.size} records is whole{_ungated(one)}."
    )
    return AdapterVerdict(one=one, folder=folder, papers=papers, sentence=sentence)


def _ungated(one: Shelved) -> str:
    """What must be said beside it of an adapter that is in use without its gate."""
    asked = [r for r in one.records if r.entry == one.entry and (r.gate or r.without_gate)]
    if one.stage != "production" or not asked or not asked[-1].without_gate:
        return ""
    return ", but it went into production without its release gate, on the word of a person there"


def card_of(registry: AdapterRegistry, one: Shelved) -> Card:
    """The privacy card of an adapter; raises as `AdapterRegistry.checkout`, and for no card."""
    with TemporaryDirectory() as place:
        return intake.read_papers(registry.checkout(one.entry, Path(place))).card


def judged_by(registry: AdapterRegistry, one: Shelved) -> dict[str, str]:
    """What the gate looked at that let an adapter into use last, by `sha256:`; empty without one.

    Raises:
        EvidenceError: the report is damaged.
        StorageError: the store cannot be reached.
    """
    gates = [record.gate for record in one.records if record.gate and record.entry == one.entry]
    data = [registry.store.read_digest(blob_file(gate), gate) for gate in gates[-1:]]
    return dict(GateReport.model_validate_json(data[0]).inputs) if data else {}


def require_known(registry: AdapterRegistry, *, about: Path | None, head: Path | None) -> None:
    """Hold a registry against what somebody has of it from elsewhere.

    Args:
        registry: the registry.
        about: a copy of its `registry.json`.
        head: a signed head of its log.

    Raises:
        EvidenceError: it has other keys, or what was brought is damaged.
        RollbackError: its log does not continue the head.
        InputError: a file that cannot be read.
    """
    known = read_file(about, most=LARGEST_ABOUT + 1) if about else None
    if known is not None and known != registry.store.read(ABOUT, most=LARGEST_ABOUT):
        raise EvidenceError(
            "another registry than the one that is known",
            where=registry.store.url,
            expected=f"the keys in {about}",
            got=registry.about.log,
            advice="ask its operator, by another way than this registry",
        )
    if head is not None:
        kept = notes.parse_note(read_file(head, most=notes.LARGEST_NOTE))
        registry.log.require_continues(kept, whose="the kept")


def differences(registry: AdapterRegistry, one: Shelved, other: Shelved) -> list[dict[str, Any]]:
    """Where two adapters differ: entry, contract, figures and card, a row each.

    Raises:
        EvidenceError, StorageError: as `AdapterRegistry.checkout`.
    """
    first, second = (_facts(registry, found) for found in (one, other))
    return [
        {"field": field, one.title: first.get(field), other.title: second.get(field)}
        for field in dict.fromkeys([*first, *second])
        if first.get(field) != second.get(field)
    ]


def _facts(registry: AdapterRegistry, one: Shelved) -> dict[str, Any]:
    with TemporaryDirectory() as place:
        folder = registry.checkout(one.entry, Path(place))
        papers, result = intake.read_papers(folder), read_result(folder)
    entry, spent = registry.entry(one.entry), papers.card.registry.privacy_loss.privacy_parameters
    return {
        "stage": one.stage,
        **entry.model_dump(exclude={"format", "files"}),
        **dict(_flat("contract", papers.adapter.contract.body())),
        **{f"metrics.{name}": value for name, value in result.final.metrics.items()},
        "card.epsilon": spent.epsilon,
        "card.delta": spent.delta,
        "card.outlets": ", ".join(papers.card.outlets_covered),
    }


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    else:
        yield name, value
