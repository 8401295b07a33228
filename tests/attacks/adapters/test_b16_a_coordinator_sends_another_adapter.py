"""B.16: a hostile coordinator serves another adapter, a huge one, a path, a torn one, a false card.

An outlet that fetches what it helped to train believes the witnessed log alone. Nothing of what is
refused stays on its disk, and nothing is read beyond what the outlet's own model can need.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from tests.fakes.instruments.finished_run import FinishedRun, finished_run
from tests.fakes.made_witnesses import eventually

from presspool.client.agent import fetched_adapter as kept
from presspool.client.agent.adapter_fetching import LARGEST_CONTRACT, Links, fetch
from presspool.client.agent.fetched_adapter import FetchedAdapter
from presspool.client.consent.policy import read_policy
from presspool.common.base.errors import EvidenceError, GuardError, InputError
from presspool.common.proto import pool_pb2 as messages
from presspool.common.transparency.consortium_entries import Entry
from presspool.server.coordinator.adapter_service import AdapterService
from presspool.server.coordinator.run_queue import Submitted

Spoil = Callable[[bytes], bytes]
PARTS = {
    "contract": messages.RUN_PART_CONTRACT,
    "state": messages.RUN_PART_STATE,
    "result": messages.RUN_PART_RESULT,
    "card": messages.RUN_PART_CARD,
}


ENOUGH = 6  # megabytes: more than any part may have


class HostileService(AdapterService):
    """Serves what a test wants instead."""

    spoil: dict[int, Spoil]
    endless: int | None
    names: tuple[str, str] | None
    sent: int

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.honest()
        HostileService.now = self

    now: HostileService

    def honest(self) -> None:
        """Stop being hostile."""
        self.spoil, self.endless, self.names, self.sent = {}, None, None, 0

    def List(  # noqa: N802
        self, request: messages.ListRequest, context: grpc.ServicerContext
    ) -> messages.ListReply:
        """Names of the coordinator's choice."""
        if self.names is None:
            return super().List(request, context)
        run, contract = self.names
        return messages.ListReply(runs=[messages.FinishedRun(run=run, contract=contract, ended=1)])

    def Fetch(  # noqa: N802
        self, request: messages.FetchRequest, context: grpc.ServicerContext
    ) -> Iterator[messages.Chunk]:
        """Without end, where that is asked for."""
        if request.part != self.endless:
            yield from super().Fetch(request, context)
            return
        over = threading.Event()
        context.add_callback(over.set)
        while context.is_active():
            self.sent += 1
            yield messages.Chunk(data=bytes(1 << 20))
            if self.sent == ENOUGH:  # a slow machine's hang-up is on its way; who goes on reads on
                over.wait(30)

    def _part(self, run: Submitted, part: messages.RunPart) -> bytes:
        data = super()._part(run, part)
        return self.spoil[part](data) if part in self.spoil else data


@pytest.fixture(scope="module")
def done(
    tmp_path_factory: pytest.TempPathFactory, contract_body: dict[str, Any]
) -> Iterator[FinishedRun]:
    torch.set_num_threads(1)
    with finished_run(tmp_path_factory.mktemp("pool"), contract_body, HostileService) as found:
        found.pool.start()
        eventually(lambda: _is_witnessed(found))
        yield found


@pytest.fixture
def coordinator(done: FinishedRun) -> Iterator[HostileService]:
    yield HostileService.now
    HostileService.now.honest()
    shutil.rmtree(done.home() / kept.FOLDER, ignore_errors=True)


def take(done: FinishedRun, number: int = 0) -> tuple[FetchedAdapter, str]:
    identity = done.pool.outlets[number].identity
    policy = read_policy(identity.home / "policy.toml")
    with Links.to(identity) as links:
        return fetch(identity, policy, done.contract.digest, links)


def _is_witnessed(done: FinishedRun) -> bool:
    try:
        take(done)
    except EvidenceError as error:
        if "not witnessed yet" not in str(error):
            raise
        return False
    shutil.rmtree(done.home() / kept.FOLDER)
    return True


def nothing_is_kept(home: Path) -> bool:
    return not list((home / kept.FOLDER).glob("*"))


def rebuilt(**changes: Callable[[Any], Any]) -> Spoil:
    """The arrays with one of them changed."""

    def spoil(data: bytes) -> bytes:
        arrays = load(data)
        name = sorted(arrays)[0]
        arrays[name] = changes["first"](arrays[name])
        return save(arrays)

    return spoil


def renamed(data: bytes) -> bytes:
    arrays = load(data)
    arrays["../../../etc/passwd"] = arrays.pop(sorted(arrays)[0])
    return save(arrays)


def with_nan(array: Any) -> Any:
    spoiled = np.array(array)
    spoiled.flat[0] = np.nan
    return spoiled


def text(**changes: object) -> Spoil:
    """A JSON document with other values."""
    return lambda data: json.dumps(json.loads(data) | changes).encode()


@pytest.mark.parametrize(
    ("part", "spoil", "says"),
    [
        (
            "state",
            rebuilt(first=lambda a: a + np.float32(1e-6)),
            "not the adapter that the witness",
        ),
        ("state", rebuilt(first=lambda a: a.astype(np.float64)), "float32"),
        ("state", rebuilt(first=lambda a: a[:1]), "not the adapter"),
        ("state", rebuilt(first=with_nan), "NaN"),
        ("state", renamed, "exactly the parameters"),
        ("state", lambda data: data[: len(data) // 2], "not the adapter"),
        ("state", lambda _: b"", "not the adapter"),
        ("state", lambda _: b"\xff" * 4096, "not the adapter"),
        ("contract", text(seed=9), "contract digest"),
        ("contract", text(name="../../etc"), "contract digest"),
        ("contract", lambda _: b"", "contract digest"),
        ("result", text(contract_digest="sha256:" + "0" * 64), "another run's result"),
        ("result", text(status="running"), "another run's result"),
        ("result", lambda _: b"{", "broken JSON"),
    ],
)
def test_b16_anything_but_the_logged_adapter_is_refused(
    done: FinishedRun, coordinator: HostileService, part: str, spoil: Spoil, says: str
) -> None:
    coordinator.spoil = {PARTS[part]: spoil}
    with pytest.raises((EvidenceError, InputError)) as caught:
        take(done)
    assert says in str(caught.value)
    assert nothing_is_kept(done.home())


@pytest.mark.parametrize(("part", "megabytes"), [("contract", 4), ("state", 2), ("card", 4)])
def test_b16_what_does_not_end_is_cut_at_the_cap(
    done: FinishedRun, coordinator: HostileService, part: str, megabytes: int
) -> None:
    coordinator.endless = PARTS[part]
    with pytest.raises(EvidenceError, match="more than this part of the run can have"):
        take(done)
    assert LARGEST_CONTRACT == 4 << 20
    assert coordinator.sent <= megabytes + 8  # and what was on its way
    assert nothing_is_kept(done.home())


@pytest.mark.parametrize(
    "names",
    [
        ("../../etc", "sha256:" + "0" * 64),
        ("spring", "../../../etc/cron.d/x"),
        ("spring\x1b[2J", "sha256:" + "0" * 64),
        ("", ""),
    ],
)
def test_b16_a_path_is_no_run(
    done: FinishedRun, coordinator: HostileService, names: tuple[str, str]
) -> None:
    coordinator.names = names
    with Links.to(done.pool.outlets[0].identity) as links, pytest.raises(EvidenceError):
        links.adapters.runs()


def test_b16_another_runs_card_is_left_out_and_said(
    done: FinishedRun, coordinator: HostileService
) -> None:
    coordinator.spoil = {messages.RUN_PART_CARD: lambda _: b'{"statement": "all is private"}'}
    found, why = take(done)
    assert "blank or wrong" in why or "not a privacy card" in why
    assert not (found.adapter / "privacy_card.json").exists()


def test_b16_a_log_with_two_histories_is_evidence(
    done: FinishedRun,
) -> None:
    """The coordinator signs another log, in which its other adapter is the run's."""
    outlet = done.pool.outlets[1]
    service = done.pool.service
    outlet.stop()
    held = outlet.folder.heads.read(service.consortium.key.name)
    assert held is not None
    forged = _forged_log(done)
    real, service.consortium = service.consortium, forged
    try:
        with pytest.raises(GuardError) as caught:
            take(done, 1)
        assert caught.value.code == "split-view"
        assert nothing_is_kept(outlet.home)
        assert outlet.folder.contradiction.exists()
    finally:
        service.consortium = real


def _other_numbers(array: Any) -> Any:
    return array + np.float32(1)


def _forged_log(done: FinishedRun) -> Any:
    """A log of the coordinator's own key that tells of other adapters."""
    from presspool.server.database import Database
    from presspool.server.witnessing.consortium_log import Consortium

    database = Database.open(f"sqlite:///{done.pool.home.parent / 'forged.db'}")
    log = Consortium(database, done.pool.folder.log)
    for number in range(done.contract.federation.rounds + 1):
        log.commit(
            Entry(
                run=done.id,
                contract=done.contract.digest,
                round=number,
                adapter="sha256:" + f"{number}" * 64,
                outlets=("outlet-0", "outlet-1"),
            )
        )
    return log


def test_b16_an_outlet_that_needs_no_witnesses_still_needs_the_log(
    done: FinishedRun, coordinator: HostileService
) -> None:
    (done.home() / "policy.toml").write_text("[witnesses]\nrequired = false\n")
    try:
        assert take(done)[1] == "the coordinator has none"
        coordinator.spoil = {messages.RUN_PART_STATE: rebuilt(first=_other_numbers)}
        with pytest.raises(EvidenceError, match="not the adapter"):
            take(done)
    finally:
        (done.home() / "policy.toml").write_text("[witnesses]\nliars = 0\n")
