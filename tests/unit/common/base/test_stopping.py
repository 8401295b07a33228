"""Signals: whatever a process is doing, it ends soon, and nothing that must be done is left out."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from tests.fakes.children.stopped_children import Ends, stopped

from presspool.common.base.stopping import held_back, interrupted, undisturbed, until_signalled

LONG = 600.0  # no test process is ended by a machine that is slow


@pytest.mark.parametrize(
    "count", [pytest.param(15, id="sample"), pytest.param(500, marks=pytest.mark.soak, id="all")]
)
@pytest.mark.parametrize("kind", ["waiting", "locking", "stuck", "attacking"])
def test_stops_at_random_moments_leave_no_process_behind(
    kind: str, count: int, tmp_path: Path
) -> None:
    assert stopped(kind, count, tmp_path) == Ends(hung=0, codes={"0": count}, left=0)


def test_stops_at_random_moments_find_a_handler_that_takes_a_lock(tmp_path: Path) -> None:
    assert stopped("planted", 20, tmp_path, seconds=1.5).hung > 0


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_calls_each_stop_once_in_another_thread(kind: signal.Signals) -> None:
    stopping, threads = threading.Event(), []

    def stop() -> None:
        threads.append(threading.current_thread())
        stopping.set()

    before = signal.getsignal(kind), signal.set_wakeup_fd(-1)
    with until_signalled(grace=LONG) as signalled:
        signalled.then(stop)
        for _ in range(3):
            os.kill(os.getpid(), kind)
        assert stopping.wait(LONG)
        late = threading.Event()
        signalled.then(late.set)
        assert late.is_set()
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()
    assert (signal.getsignal(kind), signal.set_wakeup_fd(-1)) == before


def test_other_signals_stop_nothing() -> None:
    asked: list[bool] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with until_signalled(grace=LONG) as signalled:
            signalled.then(lambda: asked.append(True))
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not asked


def test_a_block_that_ends_by_itself_leaves_no_thread_and_no_pipe() -> None:
    def counted() -> tuple[int, int]:
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    before = counted()
    for _ in range(10):
        with until_signalled():
            pass
    # What other tests have left behind may go, or be told to go, meanwhile.
    assert max(now - was for now, was in zip(counted(), before, strict=True)) < 10


def test_a_forked_child_ends_as_any_process_does_and_its_parent_goes_on() -> None:
    reads, writes = os.pipe()
    asked: list[bool] = []
    with until_signalled(grace=LONG) as signalled:
        signalled.then(lambda: asked.append(True))
        child = os.fork()
        if child == 0:
            os.write(writes, b"!")
            time.sleep(20)
            os._exit(0)
        os.read(reads, 1)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        time.sleep(0.1)
    os.close(reads)
    os.close(writes)
    assert not asked


def test_in_another_thread_the_blocks_do_nothing() -> None:
    seen = []

    def work() -> None:
        before = signal.getsignal(signal.SIGTERM)
        with until_signalled(), interrupted(), undisturbed(), held_back():
            seen.append(signal.getsignal(signal.SIGTERM) is before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]


def cleaned_up(kind: signal.Signals, done: list[str]) -> None:
    with interrupted():
        try:
            signal.raise_signal(kind)
        finally:
            signal.raise_signal(signal.SIGTERM)
            with undisturbed():
                signal.raise_signal(kind)
            done.append("cleaned up")


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_in_a_row_interrupt_once_and_a_clean_up_never(kind: signal.Signals) -> None:
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    done: list[str] = []
    try:
        with pytest.raises(KeyboardInterrupt):
            cleaned_up(kind, done)
    finally:
        signal.signal(signal.SIGINT, ignored)
    assert done == ["cleaned up"]


def made_whole(kind: signal.Signals, done: list[str]) -> None:
    with interrupted():
        with held_back():
            signal.raise_signal(kind)
            signal.raise_signal(kind)
            done.append("whole")
        done.append("what comes after")


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_waits_for_the_end_of_what_must_be_whole(kind: signal.Signals) -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        made_whole(kind, done)
    assert done == ["whole"]


def test_what_ignores_ctrl_c_goes_on_ignoring_it() -> None:
    """A job in the background, whose shell keeps Ctrl-C from it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupted():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
