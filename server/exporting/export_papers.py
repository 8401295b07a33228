"""What travels with every export: the card, what was compared, and a model card.

Invariants:
    * A privacy card beside the adapter is of this very adapter, and travels byte for byte.
    * Who let the adapter into use without its release gate is said in the export as well.
    * Every export says that changing an adapter after its release costs no privacy, and whose base
      model is in it.

Source: Dwork & Roth, "The Algorithmic Foundations of Differential Privacy", 2014, Proposition 2.1.

Example: `write_papers(folder, adapter, form, report)`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from presspool.common.audit.cards.card_reading import card_beside
from presspool.common.audit.cards.model_card import CARD_FILE, README
from presspool.common.base.files import file_sha256, replace_file
from presspool.common.base.numbers import percent
from presspool.common.contract.doors import task_of
from presspool.common.models.catalogue import CATALOGUE
from presspool.common.released.adapter_folder import AdapterFolder
from presspool.common.released.adapter_readme import plain
from presspool.common.released.exports.export_format import ExportFormat
from presspool.common.released.exports.likeness import Difference
from presspool.common.released.exports.pruning import PrunedRow
from presspool.common.released.gate_overrides import OVERRIDES

REPORT = "export.json"
POST_PROCESSING = (
    "This file was computed from the released adapter and public data alone. Post-processing costs "
    "no privacy (Dwork & Roth 2014, Proposition 2.1): the statement holds for it unchanged."
)


def card_bytes(adapter: AdapterFolder) -> bytes | None:
    """The adapter's privacy card; None where there is none.

    Raises:
        CardError: the card beside it is of another adapter, or claims another privacy.
    """
    if card_beside(adapter.path, adapter.adapter, adapter.contract) is None:
        return None
    return (adapter.path / CARD_FILE).read_bytes()


def report(
    adapter: AdapterFolder,
    form: ExportFormat,
    source: str,
    found: Difference,
    *,
    share: float | None = None,
    rows: tuple[PrunedRow, ...] = (),
) -> dict[str, Any]:
    """What `export.json` says, but for the files."""
    contract = adapter.contract
    task, known = task_of(contract), CATALOGUE.get(contract.model.id)
    return {
        "format": "presspool-export/1",
        "form": form.name,
        "reads": form.reads,
        "name": contract.name,
        "adapter": adapter.adapter,
        "contract_digest": contract.digest,
        "statement": adapter.statement,
        "overrides": list(adapter.overrides),
        "post_processing": POST_PROCESSING,
        "base_model": {
            "id": contract.model.id,
            "weights": contract.model.weights,
            "licence": known.licence if known else None,
        },
        "task": {
            "kind": contract.task.kind,
            "answers": list(task.options),
            "pooling": task.pooling,
            "max_length": contract.task.max_length,
            "unsure_up_to": adapter.unsure_up_to,
            "head": form.heads if "head" in task.groups else None,
        },
        "compared": {"source": source, **asdict(found), "tolerance": asdict(form.tolerance)},
        "pruned": share,
        "pruning": [asdict(row) for row in rows],
    }


def write_papers(folder: Path, adapter: AdapterFolder, said: dict[str, Any], words: str) -> None:
    """Put card, model card and report into a written export.

    Args:
        folder: the export.
        adapter: what it was made of.
        said: as `report` made it.
        words: the comparison, for people.

    Raises:
        CardError: as `card_bytes`.
        StorageError: the disk refuses.
    """
    if (card := card_bytes(adapter)) is not None:
        replace_file(folder / CARD_FILE, card)
    if adapter.overrides:
        replace_file(folder / OVERRIDES, (adapter.path / OVERRIDES).read_bytes())
    replace_file(folder / README, _readme(adapter, said, words, card=card is not None).encode())
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    kept = {f.relative_to(folder).as_posix(): f"sha256:{file_sha256(f)}" for f in files}
    body = json.dumps(said | {"files": kept}, indent=1, ensure_ascii=False) + "\n"
    replace_file(folder / REPORT, body.encode())


def _readme(adapter: AdapterFolder, said: dict[str, Any], words: str, *, card: bool) -> str:
    from huggingface_hub import ModelCard, ModelCardData

    task, base = task_of(adapter.contract), said["base_model"]
    front = ModelCardData(
        library_name=said["form"].partition("-")[0],
        pipeline_tag=task.pipeline,
        tags=["differential-privacy", "federated-learning", f"presspool-{said['form']}"],
        model_name=adapter.contract.name,
        **_stated(adapter.path / README),
    )
    licence = base["licence"] or "not known here: see the base model's own card"
    longest = f"at most {said['task']['max_length']} tokens"
    if (window := getattr(adapter.contract.task, "window", None)) is not None:
        longest += f", in windows of {window} that begin with a fourth of the one before"
    rows = [
        ("Adapter", f"`{said['adapter']}`"),
        ("Base model", f"{plain(base['id'])}, weights `{base['weights']}`, licence {licence}"),
        ("Read by", plain(said["reads"])),
        ("Task", f"{said['task']['kind']}, {longest}"),
        ("Answers, in order", plain(", ".join(said["task"]["answers"])) or "texts or places"),
        ("Outputs are of", plain(said["task"]["pooling"])),
        ("Head", said["task"]["head"] or "in the file"),
        ("Compared with the adapter", plain(words)),
        ("Pruned", percent(said["pruned"]) if said["pruned"] else "no"),
    ]
    own = f"All of its fields are in [{CARD_FILE}]({CARD_FILE})."
    lines = [
        f"# {plain(adapter.contract.name)}, as {said['form']}",
        "",
        f"**{plain(adapter.statement)}**",
        "",
        *(line for one in adapter.overrides for line in (f"**{plain(one)}**", "")),
        POST_PROCESSING,
        "",
        own if card else "The adapter had no privacy card when this was made.",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {what} | {value} |" for what, value in rows),
        "",
        f"What was compared, with the tolerance, and the sha256 of every file: {REPORT}.",
        "",
    ]
    return str(ModelCard(f"---\n{front.to_yaml()}\n---\n" + "\n".join(lines)))


def _stated(readme: Path) -> dict[str, Any]:
    """Licence and language that the adapter's operator stated in its model card, if any."""
    from huggingface_hub import ModelCard

    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    if not text.startswith("---"):
        return {}
    try:
        data = vars(ModelCard(text, ignore_metadata_errors=True).data)
    except Exception:  # noqa: BLE001  yaml's errors have no base of ours
        return {}
    return {key: data[key] for key in ("license", "language") if data.get(key)}
