"""The Hugging Face model card (README.md) that goes with a privacy card, and where both are put.

Invariants:
    * The front matter is written and read again by `huggingface_hub`, so that no text of anybody's
      can add a key.
    * No local path: a base model that is a folder goes by its hash.
    * Both files are made before either is written, and a README.md that somebody wrote is kept.

Source: the keys are those of the Hub's model card metadata.

Example: `write(adapter, card, render(card, said, contract))`.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path

from presspool.common.audit.cards.card import Card, CardTwo, Measured
from presspool.common.audit.evidence.governance import CardFields, require_filled
from presspool.common.base.errors import FolderError
from presspool.common.base.files import replace_file
from presspool.common.base.numbers import bound
from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import TASKS
from presspool.common.models.catalogue import DEFAULT_ID
from presspool.common.released.adapter_readme import ADAPTER_MARK, plain, use

CARD_FILE, README = "privacy_card.json", "README.md"
MARK = "presspool-privacy-card"
_PEFT_MARK = "[More Information Needed]"  # what PEFT writes, and nobody has touched
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


def render(card: Card, said: CardFields, contract: Contract) -> str:
    """The README.md of a card.

    Args:
        card: the privacy card.
        said: the operator's fields; licence and language stand in the front matter.
        contract: the run's.

    Raises:
        CardError: no licence or no language.
    """
    from huggingface_hub import ModelCard, ModelCardData  # a second, which `--help` need not wait

    blank = [f"[card] {key}" for key in ("license", "language") if not getattr(said, key)]
    require_filled(blank, where="model card")
    base_model = contract.model.id
    hub = base_model == DEFAULT_ID or bool(
        _HUB_ID.fullmatch(base_model) and not Path(base_model).exists()
    )
    base = base_model if hub else None
    front = ModelCardData(
        language=[said.language],
        license=said.license,
        library_name=contract.method.library,
        pipeline_tag=TASKS[contract.task.kind].pipeline,
        base_model=base,
        tags=["differential-privacy", "federated-learning", *_lora(contract), MARK],
        model_name=card.registry.basic.name,
    )
    return str(ModelCard(f"---\n{front.to_yaml()}\n---\n{_body(card, base, contract)}"))


def _lora(contract: Contract) -> list[str]:
    return ["lora"] if contract.method.library == "peft" else []


def _body(card: Card, base: str | None, contract: Contract) -> str:
    basic, governance, hashes = card.registry.basic, card.governance, card.governance.hashes
    lines = [
        f"# {plain(basic.name)}",
        "",
        plain(basic.description),
        "",
        f"**{plain(card.statement)}**",
        "",
        "## Intended use",
        "",
        plain(basic.intended_use),
        "",
        *use(contract),
        "## Privacy",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {what} | {plain(value)} |" for what, value in _figures(card, card.training.rounds)),
        "",
        "| outlet | ledger | entry | budget used | claim (ε, δ) |",
        "| --- | --- | ---: | ---: | --- |",
        *(
            f"| {plain(name)} | {plain(o.ledger)} | {o.ledger_index} "
            f"| {100 * o.budget_used:.1f}% | ({o.claim_epsilon:g}, {bound(o.claim_delta)}) |"
            for name, o in governance.outlets.items()
        ),
        "",
        f"All fields, with what is covered and excluded, are in [{CARD_FILE}]({CARD_FILE}).",
        "",
        *_protected(card),
        "## Provenance",
        "",
        f"- Base model: {base or 'a local copy'}, weights `{hashes.base_model}`",
        f"- Adapter: `{hashes.adapter}`",
        f"- Contract: `{hashes.contract}`",
        f"- Code that made this card: `{hashes.code}`",
        f"- Approved by: {plain(governance.approver)}",
        f"- Retention: {plain(governance.retention)}",
        f"- Erasure: {plain(governance.erasure)}",
        "",
    ]
    return "\n".join(lines)


def _protected(card: Card) -> list[str]:
    """What a data-protection officer looks for first; a card of format 1 has none of it."""
    if not isinstance(card, CardTwo):
        return []
    said = card.data_protection
    rows = {
        "Controller": said.controllers.controller,
        "Joint controllers": said.controllers.joint_controllers,
        "Legal basis": said.lawfulness.legal_basis,
        "Consent": "; ".join(said.lawfulness.tcf_purposes),
        "Special categories": said.lawfulness.special_categories,
        "Children": said.lawfulness.children,
        "Impact assessment": f"{said.impact_assessment.reference}, {said.impact_assessment.date}",
        "AI Act": said.ai_act.modifier,
        "Training compute": said.ai_act.training_compute,
    }
    told = [f"- {what}: {plain(text)}" for what, text in rows.items()]
    return ["## Data protection", "", *told, ""]


def _figures(card: Card, rounds: int) -> list[tuple[str, str]]:
    training, spent = card.training, card.registry.privacy_loss.privacy_parameters
    reader = card.governance.reader_of_every_outlet
    everywhere = f"{bound(Decimal(reader.epsilon))}, {bound(Decimal(reader.delta))}"
    return [
        ("Unit", card.registry.privacy_loss.privacy_unit),
        ("ε, δ of this run", f"{bound(spent.epsilon)}, {bound(spent.delta)}"),
        ("ε, δ of a reader of every outlet", everywhere),
        ("Noise multiplier σ", f"{training.noise_multiplier:g}"),
        ("Sampling rate q", f"{training.sampling_rate:g}"),
        ("Steps", f"{training.steps:,} in {rounds} rounds"),
        ("Clip norms", ", ".join(f"{k} {v:g}" for k, v in training.clip.items())),
        ("Noise added by", training.noise_added_by),
        ("Accountant", f"{training.accountant} {training.accountant_version}"),
        ("Measured by attack", _empirical(card)),
    ]


def _empirical(card: Card) -> str:
    found = card.governance.empirical_epsilon
    return found.sentence if isinstance(found, Measured) else f"not measured: {found.why}"


def write(adapter: Path, card: Card, readme: str) -> bool:
    """Put both files beside the adapter; the card last, so that it never stands alone.

    Returns:
        Whether an earlier card was replaced.

    Raises:
        FolderError: a README.md that somebody wrote is there.
        StorageError: the disk refuses.
    """
    there = adapter / README
    if there.exists():
        text = there.read_text(encoding="utf-8", errors="replace")
        if not any(mark in text for mark in (MARK, ADAPTER_MARK, _PEFT_MARK)):
            raise FolderError(
                "somebody wrote this file",
                where=str(there),
                expected="none, a run's own, PEFT's or an earlier card",
                advice="move it away; the card writes its own",
            )
    body = json.dumps(card.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
    earlier = (adapter / CARD_FILE).exists()
    replace_file(there, readme.encode())
    replace_file(adapter / CARD_FILE, body.encode())
    return earlier
