"""An adapter's bill of materials: CycloneDX 1.6 in JSON, a machine-learning model with its card.

What it is made of: the base model by its hash, the outlets' records as data that nobody sees, and
the packages that trained it. Source: ECMA-424, first edition (CycloneDX 1.6), `modelCard`.

Invariants:
    * Made again of the same card it is the same: its serial number comes from the adapter's hash.
    * Nothing stands in it that is not on the card, in the contract or in the operator's words.

Example: `aibom(card, said, contract)["components"][0]["modelCard"]["modelParameters"]["task"]`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from presspool.common.audit.cards.card import CardTwo
from presspool.common.audit.evidence.governance import CardFields
from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import TASKS

Part = dict[str, Any]


def aibom(card: CardTwo, said: CardFields, contract: Contract) -> Part:
    """The bill of materials as JSON values.

    Args:
        card: the adapter's.
        said: the operator's words; the licence stands only there.
        contract: the run's.
    """
    hashes = card.governance.hashes
    base = _component("machine-learning-model", "base", contract.model.id, hashes.base_model)
    packages = [
        {"type": "library", "bom-ref": f"package:{name}", "name": name, "version": version}
        for name, version in sorted(card.governance.versions.items())
    ]
    parts = [base, *map(_records, card.outlets_covered), *packages]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, hashes.adapter).urn,
        "version": 1,
        "metadata": {"component": _adapter(card, said, contract)},
        "components": parts,
        "dependencies": [{"ref": "adapter", "dependsOn": [part["bom-ref"] for part in parts]}],
    }


def _component(kind: str, ref: str, name: str, digest: str) -> Part:
    content = digest.removeprefix("sha256:")
    return {
        "type": kind,
        "bom-ref": ref,
        "name": name.rpartition("/")[2],
        "version": content[:12],
        "hashes": [{"alg": "SHA-256", "content": content}],
    }


def _records(outlet: str) -> Part:
    """An outlet's records, which only the outlet has: so without a hash."""
    owner = {"organization": {"name": outlet}}
    kept = {"type": "dataset", "name": f"Records of {outlet}'s readers"}
    return {
        "type": "data",
        "bom-ref": f"records:{outlet}",
        "name": kept["name"],
        "data": [kept | {"classification": "personal data", "governance": {"owners": [owner]}}],
    }


def _adapter(card: CardTwo, said: CardFields, contract: Contract) -> Part:
    basic, hashes = card.registry.basic, card.governance.hashes
    return _component("machine-learning-model", "adapter", contract.name, hashes.adapter) | {
        "name": basic.name,
        "publisher": ", ".join(one.data_curator_name for one in basic.data_curators),
        "description": basic.description,
        "licenses": [{"license": {"name": said.license}}],
        "modelCard": {
            "modelParameters": {
                "task": TASKS[contract.task.kind].pipeline,
                "modelArchitecture": f"{contract.method.library} on the base model",
                "datasets": [{"ref": f"records:{outlet}"} for outlet in card.outlets_covered],
            },
            "considerations": _considerations(card),
            "properties": [{"name": name, "value": text} for name, text in _properties(card)],
        },
    }


def _considerations(card: CardTwo) -> Part:
    protection = card.data_protection
    pyramid = protection.nist_sp_800_226.pyramid
    hazards = protection.nist_sp_800_226.hazards.model_dump()
    return {
        "useCases": [card.registry.basic.intended_use],
        "technicalLimitations": [pyramid.bias, pyramid.side_channels],
        "performanceTradeoffs": [pyramid.utility],
        "ethicalConsiderations": [
            {"name": name.replace("_", " "), "mitigationStrategy": text}
            for name, text in hazards.items()
        ],
    }


def _properties(card: CardTwo) -> Iterator[tuple[str, str]]:
    """Statement, lawfulness, attack tests and the AI Act's figures, by the card's own paths."""
    yield "presspool:statement", card.statement
    yield "presspool:contract", card.governance.hashes.contract
    protection = card.data_protection.model_dump(mode="json")
    for part in ("lawfulness", "attack_tests", "ai_act"):
        table: Mapping[str, Any] = protection[part]
        for key, value in table.items():
            text = value if isinstance(value, str) else "; ".join(value)
            yield f"presspool:{part}.{key}", text
