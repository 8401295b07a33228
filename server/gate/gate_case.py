"""What is judged, opened once: every check gets the same case and gives its findings.

Invariant: a case is made of files whose digests the registry's entry names; nothing of the run's
folder outside is believed.

Example: `list(floors.findings(case))`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from presspool.common.audit.cards.card import Card
from presspool.common.audit.evidence.ledger_view import OutletReading
from presspool.common.ledger.recompute import Recomputed
from presspool.common.released.adapter_model import AdapterModel
from presspool.common.runs.results import RunResult
from presspool.server.gate.finding import Finding
from presspool.server.gate.release_policy import ReleasePolicy
from presspool.server.registry.intake import Papers


@dataclass(frozen=True, kw_only=True)
class JudgedAdapter:
    """An adapter that a case speaks of.

    Attributes:
        title: NAME@VERSION.
        entry: id in the registry.
        folder: its checked files.
        papers: adapter and card, which belong to each other.
        result: of its run.
    """

    title: str
    entry: str
    folder: Path
    papers: Papers
    result: RunResult

    @property
    def card(self) -> Card:
        """Its privacy card."""
        return self.papers.card

    @cached_property
    def model(self) -> AdapterModel:
        """The adapter at work; loaded at the first question."""
        return AdapterModel(self.papers.adapter)


@dataclass(frozen=True, kw_only=True)
class GateCase:
    """Everything that checks may look at.

    Attributes:
        candidate: what shall be released.
        production: what is in use now for the same task and language, if anything.
        policy: what the newsroom demands.
        inputs: `sha256:` of each file that was brought: policy, rows, lists, ledgers, attack.
        ledgers: outlets' exports that were brought, by the ledger's name.
        attack: content of the `attack.json` that was brought, if any.
        public: public rows of the policy's file, with the task's columns as it parses them, and
            the policy's groups as text; None without one.
        recomputed: each export, by the ledger's name, recomputed; it continues the card's head.
        beside: the policy's folder, from which its names of files count.
    """

    candidate: JudgedAdapter
    production: JudgedAdapter | None
    policy: ReleasePolicy
    ledgers: Mapping[str, OutletReading]
    attack: bytes | None
    public: pa.Table | None
    recomputed: Mapping[str, Recomputed] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    beside: Path = Path()


class Check(Protocol):
    """A module of `checks`."""

    def findings(self, case: GateCase, /) -> Iterator[Finding]:
        """What it finds; nothing where the policy has no table of its name."""
        ...
