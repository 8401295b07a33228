"""A member's home, ready to work: settings, policy, snapshot, ledger, peers, and a run's approval.

Invariants:
    * The outlet's name is the one that its pool's root has certified; nobody types it.
    * Everything is judged before anything is written; then, the snapshot is made first, because a
      damaged record refuses it.
    * Nothing that is there is replaced. What a kill left half done, the same wish ends.

Example::

    planned = plan(home, HomeWish(data=Path("readers.csv"), ledger=LedgerWish(...)))
    planned.write()["kept"]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from presspool.client.agent import home as homes
from presspool.client.agent.ledger_making import LedgerWish, make
from presspool.client.agent.moving import require_paid
from presspool.client.consent import budget_report, decision
from presspool.client.consent.policy import Policy, example, parse_policy, read_policy
from presspool.client.data.check_data import task_named
from presspool.client.data.query_sources import opened, remove_spilled
from presspool.client.data.snapshots import SNAPSHOT, Manifest, erased_in, freeze
from presspool.client.data.suppression_list import FOLDER as PRIVATE
from presspool.client.data.suppression_list import SuppressionList
from presspool.client.identity.data_table import DataTable
from presspool.client.identity.identity import Identity
from presspool.client.identity.settings import OutletSettings, read_settings
from presspool.client.witnessing import trusted_peers
from presspool.client.witnessing.witness_client import peer_offered, peers_offered
from presspool.client.witnessing.witness_folder import WitnessFolder
from presspool.common.base.errors import FolderError, InputError
from presspool.common.base.files import replace_file
from presspool.common.base.toml_values import toml_value
from presspool.common.contract.contract import Contract
from presspool.common.data.decoders import Moved
from presspool.common.data.tables import Columns
from presspool.common.ledger.frozen_data import Opening
from presspool.common.wire.peers import PeerKeys


@dataclass(frozen=True, kw_only=True)
class HomeWish:
    """What an outlet's operator decides.

    Attributes:
        data: the readers' records.
        ledger: what it is made with.
        columns: how the file's columns are called.
        task: what the data is for.
        drop_damaged: leave damaged records out instead of refusing the file.
        epsilon_per_run: the policy's cap on one run.
        run: a run's file, which is approved; None for none.
        by: who approves it.
        peers: outlet to the fingerprint that its operator said.
    """

    data: Path
    ledger: LedgerWish
    columns: Columns = field(default_factory=Columns)
    task: str = "classification"
    drop_damaged: bool = False
    epsilon_per_run: float = Policy().max_epsilon_per_run
    run: Path | None = None
    by: str = ""
    peers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PlannedHome:
    """A wish that holds together.

    Attributes:
        identity: the member.
        wish: the operator's.
        policy: the one that is there, or the one that is wished for.
        contract: of the run that is approved.
        share: of the lifetime budget that the run would use; None without a run.
        peers: approved with the home, as the coordinator offers them.
        kept: files that are there already, by name.
    """

    identity: Identity
    wish: HomeWish
    policy: Policy
    contract: Contract | None
    share: float | None
    peers: tuple[PeerKeys, ...]
    kept: tuple[str, ...]

    def write(self, moved: Moved = lambda _done, _total: None) -> dict[str, Any]:
        """Make what is not there yet.

        Args:
            moved: told of the bytes of data that are read.

        Returns:
            What there is now: names, paths, records, the ledger's key.

        Raises:
            DataError: the data is damaged; nothing was written.
            StorageError: the disk refuses; the same wish goes on.
        """
        home, wish = self.identity.home, self.wish
        settings, text = _settings(self.identity, wish)
        frozen = import_into(
            home, settings, task=wish.task, drop_damaged=wish.drop_damaged, moved=moved
        )
        if homes.SETTINGS not in self.kept:
            replace_file(home / homes.SETTINGS, text.encode())
        if homes.POLICY not in self.kept:
            replace_file(home / homes.POLICY, _policy_text(wish).encode())
        if homes.LEDGER not in self.kept:
            make(home, wish.ledger)
        for peer in self.peers:
            said = wish.peers[peer.outlet]
            trusted_peers.approve(home, peer, said, own=self.identity.peer)
        if self.contract is not None:
            homes.approvals_in(home).approve(self.contract.digest, by=wish.by)
        return {
            "outlet": self.identity.name,
            "epsilon_max": wish.ledger.epsilon_max,
            "epsilon_per_run": self.policy.max_epsilon_per_run,
            "records": frozen.records,
            "dropped": dict(frozen.dropped),
            "key": self.identity.peer.log.text,
            "kept": list(self.kept),
            "approved": self.contract.digest if self.contract else None,
            "share": self.share,
            "peers": [peer.outlet for peer in trusted_peers.approved(home)],
        }


def plan(home: Path, wish: HomeWish) -> PlannedHome:
    """Judge a wish; writes nothing.

    Raises:
        InputError: not joined; a value, a file, a run or a peer's fingerprint that cannot be.
        FolderError: other settings or another ledger are there.
        GuardError: the policy refuses the run.
        LinkError: peers are named, and the coordinator cannot be reached.
    """
    identity = Identity.read(home)
    kept = _kept(home, _settings(identity, wish)[0], wish.ledger)
    rules = _policy(home, wish)
    wish.ledger.caps(rules)
    contract = None if wish.run is None else homes.contract_in(wish.run)
    if contract is not None:
        _require_ours(contract, identity.name, wish.run)
        known = {peer.outlet for peer in trusted_peers.approved(home)}
        decision.check_policy(contract, rules, peers=known.union(wish.peers))
    offered = peers_offered(identity) if wish.peers else []
    found = {name: peer_offered(offered, name) for name in wish.peers}
    for name, peer in found.items():
        trusted_peers.require_fingerprint(peer, wish.peers[name])
    return PlannedHome(
        identity=identity,
        wish=wish,
        policy=rules,
        contract=contract,
        share=None if contract is None else _share(contract, wish.ledger),
        peers=tuple(found.values()),
        kept=kept,
    )


def import_into(
    home: Path, settings: OutletSettings, *, task: str, drop_damaged: bool, moved: Moved
) -> Manifest:
    """Freeze the data that settings name, without erased readers.

    Raises:
        InputError: records of a table, and no ledger that could have an entry of them, or one that
            was restored and has not paid; a care that the ledger's unit or cap forbids; others as
            `opened` and `freeze`.
        RollbackError: records of a table, and an older copy of the ledger.
    """
    path = settings.ledger or home / homes.LEDGER
    folder = path.parent
    suppression, kind = SuppressionList(folder / PRIVATE), task_named(task)

    def declare(opening: Opening) -> None:
        with homes.ledger_at(path) as ledger:
            ledger.freeze_data(opening, head=WitnessFolder.at(settings.home).own_head())

    if path.exists():
        with homes.ledger_at(path) as ledger:
            settings.care.require_unit(ledger.book.opened.unit)
    if isinstance(settings.data, DataTable):
        settings.care.require_cap(settings.data.most_records)
        require_paid(home)
        with homes.ledger_at(path):  # there is one, before anything is read
            pass
    with suppression.locked():
        remove_spilled(settings.home)
        with opened(settings.data, settings.home) as source:
            return freeze(
                source,
                folder / SNAPSHOT,
                columns=settings.columns,
                kept=kind.columns_in(settings.columns.found(source, kind.columns)),
                damage=kind.damage,
                drop_damaged=drop_damaged,
                erased=erased_in(suppression),
                care=settings.care,
                home=settings.home,
                declare=declare,
                watch=moved,
            )


def _settings(identity: Identity, wish: HomeWish) -> tuple[OutletSettings, str]:
    """The settings, and `outlet.toml` that says them."""
    home, data = identity.home.absolute(), wish.data.absolute()
    named = data.relative_to(home) if data.is_relative_to(home) else data
    body = {
        "name": identity.name,
        "data": str(named),
        "policy": homes.POLICY,
        "ledger": homes.LEDGER,
    }
    lines = ["# Made by presspool outlet init; the name is the pool's.", *_toml(body)]
    lines += ["", "[columns]", *_toml(dict(wish.columns))]
    settings = OutletSettings(
        name=identity.name,
        data=wish.data,
        columns=wish.columns,
        policy=identity.home / homes.POLICY,
        ledger=identity.home / homes.LEDGER,
    )
    return settings, "\n".join(lines) + "\n"


def _toml(body: Mapping[str, str]) -> list[str]:
    return [f"{key} = {toml_value(value)}" for key, value in body.items()]


def _kept(home: Path, settings: OutletSettings, wish: LedgerWish) -> tuple[str, ...]:
    """Which files are there; raises `FolderError` where they are of another wish."""
    names = (homes.SETTINGS, homes.POLICY, homes.LEDGER)
    kept = tuple(name for name in names if (home / name).exists())
    if homes.SETTINGS in kept:
        _require_same(read_settings(home / homes.SETTINGS), settings)
    if homes.LEDGER in kept:
        with homes.ledger_at(home / homes.LEDGER) as ledger:
            opened = ledger.book.opened
        there = (opened.epsilon_max, opened.delta, opened.order, opened.unit)
        asked = (wish.epsilon_max, wish.delta, wish.order, wish.unit)
        if there != asked:
            raise FolderError(
                "there is another ledger already",
                where=str(home / homes.LEDGER),
                expected="ε, δ, order and unit " + ", ".join(map(str, there)),
                got=", ".join(map(str, asked)),
                advice="keep it: a new one would forget what was spent",
            )
    return kept


def _require_same(there: OutletSettings, asked: OutletSettings) -> None:
    """Raise `FolderError` where the settings that are there name other columns or files."""
    for key in ("data", "columns", "policy", "ledger"):
        got, wanted = getattr(there, key), getattr(asked, key)
        if isinstance(got, Path):
            got, wanted = got.resolve(), wanted.resolve()
        if got != wanted:
            raise FolderError(
                "there are other settings already",
                where=f"{there.home / homes.SETTINGS} {key}",
                expected=wanted,
                got=got or "nothing",
                advice="edit the file, or type what it says",
            )


def _policy(home: Path, wish: HomeWish) -> Policy:
    if (home / homes.POLICY).exists():
        return read_policy(home / homes.POLICY)
    body = {"tasks": [wish.task], "max_epsilon_per_run": wish.epsilon_per_run}
    return parse_policy(body, where="--task, --epsilon-per-run")


def _policy_text(wish: HomeWish) -> str:
    return example(task=wish.task, max_epsilon_per_run=wish.epsilon_per_run)


def _require_ours(contract: Contract, name: str, run: Path | None) -> None:
    if name not in contract.outlets:
        raise InputError(
            "the run does not name this outlet",
            where=f"{run} [outlets]",
            expected=name,
            got=", ".join(contract.outlets),
            advice="ask the coordinator's operator",
        )


def _share(contract: Contract, wish: LedgerWish) -> float:
    """The share of a new ledger that a run uses; raises `InputError` where it does not fit."""
    event = contract.trust.event(contract)
    share = budget_report.share_of(
        event, epsilon=wish.epsilon_max, delta=wish.delta, order=wish.order
    )
    if share > 1:
        raise InputError(
            "the run does not fit into the ledger",
            where="--epsilon-max, --order",
            got=f"{share:.1%} of it",
            advice="presspool outlet budget plan RUN says which ε and order would hold it",
        )
    return share
