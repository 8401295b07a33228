"""The file that the Differential Privacy Deployments Registry takes: a card's `registry` as YAML.

Its form is that of github.com/opendp/deployments-registry-data, schemas/deployments-schema.yaml, at
commit 3e9c812 of 15 July 2026, with what the registry's card of 2026 adds: each curator's kind
(pull request 190) and the number of privacy units (pull request 205). Who reviews a record there is
told so in the file's first lines.

Invariants:
    * Every field of the card's `registry` is in the file, under the same name.
    * A record begins as a draft of the top tier; its slug is made as the
      registry's own script makes it.

Example: `registry_yaml(card)` is the text of a file for the registry's folder `deployments/`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml

from presspool.common.audit.cards.card import Card
from presspool.common.base.errors import InputError

SECTORS: Final = {"Technology", "Healthcare", "Education", "Government", "Energy", "Finance"}
_NAME = re.compile(r"[a-z0-9_]+\.yaml")
_HEAD = """\
# Fields: deployments-schema.yaml of 2026-07-15, with data_curators of pull request 190 and
# number_of_privacy_units of pull request 205.
"""
_SECTOR = "# data_product_sector: a value that the schema's list does not have yet.\n"


def registry_yaml(card: Card) -> str:
    """A card's record for the registry.

    Args:
        card: of format 2.
    """
    registry = card.registry.model_dump(mode="json")
    body = {
        "url_slug": _slug(registry["basic"]),
        "status": "Draft",
        "tier": 3,
        "deployment": registry,
    }
    # Wide lines: the registry's check refuses texts that YAML folds.
    text = yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=1_000_000)
    known = registry["basic"]["data_product_sector"] in SECTORS
    return f"{_HEAD}{'' if known else _SECTOR}{text}"


def require_name(path: Path) -> None:
    """Raise `InputError` for a file name that the registry's check refuses."""
    if not _NAME.fullmatch(path.name):
        raise InputError(
            "a file name that the registry refuses",
            where="--registry-yaml",
            expected="small letters, digits and underscores, then .yaml",
            got=path.name,
        )


def _slug(basic: dict[str, Any]) -> str:
    curators = "-".join(one["data_curator_name"] for one in basic["data_curators"])
    parts = (basic["name"], curators, basic["publication_date"][:4])
    return "-".join(re.sub(r"\W+", "-", part.lower()) for part in parts).replace("_", "-")
