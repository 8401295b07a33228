"""Where an answer comes from, and its readers' privacy: headers of every answer, and the card.

Invariants:
    * What a header says is what statement and card of the very adapter say.
    * An adapter whose noise could be drawn again, or that has none, has the ε `none`.
    * A card that is another adapter's, or a claim below what the contract costs, keeps the adapter
      from being served: files beside the weights can be edited by anybody.

Example: `Provenance.read(folder).headers["x-presspool-adapter"]`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from presspool import __version__
from presspool.common.audit.cards.card_evidence import TOLERANCE
from presspool.common.audit.cards.card_reading import card_beside
from presspool.common.base.errors import FolderError
from presspool.common.base.numbers import bound
from presspool.common.released.adapter_folder import AdapterFolder

_PRIVATE = re.compile(
    r"^Adapter (sha256:[0-9a-f]{64}) is \(ε = ([0-9]+(?:\.[0-9]+)?), δ = ([^)\s]+)\)-DP"
)
_LONGEST = 1000  # characters of a header; proxies refuse answers whose headers have 4 thousand
_PREFIX = "x-presspool-"
_TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What is known of an adapter.

    Attributes:
        adapter: `sha256:` of the weights.
        statement: the privacy in one line.
        unit: of protection: "reader" or "record".
        run: the contract's `sha256:`.
        card: the privacy card as JSON values; None where none was made.
        overrides: who let it into use without its release gate.
        writes: whether it writes texts.
    """

    adapter: str
    statement: str
    unit: str
    run: str
    card: dict[str, Any] | None
    overrides: tuple[str, ...] = ()
    writes: bool = False

    @classmethod
    def read(cls, folder: AdapterFolder) -> Provenance:
        """Of a checked folder.

        Raises:
            CardError: its card cannot be read, is another adapter's, or claims something else.
            FolderError: its statement claims more than its contract gives.
        """
        _require_paid(folder)
        card = card_beside(folder.path, folder.adapter, folder.contract)
        return cls(
            adapter=folder.adapter,
            statement=folder.statement,
            unit=folder.contract.privacy.unit,
            run=folder.contract.digest,
            card=card.model_dump(mode="json") if card else None,
            overrides=folder.overrides,
            writes=folder.contract.task.kind == "generation",
        )

    @property
    def headers(self) -> dict[str, str]:
        """Of an answer: adapter, run, ε, δ, unit, ledgers' entries, and an overridden gate."""
        found = _PRIVATE.match(self.statement)
        said = {"adapter": self.adapter, "run": self.run, "unit": self.unit}
        said["epsilon"] = found[2] if found else "none"
        if found:
            said["delta"] = found[3]
        if self.overrides:
            said["gate"] = "overridden"
        if entries := self._entries:
            told = ", ".join(f"{name}={at}" for name, at in entries.items())
            said["ledger-entries"] = told if len(told) <= _LONGEST else f"{len(entries)} outlets"
        return {f"{_PREFIX}{name}": value for name, value in said.items()}

    @property
    def document(self) -> dict[str, Any]:
        """For `GET /provenance/…`."""
        return {
            "adapter": self.adapter,
            "run": self.run,
            "unit": self.unit,
            "statement": self.statement,
            "ledger_entries": self._entries,
            "card": self.card,
            "overrides": list(self.overrides),
            **({"c2pa": self.assertion} if self.writes else {}),
        }

    @property
    def assertion(self) -> dict[str, Any]:
        """For whoever signs a text that was written here: which model made it.

        Source: C2PA Technical Specification 2.2, "Actions"; IPTC's digital source types.
        """
        agent = {"name": "PressPool", "version": __version__}
        own = {"adapter": self.adapter, "run": self.run, "statement": self.statement}
        made = {
            "action": "c2pa.created",
            "softwareAgent": agent,
            "digitalSourceType": _TRAINED,
            "parameters": {f"org.presspool.{name}": value for name, value in own.items()},
        }
        return {"label": "c2pa.actions.v2", "data": {"actions": [made]}}

    @property
    def _entries(self) -> dict[str, int]:
        outlets = self.card["governance"]["outlets"] if self.card else {}
        return {name: outlet["ledger_index"] for name, outlet in sorted(outlets.items())}


def _require_paid(folder: AdapterFolder) -> None:
    """See that a statement which claims an ε claims one that the contract gives, or a larger."""
    if (said := _PRIVATE.match(folder.statement)) is None:
        return
    contract = folder.contract
    least, delta = contract.trust.epsilon(contract), bound(contract.plan.delta)
    true = said[1] == folder.adapter and said[3] == delta and float(said[2]) >= least - TOLERANCE
    if not contract.plan.protected or not true:
        raise FolderError(
            "a privacy statement that the contract contradicts",
            where=str(folder.path),
            expected=f"{folder.adapter} with ε of {least:.9g} or more, δ = {delta}"
            if contract.plan.protected
            else "no claim: the run had no noise",
            got=f"{said[1]} with ε = {said[2]}, δ = {said[3]}",
            advice="copy the whole folder again from where the run was made",
        )
