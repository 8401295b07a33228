"""A card's three other forms: for the registry of deployments, as an AIBOM, and as a RoPA row.

Invariants:
    * All texts are made, and all names judged, before any file is written.
    * A file that is there is never written over.
    * The row of the record of processing (GDPR Article 30(1)) has no blank.

Example: `prepare(Wanted(ropa=Path("ropa.csv")), card, fields, contract)` is path to text.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from presspool.common.audit.cards.aibom import aibom
from presspool.common.audit.cards.card import CardTwo
from presspool.common.audit.cards.registry_yaml import registry_yaml, require_name
from presspool.common.audit.evidence.audit_console import require_new
from presspool.common.audit.evidence.governance import Fields, require_filled
from presspool.common.base.errors import InputError
from presspool.common.base.files import replace_file
from presspool.common.contract.contract import Contract
from presspool.common.released.adapter_readme import plain


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which other forms, and where to; names are judged on construction.

    Raises:
        InputError: a file is there already, or its name does not fit what it would hold.
    """

    registry: Path | None = None
    aibom: Path | None = None
    ropa: Path | None = None

    def __post_init__(self) -> None:
        named = {"--registry-yaml": self.registry, "--aibom": self.aibom, "--ropa": self.ropa}
        for option, path in named.items():
            if path is not None:
                require_new(path, option)
        if self.registry is not None:
            require_name(self.registry)
        if self.ropa is not None and self.ropa.suffix not in (".csv", ".md"):
            raise InputError(
                "a row in no known form",
                where="--ropa",
                expected="a name that ends in .csv or .md",
                got=self.ropa,
            )


def prepare(
    wanted: Wanted, card: CardTwo, fields: Fields, contract: Contract
) -> Mapping[Path, str]:
    """What to write where; nothing is written yet.

    Raises:
        CardError: a field of the record of processing is blank; names them all.
    """
    made: dict[Path, str] = {}
    if wanted.registry is not None:
        made[wanted.registry] = registry_yaml(card)
    if wanted.aibom is not None:
        body = aibom(card, fields.card, contract)
        made[wanted.aibom] = json.dumps(body, indent=2, ensure_ascii=False) + "\n"
    if wanted.ropa is not None:
        row = dict(_row(card, fields))
        made[wanted.ropa] = _csv(row) if wanted.ropa.suffix == ".csv" else _markdown(row)
    return made


def write(made: Mapping[Path, str]) -> None:
    """Write them; raises `StorageError` if the disk refuses."""
    for path, text in made.items():
        replace_file(path, text.encode())


def _row(card: CardTwo, fields: Fields) -> Iterator[tuple[str, str]]:
    """Column to text: the processing, Article 30's own items, and where more is written."""
    blank = [f"[article30] {key}" for key, _, text in fields.article30.rows() if not text]
    advice = 'fill them in, or add --interview; "not applicable, because …" is an answer'
    require_filled(blank, where="record of processing", advice=advice)
    protection = card.data_protection
    yield "Processing", f"Training of {card.registry.basic.name}"
    for _, what, text in fields.article30.rows():
        yield what, text
    yield "Legal basis (Article 6)", protection.lawfulness.legal_basis
    yield "Impact assessment (Article 35)", protection.impact_assessment.reference
    yield "Differential privacy", card.statement


def _csv(row: Mapping[str, str]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(row), lineterminator="\n")
    writer.writeheader()
    writer.writerow({column: _harmless(text) for column, text in row.items()})
    return stream.getvalue()


def _harmless(text: str) -> str:
    """A cell that no spreadsheet computes."""
    return f"'{text}" if text[:1] in "=+-@\t\r" else text


def _markdown(row: Mapping[str, str]) -> str:
    heads, cells = " | ".join(map(plain, row)), " | ".join(map(plain, row.values()))
    return f"| {heads} |\n|{' --- |' * len(row)}\n| {cells} |\n"
