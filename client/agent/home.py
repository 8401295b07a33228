"""An outlet's own folder and the runs it is asked about, as its commands read them.

::

    outlet.toml  policy.toml  ledger.db  snapshot.parquet  approvals/  private/  identity/log.key

Example: ``policy_of(Path("."))`` is the policy that the outlet in this folder goes by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from presspool.client.consent.approvals import FOLDER, Approvals
from presspool.client.consent.policy import Policy, read_policy
from presspool.client.data.snapshots import SNAPSHOT
from presspool.client.data.suppression_list import FOLDER as PRIVATE
from presspool.client.data.suppression_list import SuppressionList
from presspool.client.identity.settings import OutletSettings, read_settings
from presspool.common.accounting import events
from presspool.common.base.errors import ContractError, InputError, LedgerError
from presspool.common.contract.contract import Contract, read_canonical
from presspool.common.ledger.store import Ledger

SETTINGS, POLICY, LEDGER, LOG_KEY = "outlet.toml", "policy.toml", "ledger.db", "identity/log.key"
WORK = "work"


def settings_in(home: Path) -> OutletSettings:
    """The outlet's settings; raises `InputError` where there are none."""
    return read_settings(home / SETTINGS)


def policy_path(home: Path) -> Path:
    """Where the outlet's policy is, or would be."""
    return settings_in(home).policy or home / POLICY


def policy_in(home: Path) -> Policy:
    """The outlet's policy; raises `InputError` where there is none."""
    return read_policy(policy_path(home))


def ledger_path(home: Path) -> Path:
    """Where the outlet's ledger is, or would be."""
    return settings_in(home).ledger or home / LEDGER


def approvals_in(home: Path) -> Approvals:
    """What the outlet's people approved."""
    return Approvals(policy_path(home).parent / FOLDER)


def suppression_list_in(home: Path) -> SuppressionList:
    """Who was eligible in which run, and who was erased."""
    return SuppressionList(ledger_path(home).parent / PRIVATE)


def snapshot_in(home: Path) -> Path:
    """Where the outlet's frozen data is, or would be: beside its ledger."""
    return ledger_path(home).parent / SNAPSHOT


def ledger_in(home: Path) -> AbstractContextManager[Ledger]:
    """The outlet's open ledger; raises `InputError` where there is none."""
    return ledger_at(ledger_path(home))


@contextmanager
def ledger_at(path: Path) -> Iterator[Ledger]:
    """An open ledger; raises `InputError` where there is none."""
    try:
        ledger = Ledger(path)
    except LedgerError as error:
        raise InputError(
            error.what,
            where=str(path),
            expected="this outlet's ledger",
            got=error.got,
            advice="make one: presspool outlet budget init",
        ) from None
    with ledger:
        yield ledger


def contract_of(home: Path, run: str) -> Contract:
    """The contract of a run that this outlet takes part in.

    Args:
        home: the outlet's.
        run: its digest, or a file as `contract_in` reads it.

    Raises:
        InputError: no task of a run with this digest is here, or it is another run's.
    """
    if not run.startswith("sha256:"):
        return contract_in(Path(run))
    from presspool.client.agent.spool import Spool

    spool = Spool(home / WORK)
    task = next((task for task in spool.tasks() if task.header.contract == run), None)
    if task is None:
        raise InputError(
            "no task of this run is here",
            where=str(home / WORK),
            expected="the digest of a run that this outlet trained",
            got=run,
            advice="name its run.toml or its contract instead",
        )
    contract = _canonical(spool.contract(task))
    if contract.digest != run:  # the header that the coordinator signed says one, its body another
        raise InputError(
            "the task is another run's than its header says",
            where=str(home / WORK),
            expected=run,
            got=contract.digest,
            advice="name the run's own run.toml or contract instead",
        )
    return contract


def contract_in(path: Path) -> Contract:
    """The frozen contract of a `run.toml`, or of a contract that was kept as JSON.

    Raises:
        ContractError: not a run.
        ModelError: its base model is not here, so that its hashes are not known.
    """
    from presspool.common.runs.run_file import freeze, read_run_file

    if path.suffix != ".json":
        return freeze(read_run_file(path).contract)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ContractError("cannot read", where=str(path), got=error.strerror) from None
    return _canonical(data)


def _canonical(data: bytes) -> Contract:
    return read_canonical(data, digest="sha256:" + hashlib.sha256(data).hexdigest())


def event_in(path: Path) -> events.SelfComposed | events.Composed:
    """The composed event of a run; needs no base model.

    Raises:
        ContractError: not a run.
        LedgerError: a run that no ledger can price.
    """
    from presspool.common.runs.run_file import read_run_file

    if path.suffix == ".json":
        contract = contract_in(path)
    else:
        contract = read_run_file(path).contract.with_noise()
    return events.from_dp(contract.trust.event(contract))
