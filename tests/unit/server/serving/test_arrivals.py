"""What other threads have done comes to the loop: all of it, and for one waking a batch."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest

from presspool.server.serving.shelf.arrivals import awaited


def elsewhere(*does: Callable[[], object]) -> None:
    """Done by another thread, while the loop does nothing."""
    thread = threading.Thread(target=lambda: [each() for each in does])
    thread.start()
    thread.join()


def test_a_batch_wakes_the_loop_once_and_comes_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    async def asked() -> None:
        loop, woken, seen = asyncio.get_running_loop(), list[object](), list[int]()
        wake = loop.call_soon_threadsafe

        def counted(what: Callable[[], object]) -> asyncio.Handle:
            woken.append(what)
            return wake(what)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        done = [Future[int]() for _ in range(16)]
        waiting = [awaited(each) for each in done]
        for each in waiting:
            each.add_done_callback(lambda one: seen.append(one.result()))
        for batch in range(2):
            own = slice(8 * batch, 8 * batch + 8)
            elsewhere(*(partial(each.set_result, n) for n, each in enumerate(done[own])))
            assert await asyncio.gather(*waiting[own]) == list(range(8))
            assert len(woken) == batch + 1
        assert seen == [*range(8), *range(8)]

    asyncio.run(asked())


def test_errors_and_cancellations_come_as_such() -> None:
    async def asked() -> None:
        failed, dropped = Future[int](), Future[int]()
        first, second = awaited(failed), awaited(dropped)
        elsewhere(partial(failed.set_exception, ValueError("no")), dropped.cancel)
        with pytest.raises(ValueError, match="no"):
            await first
        with pytest.raises(asyncio.CancelledError):
            await second

    asyncio.run(asked())


def test_an_error_that_no_loop_may_raise_keeps_no_other_answer_back() -> None:
    async def asked() -> int:
        odd, usual = Future[int](), Future[int]()
        first, second = awaited(odd), awaited(usual)
        elsewhere(partial(odd.set_exception, StopIteration()), partial(usual.set_result, 1))
        found: int = await asyncio.wait_for(second, 240)
        with pytest.raises(asyncio.CancelledError):
            await first
        return found

    assert asyncio.run(asked()) == 1


def test_who_waits_no_longer_is_told_nothing() -> None:
    async def asked() -> list[Any]:
        loop, said = asyncio.get_running_loop(), list[Any]()
        loop.set_exception_handler(lambda _, what: said.append(what))
        left, stays = Future[int](), Future[int]()
        awaited(left).cancel()
        last = awaited(stays)
        assert not left.cancelled()
        elsewhere(partial(left.set_exception, ValueError("a text")), partial(stays.set_result, 1))
        await last
        return said

    assert asyncio.run(asked()) == []


def test_whatever_comes_while_others_are_told_comes_too() -> None:
    """Four threads, and a loop that is told while they go on: none of 4,000 is lost."""

    async def asked() -> list[int]:
        done = [Future[int]() for _ in range(4000)]
        waiting = [awaited(each) for each in done]
        some = [[partial(each.set_result, 1) for each in done[at::4]] for at in range(4)]
        threads = [threading.Thread(target=elsewhere, args=each) for each in some]
        for thread in threads:
            thread.start()
        found = await asyncio.wait_for(asyncio.gather(*waiting), 240)
        for thread in threads:
            thread.join()
        return found

    assert asyncio.run(asked()) == [1] * 4000


def test_a_loop_that_is_closed_is_not_woken() -> None:
    done = Future[int]()

    async def asked() -> None:
        awaited(done)

    asyncio.run(asked())
    done.set_result(1)
