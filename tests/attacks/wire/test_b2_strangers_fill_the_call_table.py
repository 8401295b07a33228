"""Unary calls whose message never comes, from an unused token and from a revoked member.

gRPC gives each a worker thread at once; when all are taken, no member is heard any more.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import grpc
import pytest
from tests.fakes.made_attacks import (
    CHECK,
    COLLECT,
    HEALTH_WATCH,
    POLL,
    AttackedPool,
    attacked,
    withheld,
)

TABLE, A_LINE = 256, 16  # calls of the whole port, and of one connection
SETTLED = 1.0
NORTH, FORMER, LOUD = "north-post", "former-daily", "loud-hailer"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackedPool]:
    with attacked(tmp_path_factory.mktemp("pool"), [NORTH, FORMER, LOUD]) as pool:
        pool.revoke(FORMER)
        yield pool


def filled(
    stack: ExitStack, pool: AttackedPool, who: str, method: str, calls: int
) -> list[grpc.Call]:
    """As many calls that say nothing, over as many connections as they need."""
    credential = pool.stranger() if who == "stranger" else pool.outlets[who].credential
    held: list[grpc.Call] = []
    for _ in range(calls // A_LINE):
        link = stack.enter_context(pool.dial(credential))
        held += stack.enter_context(withheld(link, method, A_LINE))
    return held


def test_who_says_nothing_is_cut(pool: AttackedPool) -> None:
    """First, because who has been silent often is shut out for a minute."""
    with ExitStack() as stack:
        held = filled(stack, pool, LOUD, POLL, A_LINE)
        codes = {code_of(call) for call in held}
    assert codes == {
        grpc.StatusCode.CANCELLED,  # were let in, and said nothing
        grpc.StatusCode.RESOURCE_EXHAUSTED,  # above the places of one member
    }


@pytest.mark.parametrize(
    ("who", "method"),
    [("stranger", POLL), ("stranger", HEALTH_WATCH), (FORMER, COLLECT), (LOUD, POLL)],
)
def test_a_member_is_heard_while_others_say_nothing(
    pool: AttackedPool, who: str, method: str
) -> None:
    with ExitStack() as stack:
        filled(stack, pool, who, method, TABLE + 4 * A_LINE)
        time.sleep(SETTLED)
        for _ in range(4):
            assert pool.call(NORTH, CHECK)


@pytest.mark.soak
def test_a_member_is_heard_through_minutes_of_silence_and_floods(pool: AttackedPool) -> None:
    until = time.monotonic() + 120.0
    while time.monotonic() < until:
        with ExitStack() as stack:
            filled(stack, pool, "stranger", POLL, 2 * TABLE)
            filled(stack, pool, LOUD, CHECK, 2 * TABLE)
            for _ in range(20):
                assert pool.call(NORTH, CHECK)


def code_of(call: grpc.Call) -> grpc.StatusCode:
    code: grpc.StatusCode = call.code()  # waits for the call's end
    return code
