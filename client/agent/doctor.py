"""`presspool outlet doctor`: is this outlet ready to work, and if not, what to do.

Each check says what it found, on this screen only. The coordinator learns that we asked, and
nothing of what was found; readers' data is not read beyond its columns' names.

Example: `all(finding.state != FAULT for finding in examine(Path("."), run=None))`.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from presspool import __version__
from presspool.client.agent import home as homes
from presspool.client.agent.ledger_renaming import require_own
from presspool.client.consent.base_models import selected
from presspool.client.consent.policy import Policy
from presspool.client.data.query_sources import opened
from presspool.client.data.snapshots import TO_DO, current, require_declared
from presspool.client.identity.dialling import reach
from presspool.client.identity.identity import Identity
from presspool.client.identity.joining import CALL_SECONDS, explaining
from presspool.client.witnessing.witness_rule import WitnessRule, evidence
from presspool.common.base.errors import GuardError, InputError, LinkError, PressPoolError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.contract.doors import TASKS, task_of
from presspool.common.data.decoders import column_names
from presspool.common.data.table_refusals import require_columns
from presspool.common.ledger.store import Ledger
from presspool.common.proto import enrolment_pb2 as messages
from presspool.common.proto.enrolment_pb2_grpc import MembershipStub
from presspool.common.runs.run_file import freeze, read_run_file
from presspool.common.transparency.quorum import needed

OK: Final = "ok"
WARNING: Final = "warning"
FAULT: Final = "fault"

COMMAND: Final = "presspool outlet doctor"

CLOSE_SECONDS, FAR_SECONDS = 60, 3600  # of clocks: a certificate begins two hours early
LITTLE_BYTES, TOO_LITTLE_BYTES = 2 << 30, 200 << 20  # of free disk
_DAY = 86_400

_SMALL_RUN = {
    "name": "self-test",
    "task": {"labels": ["a", "b"], "max_length": 16},
    "adapter": {"rank": 2, "alpha": 4, "targets": ["query", "value"]},
    "federation": {"rounds": 1, "local_steps": 1, "quorum": 1},
    "outlets": {"self": 1000},
    "privacy": {
        "noise_multiplier": 1.0,
        "clip": 1.0,
        "records_per_reader": 2,
        "sampling_rate": 0.1,
    },
    "optimizer": {"learning_rate": 0.1},
}


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What one check found.

    Attributes:
        check: its name.
        state: `OK`, `WARNING` (works, but look at it) or `FAULT` (does not work).
        found: in a few words.
        advice: what to do, where there is anything.
    """

    check: str
    state: str
    found: str
    advice: str = ""


def examine(home: Path, *, run: Path | None) -> Iterator[Diagnosis]:
    """Make all checks, yielding each finding as it is there.

    Args:
        home: the outlet's folder.
        run: a run whose columns are looked for and whose base model the engine is tried with;
            without one, a small run on the default base model.
    """
    try:
        identity = Identity.read(home)
    except PressPoolError as error:
        yield _fault("identity", error)
    else:
        yield _certificate(identity, time.time())
        yield from _coordinator(identity)
        yield _checked("ledger", lambda: _ledger(homes.ledger_path(home), identity))
        yield _checked("witnesses", lambda: _witnesses(identity))
    if homes.lies_elsewhere(home):
        yield _checked("source", lambda: _source(home))
    yield _versions()
    yield from unstopping(home, run)
    yield _checked("engine", lambda: _engine(home, run))


def unstopping(home: Path, run: Path | None = None) -> Iterator[Diagnosis]:
    """The checks of what a working agent does not stop for; arguments as for `examine`."""
    yield _checked("data", lambda: _data(home, run))
    yield _checked("erased", lambda: _erased(home))
    yield _checked("disk", lambda: _disk(home))


def _certificate(identity: Identity, now: float) -> Diagnosis:
    left = (identity.facts.ends - now) / _DAY
    found = f"{identity.name} of {identity.pool}, for {left:.0f} more days"
    if now >= identity.facts.ends:
        return Diagnosis(
            check="identity",
            state=FAULT,
            found=f"{identity.name}: expired",
            advice="ask the coordinator's operator for a new token, and join again",
        )
    late = now > identity.facts.renewal_due + _DAY
    advice = "it should have renewed itself: see that `presspool outlet run` runs" if late else ""
    return Diagnosis(check="identity", state=WARNING if late else OK, found=found, advice=advice)


def _coordinator(identity: Identity) -> Iterator[Diagnosis]:
    """The link, and what only the coordinator can say: its clock and version."""
    try:
        sent, reply, received = _ask(identity)
    except PressPoolError as error:
        yield _fault("link", error)
        for name in ("clock", "version"):
            yield Diagnosis(check=name, state=WARNING, found="the coordinator gave no answer")
        return
    took = (received - sent) * 1000
    yield Diagnosis(
        check="link",
        state=OK,
        found=f"mutual TLS 1.3 to {identity.address}, {took:.0f} ms with the handshake",
    )
    yield _clock(reply.time - (sent + received) / 2, slack=(received - sent) / 2)
    same = reply.version == __version__
    yield Diagnosis(
        check="version",
        state=OK if same else WARNING,
        found=f"{__version__} here, {reply.version[:40]!a} at the coordinator",
        advice="" if same else "install the same version on both sides",
    )


def _ask(identity: Identity) -> tuple[float, messages.CheckReply, float]:
    with (
        explaining(identity.address),
        reach(identity) as link,
    ):
        sent = time.time()
        reply = MembershipStub(link).Check(  # type: ignore[no-untyped-call]
            messages.CheckRequest(), timeout=CALL_SECONDS
        )
        return sent, reply, time.time()


def _clock(ahead: float, *, slack: float) -> Diagnosis:
    """`ahead`: the coordinator's clock less ours, known up to `slack`, both in seconds."""
    off = max(0.0, abs(ahead) - slack)
    state = OK if off <= CLOSE_SECONDS else WARNING if off <= FAR_SECONDS else FAULT
    side = "behind" if ahead > 0 else "ahead of"
    found = f"{off:.0f} s {side} the coordinator's"
    return Diagnosis(
        check="clock",
        state=state,
        found=found,
        advice="" if state == OK else "set the clock by NTP, here or there",
    )


def _versions() -> Diagnosis:
    parts = [f"{name} {version(name)}" for name in ("flwr", "torch", "opacus", "grpcio")]
    return Diagnosis(
        check="software", state=OK, found=", ".join([f"Python {platform.python_version()}", *parts])
    )


def _data(home: Path, run: Path | None) -> Diagnosis:
    """The snapshot is there; what a run would make of its rows is `check-data`'s to say."""
    settings, snapshot = homes.settings_in(home), homes.snapshot_in(home)
    made = current(snapshot, settings)
    if made.opening is not None:
        with homes.ledger_in(home) as ledger:
            require_declared(made, snapshot, ledger.book.frozen)
    there = column_names(snapshot)
    missing = _missing(there, home, run)
    if missing:
        return Diagnosis(
            check="data",
            state=FAULT,
            found=f"{snapshot} has no column {', '.join(missing)}",
            advice="presspool outlet import --task KIND, of the run's kind of task",
        )
    since = made.imported.timestamp()
    file = settings.data if isinstance(settings.data, Path) else None
    newer = file is not None and file.exists() and file.stat().st_mtime > since
    found = f"{made.records:,} records, imported on {made.imported:%Y-%m-%d}"
    return Diagnosis(
        check="data",
        state=WARNING if newer else OK,
        found=f"{found}; {settings.data} is newer" if newer else found,
        advice=TO_DO if newer else f"presspool outlet check-data {snapshot} reads all of it",
    )


def _source(home: Path) -> Diagnosis:
    """Where the records lie, if that is no file: it answers, and has the readers' column."""
    settings = homes.settings_in(home)
    with opened(settings.data, settings.home) as source:
        require_columns(source, [settings.columns.reader])
    return Diagnosis(check="source", state=OK, found=f"{settings.data} answers")


def _ledger(path: Path, identity: Identity) -> Diagnosis:
    if not path.exists():
        return Diagnosis(
            check="ledger",
            state=WARNING,
            found="there is none yet",
            advice="presspool outlet budget init",
        )
    with Ledger(path) as ledger:
        require_own(ledger, path, identity)
        return Diagnosis(check="ledger", state=OK, found=f"{ledger.book.size} entries, whole")


def _erased(home: Path) -> Diagnosis:
    """Erased readers can be told apart; if not, rounds are trained on nobody."""
    count = len(homes.suppression_list_in(home).excluded())
    return Diagnosis(check="erased", state=OK, found=f"{count} readers are left out")


def _witnesses(identity: Identity) -> Diagnosis:
    """Contradictions first; then whether a quorum can be made, and of whom."""
    rules = homes.policy_in(identity.home).witnesses
    rule = WitnessRule.of(identity, liars=rules.liars)
    found = evidence(rule.folder, rule.log)
    if found is not None:
        return Diagnosis(
            check="witnesses",
            state=FAULT,
            found=f"the coordinator contradicts itself: {found}",
            advice=f"compare with the other outlets; presspool audit fork {found} "
            f"--key {identity.log_key} says what it proves",
        )
    if not rules.required:
        return Diagnosis(
            check="witnesses",
            state=WARNING,
            found="not required: nobody would notice "
            "a coordinator that shows each outlet another run",
            advice="approve peers, and write required = true under [witnesses] in policy.toml",
        )
    try:
        rule.check_peers()
    except GuardError as error:
        return _fault("witnesses", error)
    least = needed(peers=len(rule.approved), liars=rules.liars)
    names = ", ".join(peer.outlet for peer in rule.approved)
    return Diagnosis(
        check="witnesses",
        state=OK,
        found=f"{least} of {len(rule.approved)} approved peers must have seen a round: {names}",
    )


def _disk(home: Path) -> Diagnosis:
    free = shutil.disk_usage(home).free
    found = f"{free / (1 << 30):.1f} GiB free"
    if not os.access(home, os.W_OK) or free < TOO_LITTLE_BYTES:
        return Diagnosis(
            check="disk",
            state=FAULT,
            found=f"{found}, or not writable",
            advice=f"make room, or let this user write to {home}",
        )
    low = free < LITTLE_BYTES
    return Diagnosis(
        check="disk",
        state=WARNING if low else OK,
        found=found,
        advice="make room: unfinished work is kept on disk" if low else "",
    )


def _engine(home: Path, run: Path | None) -> Diagnosis:
    from presspool.client.engine.selftest import prove
    from presspool.common.models.models import build

    contract = _contract(run)
    pin = selected(contract.model, _policy(home).base_models)
    with pin.placed():
        contract = freeze(contract.replace(model={"manifest": pin.manifest}))
        prove(build(contract), contract)
    return Diagnosis(
        check="engine", state=OK, found=f"clips, noises, trains and saves with {contract.model.id}"
    )


def _missing(there: Sequence[str], home: Path, run: Path | None) -> list[str]:
    """Columns that the run needs; without one, what the policy's nearest task still needs."""
    if run is not None:
        return [name for name in task_of(_contract(run)).columns if name not in there]
    lacking, tasks = [], [TASKS[kind] for kind in _policy(home).tasks or Policy().tasks]
    for task in tasks:
        with suppress(InputError):  # the columns are none of its formats'
            found = task.columns_in([name for name in there if name in task.columns])
            lacking.append([name for name in found if name not in there])
    return min(lacking, key=len, default=list(tasks[0].columns))


def _policy(home: Path) -> Policy:
    return homes.policy_in(home) if homes.policy_path(home).exists() else Policy()


def _contract(run: Path | None) -> Contract:
    """Of the run that was asked about, or a small one of the default task."""
    return read_run_file(run).contract if run else parse_contract(_SMALL_RUN)


def _checked(name: str, check: Callable[[], Diagnosis]) -> Diagnosis:
    try:
        return check()
    except PressPoolError as error:
        return _fault(name, error)
    except OSError as error:
        return Diagnosis(check=name, state=FAULT, found=f"{error.strerror}: {error.filename}")


def _fault(name: str, error: PressPoolError) -> Diagnosis:
    where = f"{error.where}: " if error.where else ""
    got = f" ({error.got})" if error.got is not None and not isinstance(error, LinkError) else ""
    return Diagnosis(
        check=name, state=FAULT, found=f"{where}{error.what}{got}", advice=error.advice
    )
