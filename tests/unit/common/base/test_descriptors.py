"""How many connections a process may hold, under limits of its own."""

from __future__ import annotations

import multiprocessing
import resource

import pytest

from presspool.common.base.descriptors import MOST, most_connections

_FORK = multiprocessing.get_context("fork")


def limited(soft: int, hard: int) -> tuple[int, int]:
    """What a process with these limits may hold, and its soft limit afterwards."""
    ours, theirs = _FORK.Pipe(duplex=False)

    def child() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        found = most_connections()
        theirs.send((found, resource.getrlimit(resource.RLIMIT_NOFILE)[0]))

    process = _FORK.Process(target=child)
    process.start()
    said: tuple[int, int] = ours.recv()
    process.join()
    return said


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "raised"),
    [(256, 1024, 768, 1024), (1024, 1024, 768, 1024), (256, 8192, 6144, 8192)],
)
def test_a_quarter_of_what_can_be_had_is_kept(
    soft: int, hard: int, connections: int, raised: int
) -> None:
    assert limited(soft, hard) == (connections, raised)


def test_no_more_is_taken_than_connections_need() -> None:
    assert most_connections() <= MOST
