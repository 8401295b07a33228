"""An outlet's own folder and the runs it is asked about, as its commands read them.

::

    outlet.toml  policy.toml  ledger.db  snapshot.parquet  approvals/  private/  identity/log.key

Example: ``policy_of(Path("."))`` is the policy that the outlet in this folder goes by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
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
_FEWEST = len("sha256:") + 8  # what is typed of a digest


def settings_in(home: Path) -> OutletSettings:
    """The outlet's settings; raises `InputError` where there are none."""
    return read_settings(home / SETTINGS)


def lies_elsewhere(home: Path) -> bool:
    """Whether the outlet's records lie elsewhere than in a file, as far as settings say so."""
    with suppress(InputError):
        return not isinstance(settings_in(home).data, Path)
    return False


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


def require_ledger(home: Path) -> Path:
    """Where the outlet's ledger is; raises `InputError` where there is none."""
    with ledger_in(home):
        return ledger_path(home)


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
        run: its digest, the first digits of it, its name, or a file as `contract_in` reads it.

    Raises:
        InputError: no task of such a run is here, several are, or it is another run's.
    """
    if Path(run).is_file():
        return contract_in(Path(run))
    from presspool.client.agent.spool import Spool

    spool = Spool(home / WORK)
    tasks = {task.header.contract: task for task in spool.tasks()}
    run = the_one(run, tasks, lambda digest: _canonical(spool.contract(tasks[digest])).name)
    contract = _canonical(spool.contract(tasks[run]))
    if contract.digest != run:  # the header that the coordinator signed says one, its body another
        raise InputError(
            "the task is another run's than its header says",
            where=str(home / WORK),
            expected=run,
            got=contract.digest,
            advice="name the run's own run.toml or contract instead",
        )
    return contract


def the_one(run: str, known: Iterable[str], name_of: Callable[[str], str]) -> str:
    """The digest that is meant by it, by its first digits, or by the run's name.

    Args:
        run: what was typed.
        known: digests of the runs that are here.
        name_of: a run's name by its digest.

    Raises:
        InputError: no run here is called so, or several are.
    """
    by_digest, enough = run.startswith("sha256:"), len(run) >= _FEWEST
    found = [d for d in known if (d.startswith(run) and enough if by_digest else name_of(d) == run)]
    if len(found) == 1:
        return found[0]
    raise InputError(
        "several runs are called so" if found else "no task of this run is here",
        where="RUN",
        expected=", ".join(found) or "the digest, 8 of its first digits, or the name of a run here",
        got=run,
        advice="name its run.toml or its contract instead",
    )


def waiting_in(home: Path, run: str) -> str:
    """The digest of a run that waits for the outlet's people, as `the_one` reads it.

    Raises:
        InputError: no such run waits, or several do.
    """
    approvals = approvals_in(home)
    return the_one(run, approvals.waiting(), lambda d: contract_in(approvals.kept(d)).name)


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
    return contract.trust.event(contract)
