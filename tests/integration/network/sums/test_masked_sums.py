"""Sums whose parts nobody sees: whole runs of members' real gates, with who drops out where."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tests.fakes.instruments.operators import Operators
from tests.fakes.made_runs import write_run
from tests.fakes.sums.masked_pool import NAMES, SEED, Absent, MaskedPool, made_pool, masked_body

from presspool.client.client_app import work
from presspool.client.identity.settings import read_settings
from presspool.client.round import Round
from presspool.client.sums.sum_party import FOLDER
from presspool.common.base.errors import ContractError, GuardError, QuorumError
from presspool.common.ledger.entries import ReleaseIntent
from presspool.common.runs.result_file import read_result
from presspool.common.runs.run_file import read_run_file
from presspool.common.wire.flower import from_bytes
from presspool.common.wire.update import unpack_update
from presspool.server.coordinator.coordinator_folder import CoordinatorFolder
from presspool.server.coordinator.submission import submit
from presspool.server.rounds.masked_gathering import CONSENT, KEYS, REVEAL, SHARES, TRAIN
from presspool.server.rounds.server_app import serve
from presspool.simulations.simulate import SimulateOptions, simulate

Body = dict[str, Any]


@pytest.fixture
def body(contract_body: Body) -> Body:
    return masked_body(contract_body, rounds=2) | {
        "adapter": contract_body["adapter"] | {"method": "fedit"},
        "server": {"name": "adam", "learning_rate": 0.05},
    }


def adapter(folder: Path) -> dict[str, Any]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def in_the_open(run: Path, out: Path) -> dict[str, Any]:
    """The adapter of the same run in a simulation."""
    torch.set_num_threads(1)
    simulate(read_run_file(run), SimulateOptions(out=out, workers=0, deterministic=SEED))
    return adapter(out)


@pytest.fixture
def pool(tmp_path: Path, body: Body) -> Iterator[MaskedPool]:
    with made_pool(tmp_path, write_run(tmp_path / "made", body)) as made:
        yield made


def absent(*where: tuple[str, int, int]) -> Absent:
    return lambda *asked: asked in where


def test_a_masked_run_makes_the_bytes_of_the_open_one(pool: MaskedPool, tmp_path: Path) -> None:
    grid = pool.grid()
    serve(grid, pool.folder)
    expected = in_the_open(tmp_path / "made" / "run.toml", tmp_path / "open")
    found = adapter(pool.folder.path)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in found)
    asked = [(a.number, a.phase) for name, a, _ in grid.sent if name == NAMES[0]]
    assert asked == [(1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (2, 2), (2, 3), (2, 4), (2, 5)]
    for outlet in pool.members.values():
        charged = ["reserve", *["adapter-received", "release-intent"] * 2, "settle"]
        assert outlet.kinds() == ["opened", "non-private", *charged]
    for file in pool.files.values():  # what could open a part of a sum is gone
        assert list((file.parent / FOLDER).iterdir()) == []


def test_a_masked_answer_says_nothing_of_what_it_hides(pool: MaskedPool) -> None:
    """The same numbers, masked twice, have no more in common than two random vectors."""
    sent = {}
    for turn in ("first", "second"):
        with made_again(pool, turn) as again:
            grid = again.grid()
            serve(grid, again.folder)
            sent[turn] = [data for _, asked, data in grid.sent if asked.trains]
    for one, other in zip(sent["first"], sent["second"], strict=True):
        parts = [unpack_update(from_bytes(raw), dtype="int32").delta for raw in (one, other)]
        flat = [np.concatenate([a.ravel() for a in part.values()]) for part in parts]
        assert (flat[0] == flat[1]).mean() < 0.01
        spread = flat[0].astype(np.float64).std() / 2**32
        assert abs(spread - 12**-0.5) < 0.02  # as of numbers drawn from the whole ring


@contextmanager
def made_again(pool: MaskedPool, name: str) -> Iterator[MaskedPool]:
    folder = pool.folder.path.parent
    with made_pool(folder / name, folder / "made" / "run.toml") as made:
        yield made


@pytest.mark.parametrize("phase", [SHARES, TRAIN, CONSENT, REVEAL])
def test_an_outlet_that_drops_out_costs_the_round_its_part_and_no_more(
    pool: MaskedPool, phase: int
) -> None:
    """It is back in the next round; masks that it left in others' numbers are taken away."""
    gone = [(NAMES[1], 1, later) for later in range(phase, REVEAL + 1)]
    serve(pool.grid(absent(*gone)), pool.folder)
    first, second = read_result(pool.folder.path).rounds[1:]
    in_sum = phase > TRAIN
    assert sorted(first.outlets) == [name for name in NAMES if in_sum or name != NAMES[1]]
    assert sorted(second.outlets) == sorted(NAMES)
    bound = [
        entry for entry in pool.members[NAMES[1]].entries() if isinstance(entry, ReleaseIntent)
    ]
    assert [entry.round for entry in bound] == ([1, 2] if in_sum else [2])


@pytest.mark.parametrize(
    ("phase", "missing"), [(KEYS, 1), (SHARES, 2), (TRAIN, 2), (CONSENT, 2), (REVEAL, 2)]
)
def test_too_few_fail_the_round_and_it_goes_on_where_it_stopped(
    pool: MaskedPool, tmp_path: Path, phase: int, missing: int
) -> None:
    """Who was missing answers what was asked; nothing is trained, masked or paid twice."""
    gone = [(name, 1, phase) for name in NAMES[:missing]]
    with pytest.raises(QuorumError):
        serve(pool.grid(absent(*gone)), pool.folder)
    assert not (pool.folder.path / "adapter").exists()
    serve(pool.grid(), pool.folder)
    expected = in_the_open(tmp_path / "made" / "run.toml", tmp_path / "open")
    found = adapter(pool.folder.path)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    for outlet in pool.members.values():
        assert outlet.kinds().count("release-intent") == 2


def test_a_peer_with_another_key_than_the_approved_one_is_refused(pool: MaskedPool) -> None:
    """A coordinator that puts its own key in a peer's place gets nothing of who knows the peer."""
    pool.keys = {**pool.keys, NAMES[1]: bytes(31) + b"\1"}
    grid = pool.grid()
    with pytest.raises(QuorumError, match="policy-peers"):
        serve(grid, pool.folder)
    assert grid.sent == []


def test_outlets_that_nobody_approved_are_reckoned_among_the_colluders(
    tmp_path: Path, body: Body
) -> None:
    run = write_run(tmp_path / "made", body)
    with made_pool(tmp_path, run, strangers=NAMES[:2]) as pool:
        grid = pool.grid()
        with pytest.raises(QuorumError, match="policy-peers"):
            serve(grid, pool.folder)
    assert {name for name, _, _ in grid.sent} <= set(NAMES[:2])


def test_nobody_masks_twice_in_a_round_and_a_kill_in_between_costs_the_round(
    pool: MaskedPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers of another training under the same masks would tell their difference."""
    killed: list[str] = []

    def dies(*_: object, **__: object) -> None:
        killed.append("here")
        raise KeyboardInterrupt

    grid = pool.grid(absent(*[(name, 1, phase) for name in NAMES[1:] for phase in (TRAIN,)]))
    with monkeypatch.context() as patch:
        patch.setattr("presspool.client.release.kept_reply.write_secret", dies)
        with pytest.raises(KeyboardInterrupt):
            serve(grid, pool.folder)
    assert killed
    task = asked_of(pool, grid)
    with pytest.raises(GuardError, match="masked in this round") as caught:
        work(task, read_settings(pool.files[NAMES[0]]), loopback=True)
    assert caught.value.code == "round-released"
    kinds = pool.members[NAMES[0]].kinds()
    assert kinds.count("reserve") == kinds.count("adapter-received") == 1
    assert "release-intent" not in kinds


def asked_of(pool: MaskedPool, grid: Any) -> Round:
    """The task of the phase that trains, as the coordinator hands it out again."""
    seen: list[Round] = []
    real = pool.answer

    def noted(name: str, asked: Round) -> bytes:
        seen.append(asked)
        if asked.trains:
            raise QuorumError("not now")
        return real(name, asked)

    pool.answer = noted  # type: ignore[method-assign]
    with pytest.raises(QuorumError):
        serve(pool.grid(), pool.folder)
    return next(asked for asked in seen if asked.trains)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"outlets": dict.fromkeys(NAMES[:2], 25), "pooled": {"colluders": 0, "dropouts": 0}}, "3"),
        ({"pooled": {"colluders": 2, "dropouts": 2}}, "have to sign who is left"),
    ],
)
def test_numbers_that_a_network_cannot_sum_are_refused_at_submission(
    tmp_path: Path, body: Body, change: Body, says: str
) -> None:
    home = cast(CoordinatorFolder, None)  # it is not asked
    with pytest.raises(ContractError, match=says) as caught:
        submit(home, write_run(tmp_path, body | change), phase=60.0)
    assert caught.value.exit_code == 2


def test_operators_run_masked_sums_whatever_is_killed(tmp_path: Path, body: Body) -> None:
    """The real commands in processes of their own."""
    few = {"outlets": dict.fromkeys(NAMES[:3], 25), "pooled": {"colluders": 1, "dropouts": 0}}
    run = write_run(tmp_path / "made", body | few)
    expected = in_the_open(run, tmp_path / "open")
    with Operators(tmp_path, run, deterministic=SEED) as operators:
        operators.make()
        operators.rules = {"trust": ["pooled"], "pooled": {"max_epsilon_alone": 100.0}}
        operators.start()
        operators.join(NAMES[:3])
        for name in NAMES[:3]:
            operators.start_outlet(name)
        queued = operators.coordinator("submit", run)
        operators.said(NAMES[0], "delivered")
        operators.end("coordinator", signal.SIGKILL)
        operators.end(NAMES[0], signal.SIGKILL)
        operators.start_outlet(NAMES[0])
        operators.start()
        done = operators.wait_for("complete", queued["run"])
        folder = Path(done["folder"])
        result, found = read_result(folder), adapter(folder)
        assert [sorted(each.outlets) for each in result.rounds[1:]] == [list(NAMES[:3])] * 2
        assert all(np.array_equal(found[name], expected[name]) for name in expected)
        assert result.trust == "pooled"
        operators.stop()
