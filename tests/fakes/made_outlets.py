"""Real outlets for tests: a policy that takes the tests' tiny contracts, a ledger, and its key.

Example: `make_real(outlet_toml, contract)` turns a simulation's outlet into a real one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes.made_ledgers import SIGNER

from presspool.client.consent.policy import Policy, parse_policy
from presspool.client.data.snapshots import SNAPSHOT, erased_in, freeze
from presspool.client.data.suppression_list import FOLDER, SuppressionList
from presspool.client.identity.settings import read_settings
from presspool.common.accounting.filter import Caps
from presspool.common.contract.contract import Contract
from presspool.common.ledger import entries
from presspool.common.ledger.store import Ledger
from presspool.common.transparency import notes

EPSILON, DELTA, ORDER = 60.0, 1e-5, 4


def pin_of(contract: Contract) -> dict[str, Any]:
    """A contract's base model as an entry of a policy."""
    pin = contract.model.model_dump(exclude={"id"})
    folder = Path(contract.model.id)
    return {"name": "tiny", **pin} | ({"folder": str(folder)} if folder.is_dir() else {})


def policy_body(contract: Contract, **changes: Any) -> dict[str, Any]:
    """A policy that admits a tiny contract, unless `changes` forbid it."""
    return {
        "base_models": [pin_of(contract)],
        "max_epsilon_per_run": 8.0,
        "min_noise_multiplier": 0.5,
        "answer_seconds": 0.0,
        "max_branch_ratio": 20.0,  # tiny frozen layers are weak
        "manual_approval": False,
        "witnesses": {"required": False},
        **changes,
    }


def policy_for(contract: Contract, **changes: Any) -> Policy:
    """The same, parsed."""
    return parse_policy(policy_body(contract, **changes))


def new_ledger(
    path: Path,
    *,
    epsilon: float = EPSILON,
    signer: notes.Signer = SIGNER,
    unit: str = "reader",
) -> Path:
    """A ledger's file."""
    Ledger.create(
        path, signer=signer, unit=unit, order=ORDER, delta=DELTA, caps=Caps(epsilon_max=epsilon)
    ).close()
    return path


@dataclass(frozen=True, kw_only=True)
class RealOutlet:
    """An outlet with policy and ledger.

    Attributes:
        settings: its `outlet.toml`.
        policy: its `policy.toml`.
        ledger: its `ledger.db`.
    """

    settings: Path
    policy: Path
    ledger: Path

    def entries(self) -> list[entries.Entry]:
        """All entries of the ledger, as another process reads them."""
        with Ledger(self.ledger) as ledger:
            return [entries.parse_entry(body) for body in ledger.bodies(0, ledger.book.size)]

    def kinds(self) -> list[str]:
        """The entries' kinds."""
        return [entry.kind for entry in self.entries()]

    def allow(self, body: Mapping[str, Any]) -> None:
        """Write another policy."""
        from tests.fakes.made_runs import toml  # loads torch, which a killed child has no time for

        self.policy.write_text(toml(body), encoding="utf-8")


def make_real(
    settings: Path, contract: Contract, *, epsilon: float = EPSILON, trial: bool = False
) -> RealOutlet:
    """Give an outlet of a simulation a policy, a ledger and a snapshot of its data.

    A trial's keeps its reproducible noise.
    """
    home = settings.parent / f"{settings.stem}-home"
    home.mkdir()
    made = RealOutlet(settings=settings, policy=home / "policy.toml", ledger=home / "ledger.db")
    made.allow(policy_body(contract))
    new_ledger(made.ledger, epsilon=epsilon)
    lines = f'policy = "{made.policy}"\nledger = "{made.ledger}"\n'
    said = settings.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in said if trial or not line.startswith("deterministic")]
    settings.write_text(lines + "".join(kept), encoding="utf-8")
    if read_settings(settings).file.is_file():
        take_snapshot(settings)
    return made


def take_snapshot(settings: Path) -> Path:
    """What `presspool outlet import --drop-damaged` makes of a real outlet's data."""
    read = read_settings(settings)
    assert read.ledger is not None
    assert isinstance(read.file, Path)
    snapshot, suppression = (
        read.ledger.parent / SNAPSHOT,
        SuppressionList(read.ledger.parent / FOLDER),
    )
    freeze(
        read.file,
        snapshot,
        columns=read.columns,
        kept=("text", "label"),
        drop_damaged=True,
        erased=erased_in(suppression),
        care=read.care,
    )
    return snapshot
