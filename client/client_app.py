"""The outlet's Flower `ClientApp`: one message in, one privatised update out.

The same app runs in a simulation's worker process, on Flower's own engine and beside a real
database. Which outlet it is comes from its own `outlet.toml`, never from the coordinator: the
node's configuration names the file (`outlet-config`); on Flower's simulation engine, which knows
only partition numbers, the run's `outlets-folder` lists the files.

A real outlet names a policy and a ledger there; decision and budget then stand here, in the app, so
that whatever carries its messages (our own agent, stock Flower) cannot go round them. The steps
of a task, and why each stands where it stands:

1. The contract is parsed and compared with its digest: nothing is decided on half-read words.
2. Decision: policy, what the ledger knows of run and round, approval, quiet hours, and that enough
   witnesses have seen the adapter that the round starts from. First because it is cheap and final;
   nothing has been loaded for a run that is refused.
   A phase that does not train ends here: the trust model's words leave, made without model, budget
   or readers (`presspool.common.trust`).
3. Model, from where the policy says, and self-test, on made texts. Before any budget is taken: an
   engine that fails its proof must cost nobody anything. Its outcome hangs on no reader's record.
4. The adapter that came in, against the model's own names and shapes, and that records are computed
   alike under it, on made ones: needs the model, and still costs nothing.
5. Reserve: the run's whole cost is on disk before the first gradient of its first round, and which
   adapter a round starts from before each round. From here a crash counts as spent.
6. Train: each step is counted against the reservation before a reader is drawn for it. Readers'
   data is first read here, after the last moment at which a task could be refused; a real outlet
   reads its snapshot (`presspool.client.data.snapshots`) and no other file, for each round anew,
   leaves erased readers out and notes who could be drawn
   (`presspool.client.data.eligibility`).
7. Keep: the answer's exact bytes are on disk where the node names a file for them
   (`presspool.client.release.kept_reply`), so that a kill from here on cannot lose what is paid
   for.
8. Intent: their digest is on disk before anybody has them. Whoever asks for this round again gets
   the kept bytes, if they are the ones that are bound, and a code otherwise; never others.
9. Release: the answer is handed out.

Invariants:
    * A task is a contract: data that is checked against its digest. No code is received.
    * Data never stops an admitted run: unreadable or empty data trains on nothing, pure noise.
    * Exceptions are logged here and leave as a code from a fixed list.
    * Outlets of one simulation that a worker serves together meet in step 6 alone; every other step
      each takes by itself, and one that is refused or fails is nobody else's concern.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from flwr.app import Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from presspool.client.data.eligibility import eligible
from presspool.client.data.readers import Readers, read_readers
from presspool.client.data.snapshots import SNAPSHOT
from presspool.client.data.suppression_list import FOLDER, SuppressionList
from presspool.client.enforcement import Gate, opened
from presspool.client.engine.compute import Compute
from presspool.client.engine.randomness import SecureRandom
from presspool.client.engine.selftest import prove
from presspool.client.engine.together.joint_tasks import PassRequest, Task, together
from presspool.client.engine.training import RoundWork
from presspool.client.identity.settings import OutletSettings, read_settings
from presspool.client.release import kept_reply
from presspool.client.release.operators_log import OperatorsLog
from presspool.client.release.release import release, release_failure, release_words
from presspool.client.round import Round
from presspool.common.base.errors import GuardError, InputError
from presspool.common.contract.cohorts import turn_of
from presspool.common.contract.contract import Contract, read_canonical
from presspool.common.contract.contract_schema import Model, TaskTable
from presspool.common.contract.doors import TASKS, task_of
from presspool.common.data.tables import Columns
from presspool.common.models.models import build, headed_of, is_paired
from presspool.common.wire.flower import from_bytes
from presspool.common.wire.update import AdapterUpdate

log = logging.getLogger(__name__)

app = ClientApp()
_compute = Compute()
LOOPBACK = "loopback"  # in a node's configuration: the coordinator is on this machine
SIMULATED = "simulated"  # likewise: and so are all other outlets, in one simulation


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train one round on this outlet's readers and release the update."""
    (reply,) = together([_replied(message, context)], _compute)
    return reply


def _replied(message: Message, context: Context) -> Task[Message]:
    try:
        near, simulated = (bool(context.node_config.get(k, False)) for k in (LOOPBACK, SIMULATED))
        asked = Round.of(message.content, simulated=simulated)
        data = yield from _worked(asked, settings_of(context), kept=None, loopback=near)
        return Message(from_bytes(data), reply_to=message)
    except Exception as error:  # noqa: BLE001  its text may hold readers' data
        OperatorsLog(log).untrained(error)
        return release_failure(error, reply_to=message)


def work(
    asked: Round,
    settings: OutletSettings,
    *,
    kept: Path | None = None,
    loopback: bool = False,
) -> bytes:
    """The exact bytes of this outlet's answer to a phase; whoever carries it sends these.

    Args:
        asked: the round.
        settings: the outlet's.
        kept: where the bytes are kept for the time of a kill.
        loopback: the coordinator is on this machine; only then a real outlet takes noise that can
            be drawn again.

    Raises:
        PressPoolError: it may not, or could not, train; `release_failure` says what leaves of that.
    """
    (data,) = together([_worked(asked, settings, kept=kept, loopback=loopback)], _compute)
    return data


def _worked(
    asked: Round, settings: OutletSettings, *, kept: Path | None, loopback: bool
) -> Task[bytes]:
    contract = asked.contract
    with opened(settings, loopback=loopback) as gate:
        try:
            gate.allow(asked)
        except GuardError as refused:
            return _again(refused, kept_reply.handed_out_before(kept, gate.bound(asked)))
        if not asked.trains:
            return _spoken(asked, gate, settings.name, kept)
        with gate.placed(asked):
            model = _model(asked)
            _readable(model)
        with gate.round(asked, model, _compute) as meter:
            update = yield from answer(asked, settings, before_step=meter.step)
            data = release(update, contract, partial(gate.seal, asked))
            kept_reply.keep_and_bind(data, meter.bind, kept)
            return data


def _spoken(asked: Round, gate: Gate, outlet: str, kept: Path | None) -> bytes:
    """The words of a phase that does not train.

    The run's last are kept before the secrets that made them go: a kill loses neither.
    """
    known = kept_reply.said_before(kept) if asked.last else None
    data = known or release_words(asked.task, gate.words(asked), outlet=outlet, base=asked.base)
    if asked.last:
        if known is None:
            kept_reply.keep(data, kept)
        gate.finish(asked)
    return data


def _again(refused: GuardError, known: bytes | None) -> bytes:
    """The bytes that are bound already; raises the refusal where that is of anything else."""
    if known is None or refused.code not in ("round-released", "run-over"):
        raise refused
    return known


def serve(messages: Sequence[Message], settings: Sequence[Path]) -> list[Message]:
    """What the apps of several outlets answer where messages stay on this machine.

    They train side by side where they can, as outlets of a simulation's worker do; each answers
    what it answers alone.

    Args:
        messages: a task for each.
        settings: each one's `outlet.toml`; no outlet comes twice.
    """
    tasks = [(m, _simulated_context(m, file)) for m, file in zip(messages, settings, strict=True)]
    if len(tasks) > 1 and all(m.metadata.message_type == MessageType.TRAIN for m in messages):
        return together([_replied(*task) for task in tasks], _compute)
    return [app(*task) for task in tasks]


def _simulated_context(message: Message, settings: Path) -> Context:
    return Context(
        run_id=message.metadata.run_id,
        node_id=message.metadata.dst_node_id,
        node_config={"outlet-config": str(settings), LOOPBACK: True, SIMULATED: True},
        state=RecordDict(),
        run_config={},
    )


def answer(
    asked: Round,
    settings: OutletSettings,
    *,
    before_step: Callable[[int], None] = lambda _: None,
) -> Task[AdapterUpdate]:
    """The privatised update of this outlet for one round that passed the gate.

    Args:
        asked: the round.
        settings: the outlet's.
        before_step: told each step of the run before it is taken.

    Raises:
        ModelError: the base model is missing or is not the pinned one.
        EngineError: the model cannot be trained with exact per-reader gradients.
    """
    contract = asked.contract
    this_round = RoundWork(
        round=asked.number,
        turn=turn_of(contract, settings.name, number=asked.number),
        population=contract.outlets[settings.name],
        random=_random(settings, asked.number),
        before_step=before_step,
    )
    delta = yield PassRequest(
        model=_model(asked),
        state=asked.state,
        base=asked.base,
        contract=contract,
        readers=_readers(settings, contract),
        work=this_round,
    )
    return AdapterUpdate(
        outlet=settings.name,
        round=asked.number,
        phase=asked.phase,
        contract=contract.digest,
        base=asked.base,
        delta=delta,
    )


def settings_of(context: Context) -> OutletSettings:
    """The settings of the outlet that this node is.

    Raises:
        InputError: the node says neither which file nor which partition it is.
    """
    node: dict[str, Any] = dict(context.node_config)
    if "outlet-config" in node:
        return read_settings(Path(str(node["outlet-config"])))
    if "partition-id" in node and "outlets-folder" in context.run_config:
        files = sorted(Path(str(context.run_config["outlets-folder"])).glob("*.toml"))
        if (number := int(node["partition-id"])) < len(files):
            return read_settings(files[number])
    raise InputError(
        "this node does not know which outlet it is",
        where="node configuration",
        expected="outlet-config = the path of an outlet.toml, or a partition-id for which "
        "outlets-folder holds a file",
        got=node,
    )


def _random(settings: OutletSettings, round: int) -> SecureRandom:
    if settings.deterministic is None:
        return SecureRandom()
    return SecureRandom.deterministic(settings.deterministic, settings.name, round)


def _model(asked: Round) -> nn.Module:
    return _proved(asked.task.contract, asked.task.digest)


def _readable(model: nn.Module) -> None:
    """Have what reads texts in memory while it is known where it lies: caches may have lost it."""
    task = headed_of(model).task
    _ = task.tokenizer, is_paired(task.model)


# A worker serves many outlets of one run, so the base model is loaded and proved once. It keeps
# nothing between tasks: every task puts its own adapter state into all trainable parameters.
@lru_cache(maxsize=1)
def _proved(contract: str, digest: str) -> nn.Module:
    checked = read_canonical(contract, digest=digest)
    model = build(checked)
    prove(model, checked)
    return model


def _readers(settings: OutletSettings, contract: Contract) -> Readers:
    if settings.ledger is None:
        return _simulated(settings.file, settings.columns, contract.task, contract.model)
    home = settings.ledger.parent
    readers = eligible(SuppressionList(home / FOLDER), home / SNAPSHOT, contract)
    _forget_others(readers, contract)
    return readers


def _forget_others(readers: Readers, contract: Contract) -> None:
    """A text that nobody has any more, an erased reader's say, leaves this process's memory too."""
    cached = _compute.activations.texts
    try:
        texts = task_of(contract).texts(readers.table)
        there = pc.is_in(pa.array(cached, pa.large_string()), value_set=texts).to_pylist()
    except Exception:  # nothing stops an admitted run
        log.exception("what the frozen layers made of texts is thrown away")
        there = [False] * len(cached)
    _compute.activations.forget(t for t, kept in zip(cached, there, strict=True) if not kept)


# As many as a worker of a large simulation serves round after round.
@lru_cache(maxsize=512)
def _simulated(data: Path, columns: Columns, table: TaskTable, model: Model) -> Readers:
    task = TASKS[table.kind](table, model)
    return read_readers(data, columns=columns, task=task, strict=False)
