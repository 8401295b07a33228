"""Real outlets in real runs: what is charged, what an auditor finds, what a bad coordinator gets.

Detectors and planted mistakes: each promise of the order reserve, train, bind, hand out is checked
by a function, and that function must fail where the promise is broken on purpose.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Message
from tests.fakes.instruments import detectors
from tests.fakes.instruments.detectors import (
    OUTLET,
    Bench,
    ask,
    check_failure,
    task_of,
    write_data,
    write_outlet,
)
from tests.fakes.made_ledgers import SIGNER
from tests.fakes.made_outlets import ORDER, RealOutlet, make_real, policy_body
from tests.fakes.made_runs import write_run

from presspool.client import client_app
from presspool.client.consent.approvals import Approvals
from presspool.client.consent.budget import Budget
from presspool.client.consent.meter import Meter
from presspool.client.consent.policy import read_policy
from presspool.client.data.snapshots import SNAPSHOT
from presspool.client.engine.together import joint_tasks
from presspool.client.release import kept_reply
from presspool.common.accounting import events
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.ledger import entries
from presspool.common.ledger.export import export
from presspool.common.ledger.recompute import recompute
from presspool.common.ledger.store import Ledger
from presspool.common.ledger.verification import verify
from presspool.common.models.adapters import digest
from presspool.common.runs.run_file import read_run_file
from presspool.common.wire.envelope import body_digest
from presspool.common.wire.flower import to_bytes
from presspool.common.wire.update import TrainTask, pack_task
from presspool.server.rounds.server_app import serve
from presspool.simulations.grids.local_grid import LocalGrid
from presspool.simulations.simulate import SimulateOptions, prepare, simulate

Body = dict[str, Any]


@pytest.fixture(scope="module")
def bench(contract_body: Body, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench.of(parse_contract(contract_body), tmp_path_factory.mktemp("bench"))


@pytest.fixture
def outlet(bench: Bench, tmp_path: Path) -> RealOutlet:
    plain = write_outlet(bench, write_data(bench, bench.readers))
    settings = tmp_path / "outlet.toml"
    settings.write_text(plain.read_text(encoding="utf-8"), encoding="utf-8")
    return make_real(settings, bench.contract)


# --- A whole run ---------------------------------------------------------------------------------


def exported(real: RealOutlet) -> io.BytesIO:
    stream = io.BytesIO()
    with Ledger(real.ledger) as ledger:
        export(ledger, stream, signer=SIGNER, witnesses=[])
    return stream


def test_a_run_with_policy_and_ledger_is_what_an_auditor_recomputes(
    contract_body: Body, tmp_path: Path
) -> None:
    path = write_run(tmp_path, contract_body)
    torch.set_num_threads(1)  # as a worker
    options = SimulateOptions(out=tmp_path / "run", deterministic=7)
    prepared = prepare(read_run_file(path), options)
    contract = prepared.folder.read_contract()
    outlets = [make_real(settings, contract, trial=True) for settings in prepared.outlets]
    with LocalGrid(prepared.outlets, workers=0) as grid:
        result = serve(grid, prepared.folder)
    assert result.status == "complete"
    assert [done.refused for done in result.rounds] == [{}] * 3
    for real in outlets:
        assert real.kinds() == [
            "opened",
            "non-private",
            "reserve",
            "adapter-received",
            "release-intent",
            "adapter-received",
            "release-intent",
            "settle",
        ]
        stream = exported(real)
        stream.seek(0)
        assert verify(stream, key=SIGNER.key).head.size == 8
        stream.seek(0)
        found = recompute(stream, key=SIGNER.key)
        assert found.failures == ()
        (run,) = found.runs
        assert run.steps == contract.steps
        # Noise that can be drawn again: the arithmetic is checked, and nothing is claimed.
        assert (run.epsilon_pld, run.stated) == (math.inf, None)
        kept = next(e for e in real.entries() if isinstance(e, entries.Reserve))
        stated = next(o.epsilon for o in result.outlets if o.epsilon is not None)
        assert kept.stated is not None
        assert kept.stated.epsilon == pytest.approx(stated, abs=1e-9)
    # Paying for it changes no byte of what is learned.
    free = simulate(read_run_file(path), SimulateOptions(out=tmp_path / "free", deterministic=7))
    assert free.adapter_sha256 == result.adapter_sha256


# --- Promises, and the mistakes that break them --------------------------------------------------


@contextmanager
def during_training(look: Callable[[], None]) -> Iterator[list[int]]:
    """Calls `look` when a round's training begins; yields a list that grows with each round."""
    trained: list[int] = []
    real_train = detectors.current(joint_tasks, "train_together")

    def watched(*arguments: Any) -> Any:
        trained.append(1)
        look()
        return real_train(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joint_tasks, "train_together", watched)
        yield trained


def the_whole_run_is_reserved_before_the_first_gradient(bench: Bench, real: RealOutlet) -> None:
    plan, at_work = bench.contract.plan, list[entries.Entry]()
    with during_training(lambda: at_work.extend(real.entries())) as trained:
        ask(real.settings, pack_task(task_of(bench)))
    assert trained, "nothing was trained"
    reserved = [entry for entry in at_work if isinstance(entry, entries.Reserve)]
    assert [entry.run for entry in reserved] == [bench.contract.digest]
    assert reserved[0].event == events.from_dp(plan.event())
    assert reserved[0].event.steps == plan.steps
    received = [entry for entry in at_work if isinstance(entry, entries.AdapterReceived)]
    assert [(e.round, e.digest) for e in received] == [(1, digest(bench.state))]


def an_answer_is_bound_before_it_is_handed_out(bench: Bench, real: RealOutlet) -> None:
    reply = ask(real.settings, pack_task(task_of(bench)))
    assert reply.has_content(), reply
    data = hashlib.sha256(to_bytes(reply.content)).hexdigest()
    bound = [e for e in real.entries() if isinstance(e, entries.ReleaseIntent)]
    assert [(e.round, e.steps, e.digest) for e in bound] == [(1, 2, f"sha256:{data}")]


def a_bound_round_is_never_trained_again(bench: Bench, real: RealOutlet) -> None:
    task = pack_task(task_of(bench))
    assert ask(real.settings, task).has_content()
    before = real.kinds()
    with during_training(lambda: None) as trained:
        check_failure(ask(real.settings, task), "round-released")
    assert not trained, "a bound round was trained again"
    assert real.kinds() == before


class Killed(BaseException):
    """Stands for a kill: nothing catches it, and the disk stays as it is."""


def asked(real: RealOutlet, task: TrainTask) -> Message:
    """The answer of an outlet that keeps its answers."""
    kept = real.ledger.with_name("kept.answer")
    worked = detectors.current(client_app, "_worked")

    def keeping(asked: Any, settings: Any, **more: Any) -> Any:
        return worked(asked, settings, **more | {"kept": kept})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client_app, "_worked", keeping)
        return ask(real.settings, pack_task(task))


def bound_digest(real: RealOutlet) -> str:
    [found] = [e.digest for e in real.entries() if isinstance(e, entries.ReleaseIntent)]
    return found


def an_answer_that_is_bound_is_not_lost(bench: Bench, real: RealOutlet) -> None:
    """Killed right after the intent, the outlet hands out the very bytes, also of a last round."""
    bind = Meter.bind

    def killed(meter: Meter, data: bytes) -> str:
        bind(meter, data)
        raise Killed

    only = bench.contract.replace(federation={"rounds": 1})
    task = task_of(bench, contract=only.canonical().decode(), digest=only.digest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Meter, "bind", killed)
        with pytest.raises(Killed):
            asked(real, task)
    assert real.kinds()[-2:] == ["release-intent", "settle"]
    with during_training(lambda: None) as trained:
        reply = asked(real, task)
    assert reply.has_content(), reply
    assert not trained
    assert body_digest(to_bytes(reply.content)) == bound_digest(real)
    assert stat.S_IMODE(real.ledger.with_name("kept.answer").stat().st_mode) == 0o600


def only_bound_bytes_are_handed_out_again(bench: Bench, real: RealOutlet) -> None:
    """Kept bytes that the ledger does not know, another round's say, never leave."""
    kept = real.ledger.with_name("kept.answer")
    assert asked(real, task_of(bench)).has_content()
    first = kept.read_bytes()
    assert asked(real, task_of(bench, round=2)).has_content()
    check_failure(asked(real, task_of(bench)), "run-over")
    kept.write_bytes(first)
    assert asked(real, task_of(bench)).has_content()
    check_failure(asked(real, task_of(bench, round=2)), "run-over")
    kept.write_bytes(first[:-1])
    check_failure(asked(real, task_of(bench)), "run-over")
    real.allow(policy_body(bench.contract, min_noise_multiplier=100.0))
    kept.write_bytes(first)
    check_failure(asked(real, task_of(bench)), "policy-noise")


PROMISES = (
    the_whole_run_is_reserved_before_the_first_gradient,
    an_answer_is_bound_before_it_is_handed_out,
    a_bound_round_is_never_trained_again,
    an_answer_that_is_bound_is_not_lost,
    only_bound_bytes_are_handed_out_again,
)
Promise = Callable[[Bench, RealOutlet], None]


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_promise(promise: Promise, bench: Bench, outlet: RealOutlet) -> None:
    promise(bench, outlet)


def bound_after_it_was_sent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Meter, "bind", lambda *_: "sha256:later")


def reserved_after_training(patch: pytest.MonkeyPatch) -> None:
    pay = Budget.round

    @contextmanager
    def late(self: Budget, contract: Contract, **round: Any) -> Iterator[Meter]:
        free = Meter(taken=0, last=2, _bind=lambda _: "")
        yield free
        with pay(self, contract, **round) as meter:
            for step in range(1, free.taken + 1):
                meter.step(step)
            meter.bind(b"the answer")

    patch.setattr(Budget, "round", late)


def fewer_steps_reserved(patch: pytest.MonkeyPatch) -> None:
    whole = Budget._event
    patch.setattr(Budget, "_event", lambda self, *asked: whole(self, *asked).first(3))


def kept_after_it_was_bound(patch: pytest.MonkeyPatch) -> None:
    def late(data: bytes, bind: Callable[[bytes], str], file: Path) -> None:
        bind(data)
        file.write_bytes(data)

    patch.setattr(kept_reply, "keep_and_bind", late)


def whatever_was_kept_is_handed_out(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kept_reply, "handed_out_before", lambda file, _: Path(file).read_bytes())


def policy_is_not_asked_about_kept_bytes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(client_app, "_again", lambda _, known: known)


def a_bound_round_is_asked_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Budget, "check", lambda *_, **__: None)


@pytest.mark.parametrize(
    ("plant", "promise"),
    [
        (reserved_after_training, PROMISES[0]),
        (fewer_steps_reserved, PROMISES[0]),
        (bound_after_it_was_sent, PROMISES[1]),
        (a_bound_round_is_asked_nothing, PROMISES[2]),
        (kept_after_it_was_bound, PROMISES[3]),
        (whatever_was_kept_is_handed_out, PROMISES[4]),
        (policy_is_not_asked_about_kept_bytes, PROMISES[4]),
    ],
    ids=lambda part: part.__name__,
)
def test_planted_mistake_is_found(
    plant: Callable[[pytest.MonkeyPatch], None],
    promise: Promise,
    bench: Bench,
    outlet: RealOutlet,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        with pytest.raises(AssertionError):
            promise(bench, outlet)


def test_steps_beyond_the_reservation_end_the_run_before_their_noise(
    bench: Bench, outlet: RealOutlet
) -> None:
    """Three steps reserved for a run of two rounds of two: not even the first draws anything."""
    with pytest.MonkeyPatch.context() as patch, detectors.watching() as seen:
        fewer_steps_reserved(patch)
        check_failure(ask(outlet.settings, pack_task(task_of(bench))), "internal-error")
    assert not seen.noised
    assert outlet.kinds()[-1] == "settle"
    check_failure(ask(outlet.settings, pack_task(task_of(bench, round=2))), "run-over")


def test_an_optimizer_that_takes_a_step_more_is_stopped(bench: Bench, outlet: RealOutlet) -> None:
    """A bug in training, not in the budget: one logical step more than the contract's round."""
    twice = bench.contract.replace(federation={"local_steps": 3, "rounds": 2})
    real_train = detectors.current(joint_tasks, "train_together")

    def longer(model: Any, state: Any, outlets: Any, contract: Contract, *rest: Any) -> Any:
        return real_train(model, state, outlets, twice, *rest)

    with pytest.MonkeyPatch.context() as patch, detectors.watching() as seen:
        patch.setattr(joint_tasks, "train_together", longer)
        check_failure(ask(outlet.settings, pack_task(task_of(bench))), "internal-error")
    assert len(seen.noised) == 2
    assert "release-intent" not in outlet.kinds()
    assert outlet.kinds()[-1] == "settle"  # charged in full, and over


def test_a_coordinator_that_goes_on_with_a_run_that_is_over_trains_nothing(
    bench: Bench, outlet: RealOutlet
) -> None:
    """It says that the run ended, the outlet takes its budget back, and then come more rounds."""
    contract, policy = bench.contract, read_policy(outlet.policy)
    assert ask(outlet.settings, pack_task(task_of(bench))).has_content()
    with Budget.open(outlet.ledger, policy=policy) as budget:
        assert budget.end(contract) > 0
        spent = budget.book.spent
    whole, steps = events.from_dp(contract.plan.event()), contract.federation.local_steps
    assert spent == events.charge(whole.first(steps), order=ORDER)
    size = len(outlet.entries())
    with during_training(lambda: None) as trained, detectors.watching() as seen:
        for number in (1, 2, 2):
            task = pack_task(task_of(bench, round=number))
            check_failure(ask(outlet.settings, task), "run-over")
    assert not trained
    assert not seen.noised
    assert len(outlet.entries()) == size


# --- A bad coordinator: refused, nothing trained, nothing charged --------------------------------


def refused(bench: Bench, real: RealOutlet, code: str, **changes: Any) -> None:
    """The task is refused with this code; no gradient, no charge, one entry that says why."""
    with during_training(lambda: None) as trained:
        reply = ask(real.settings, pack_task(task_of(bench, **changes)))
    check_failure(reply, code)
    assert not trained
    refusals = [e for e in real.entries() if isinstance(e, entries.Refusal)]
    assert [entry.reason for entry in refusals] == [code]
    assert "reserve" not in real.kinds()
    ask(real.settings, pack_task(task_of(bench, **changes)))
    assert real.kinds().count("refusal") == 1  # asked again, said once


def offered(contract: Contract) -> dict[str, str]:
    return {"contract": contract.canonical().decode(), "digest": contract.digest}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"privacy": {"noise_multiplier": 0.49}}, "policy-noise"),
        ({"privacy": {"noise_multiplier": 0.6}}, "policy-epsilon"),
        ({"privacy": {"delta": 1e-3}}, "policy-delta"),
        ({"federation": {"rounds": 500}}, "policy-rounds"),
        ({"federation": {"local_steps": 5000}}, "policy-steps"),
        ({"adapter": {"targets": ["query", "word_embeddings"]}}, "policy-targets"),
        ({"outlets": {OUTLET: 30}, "federation": {"quorum": 1}}, "policy-cohort"),
        ({"model": {"weights": "sha256:" + "0" * 64}}, "policy-base-model"),
        ({"model": {"tokenizer": "sha256:" + "0" * 64}}, "policy-base-model"),
        ({"model": {"manifest": None}}, "policy-base-model"),
    ],
)
def test_a_contract_above_policy(change: Body, code: str, bench: Bench, outlet: RealOutlet) -> None:
    refused(bench, outlet, code, **offered(bench.contract.replace(**change)))


@pytest.mark.parametrize("number", [0, 3, -1, 10**9])
def test_a_round_that_nobody_agreed_on(number: int, bench: Bench, outlet: RealOutlet) -> None:
    refused(bench, outlet, "round-not-agreed", round=number)


def test_a_contract_of_other_outlets(bench: Bench, outlet: RealOutlet) -> None:
    strangers = bench.contract.replace(outlets={"east-herald": 30, "west-mail": 20})
    refused(bench, outlet, "round-not-agreed", **offered(strangers))


@pytest.mark.parametrize(
    ("poison", "code"),
    [
        ("nan", "adapter-not-finite"),
        ("inf", "adapter-not-finite"),
        ("huge", "adapter-norm"),
        ("loud", "adapter-branch"),
        ("shape", "adapter-shapes"),
        ("missing", "adapter-names"),
        ("frozen", "adapter-names"),
    ],
)
def test_a_poisoned_adapter(poison: str, code: str, bench: Bench, outlet: RealOutlet) -> None:
    state = dict(bench.state)
    name = sorted(state)[0]
    if poison in ("nan", "inf"):
        state[name] = np.full_like(state[name], float(poison))
    elif poison == "huge":
        state[name] = np.full_like(state[name], 1e6)
    elif poison == "loud":  # small for the norm, but as a product many times its frozen layer
        state = {n: np.full_like(a, 8.0 if "lora" in n else 0.0) for n, a in state.items()}
    elif poison == "shape":
        state[name] = state[name].T.copy()
    elif poison == "missing":
        del state[name]
    else:  # a frozen factor that the coordinator would like to choose
        frozen = next(n for n, _ in bench.model.named_parameters() if "lora_A" in n)
        state[frozen] = np.zeros((2, 32), np.float32)
    refused(bench, outlet, code, state=state)


def test_a_run_that_a_person_declined(bench: Bench, outlet: RealOutlet) -> None:
    """Also in its middle; the newest word counts."""
    approvals = Approvals(outlet.policy.parent / "approvals")
    approvals.approve(bench.contract.digest)
    approvals.decline(bench.contract.digest)
    refused(bench, outlet, "declined")
    approvals.approve(bench.contract.digest)
    assert ask(outlet.settings, pack_task(task_of(bench))).has_content()
    approvals.decline(bench.contract.digest)
    check_failure(ask(outlet.settings, pack_task(task_of(bench, round=2))), "declined")


def test_a_run_that_does_not_fit_the_ledger(bench: Bench, tmp_path: Path) -> None:
    settings = tmp_path / "outlet.toml"
    settings.write_text(write_outlet(bench, bench.folder / "none").read_text())
    real = make_real(settings, bench.contract, epsilon=4.0)
    with during_training(lambda: None) as trained:
        check_failure(ask(settings, pack_task(task_of(bench))), "over-budget")
    assert not trained
    assert real.kinds() == ["opened", "refusal"]


def test_not_now_is_no_refusal(bench: Bench, outlet: RealOutlet) -> None:
    """Neither is written down; both pass as soon as they may."""
    always = {"start": "00:00:00", "end": "23:59:59.999999", "zone": "utc"}
    outlet.allow(policy_body(bench.contract, quiet_hours=always))
    task = pack_task(task_of(bench))
    check_failure(ask(outlet.settings, task), "not-now-quiet-hours")
    outlet.allow(policy_body(bench.contract, manual_approval=True))
    check_failure(ask(outlet.settings, task), "not-now-approval")
    assert outlet.kinds() == ["opened"]
    waiting = outlet.policy.parent / "approvals"
    (kept,) = waiting.glob("*.json")
    assert kept.read_bytes() == bench.contract.canonical()
    assert json.loads(kept.read_bytes())["name"] == "test"
    kept.with_suffix(".approved").touch()
    assert ask(outlet.settings, task).has_content()


def test_whatever_the_data_is_the_ledger_says_the_same(bench: Bench, tmp_path: Path) -> None:
    """Refusals, order and kinds of entries, charges and steps: none hangs on a reader."""
    seen = []
    data = write_data(bench, bench.readers)
    for number, content in enumerate((None, b"", b"PAR1")):
        settings = tmp_path / f"outlet-{number}.toml"
        settings.write_text(write_outlet(bench, data).read_text(encoding="utf-8"))
        real = make_real(settings, bench.contract)
        if content is not None:
            (real.ledger.parent / SNAPSHOT).write_bytes(content)
        for round in (1, 2, 2):
            ask(settings, pack_task(task_of(bench, round=round)))
        hidden = {"reservation", "datasets"}  # random
        rows = [e.model_dump(exclude=hidden) for e in real.entries()]
        for row in rows:  # of a release, only the digest of its bytes may differ
            row.pop("digest", None) if row["kind"] == "release-intent" else None
        seen.append(rows)
    assert seen[0] == seen[1] == seen[2]


def test_a_ledger_that_is_missing_or_damaged_trains_nothing(
    bench: Bench, outlet: RealOutlet
) -> None:
    outlet.ledger.write_bytes(b"SQLite format 3\0" + bytes(4080))
    with during_training(lambda: None) as trained:
        check_failure(ask(outlet.settings, pack_task(task_of(bench))), "ledger-unusable")
        outlet.ledger.unlink()
        check_failure(ask(outlet.settings, pack_task(task_of(bench))), "ledger-unusable")
        outlet.policy.unlink()
        check_failure(ask(outlet.settings, pack_task(task_of(bench))), "outlet-misconfigured")
    assert not trained
