"""The tap sees what leaves an outlet's process before TLS, and finds a leak in whatever form."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from tests.fakes.instruments.tap import leaks, tapped
from tests.fakes.made_pool import Pool, adds, open_pool, spoiled, tasks_of
from tests.fakes.made_runs import STATE

from presspool.client.agent.spool import Spool

OUTLET, CANARY = "north-post", "vive-la-canary"
LETTERS = np.frombuffer(CANARY.encode(), np.uint8)


def one_round(pool: Pool, **changes: object) -> bytes:
    """What a process says to gRPC while its outlet trains and delivers one round."""
    sent: list[bytes] = []
    trainer = adds(OUTLET, spoiled(**changes))
    with tapped(sent.append), pool.node(OUTLET, trainer) as node:
        list(pool.grid().push_messages(tasks_of(pool, 1)))
        for _ in range(3):
            node.step()
    return b"".join(sent)


def test_the_tap_has_the_bytes_that_are_sealed_and_finds_nothing_in_an_honest_round(
    tmp_path: Path,
) -> None:
    with open_pool(tmp_path, [OUTLET]) as pool:
        sent = one_round(pool)
        with Spool.open(tmp_path / f"work of {OUTLET}") as spool:
            (task,) = spool.tasks()
            signed, chunks = spool.reply(task)
            assert b"".join(chunks) in sent
            assert signed.body in sent
        assert leaks(sent, [CANARY]) == []


def test_a_planted_leak_in_an_update_is_found(tmp_path: Path) -> None:
    """The letters as numbers of the array that is sent."""
    delta = {name: array.copy() for name, array in STATE.items()}
    delta["b"] = LETTERS.astype(np.float32)
    with open_pool(tmp_path, [OUTLET]) as pool:
        assert leaks(one_round(pool, delta=delta), [CANARY]) == [f"{CANARY} as array of <f4"]


@pytest.mark.parametrize(
    "hidden",
    [
        CANARY.encode(),
        CANARY.encode().hex().upper().encode(),
        CANARY.encode("utf-16"),
        CANARY.encode("utf-32-be"),
        LETTERS.astype(np.float64).tobytes(),
        LETTERS.astype(">i4").tobytes(),
        *(base64.b64encode(b"x" * before + CANARY.encode() + b"y") for before in range(3)),
    ],
)
def test_a_leak_is_found_in_every_form(hidden: bytes) -> None:
    noise = np.random.default_rng(3).bytes(1000)
    assert leaks(noise + hidden + noise, ["other", CANARY])
    assert leaks(noise, [CANARY]) == []
