"""Stops at random moments: none hangs, whatever the main thread is doing."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

STORM = """
import os, random, signal, sys, threading, time
from contextlib import contextmanager
from presspool.common.base import stopping

wake = threading.Event()

@contextmanager
def planted(on_signal):
    '''As it was: the event is set in the handler itself.'''
    ended = threading.Event()
    def handler(number, frame):
        on_signal()
        ended.set()
    before = signal.signal(signal.SIGTERM, handler)
    yield ended
    signal.signal(signal.SIGTERM, before)

block = planted if sys.argv[2] == "planted" else stopping.until_signalled
for stop in range(int(sys.argv[1])):
    with block(wake.set) as stopped:
        after = random.uniform(0, 0.002)
        threading.Timer(after, os.kill, (os.getpid(), signal.SIGTERM)).start()
        while not stopped.is_set():
            wake.wait(0)
            wake.clear()
print("ended")
"""

BUSY = """
import sys, time
from presspool.common.base import stopping
stopping.GRACE_SECONDS = 0.3
with stopping.until_signalled(*map(eval, sys.argv[1:])):
    print("busy", flush=True)
    time.sleep(60)
print("left")
"""


def storm(stops: int, code: str, seconds: float) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", STORM, str(stops), code],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.mark.parametrize("stops", [60, pytest.param(500, marks=pytest.mark.soak)])
def test_no_stop_hangs(stops: int) -> None:
    assert storm(stops, "ours", 120) == "ended"


def test_an_event_that_is_set_in_the_handler_hangs() -> None:
    """What the storm is for: the mistake that was there is seen by it."""
    with pytest.raises(subprocess.TimeoutExpired):
        storm(200, "planted", 10)


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_work_that_does_not_end_by_itself_is_ended(kind: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "busy\n"
        child.send_signal(kind)
        assert child.wait(30) == 0
        assert child.stdout.read() == ""


def test_work_is_ended_also_where_ending_the_waiting_fails() -> None:
    command = [sys.executable, "-c", BUSY, "lambda: 1 / 0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "busy\n"
        child.send_signal(signal.SIGTERM)
        try:
            assert child.wait(20) == 0
        finally:
            child.kill()


def test_handlers_are_put_back() -> None:
    from presspool.common.base.stopping import until_signalled

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with until_signalled():
        assert signal.getsignal(signal.SIGTERM) is not before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
