"""The consortium log at the coordinator: one entry a round, whatever is killed or told again."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from contextlib import closing
from pathlib import Path

import pytest
from tests.fakes.grids.grid_parts import wait_until
from tests.fakes.made_witnesses import CONTRACT, entry

from presspool.common.base.errors import EvidenceError, LedgerError
from presspool.common.transparency import merkle, notes
from presspool.common.transparency.checkpoints import open_checkpoint
from presspool.common.transparency.consortium_entries import Entry, Rounds, parse_entry
from presspool.common.transparency.tree import Tree
from presspool.server.database import Database
from presspool.server.witnessing.consortium_log import Consortium

LOG = notes.Signer.load("example.org/pool", b"p" * 32, kind=notes.NOTE)


def opened(url: str) -> Consortium:
    return Consortium(Database.open(url), LOG)


def test_entries_are_a_tree_with_one_signed_head_a_size(database_url: str) -> None:
    log = opened(database_url)
    assert [log.commit(entry(number)) for number in range(5)] == list(range(5))
    again = opened(database_url)
    for size in range(1, 6):
        assert again.head(size) == log.head(size)
        head, _ = open_checkpoint(log.head(size), log=LOG.key)
        tree = Tree(merkle.leaf_hash(entry(number).canonical()) for number in range(size))
        assert (head.size, head.root) == (size, tree.root())
    bodies = [entry(number).canonical() for number in range(5)]
    assert again.entries(0, most=1 << 20) == bodies
    assert again.entries(2, most=1) == bodies[2:3]  # one at least, or nobody could go on
    assert again.entries(5, most=1 << 20) == []


def test_a_round_that_is_told_again_is_one_entry_and_another_story_is_refused(
    database_url: str,
) -> None:
    log = opened(database_url)
    for number in (0, 0, 1, 1):
        log.commit(entry(number))
    log = opened(database_url)
    assert log.commit(entry(1)) == 1
    assert log.size == 2
    for other in (entry(1, state="another"), entry(0, state="another")):
        with pytest.raises(LedgerError, match="something else of this round"):
            log.commit(other)
    log.commit(entry(4))
    with pytest.raises(LedgerError, match="something else of this round"):
        log.commit(entry(3))
    assert log.size == 3
    assert log.find(CONTRACT, 4) == (2, entry(4).canonical())
    assert log.find(CONTRACT, 3) is None


def commit_until_killed(url: str, first: int) -> None:
    log = opened(url)
    for number in range(first, 10_000):
        log.commit(entry(number))


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.soak)])
def test_a_kill_at_any_moment_leaves_each_round_once_and_heads_that_only_grow(
    tmp_path: Path, kills: int
) -> None:
    url, chosen, before = f"sqlite:///{tmp_path / 'coordinator.db'}", random.Random(3), 0
    Database.open(url).close()
    context = multiprocessing.get_context("fork")
    old = Tree()
    for _ in range(kills):
        process = context.Process(target=commit_until_killed, args=(url, max(before - 1, 0)))
        process.start()
        assert process.pid is not None
        with closing(Database.open(url)) as seen:
            assert wait_until(lambda: Consortium(seen, LOG).size > before)  # noqa: B023
        time.sleep(chosen.uniform(0.0, 0.5))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        log = opened(url)
        bodies = log.entries(0, most=1 << 30)
        assert [parse_entry(body).round for body in bodies] == list(range(len(bodies)))
        tree = Tree(map(merkle.leaf_hash, bodies))
        assert len(tree) >= before
        assert tree.root(before) == old.root()
        before, old = len(tree), tree
    assert before > 0


def test_an_entry_has_one_spelling() -> None:
    good = entry(3).canonical()
    assert parse_entry(good) == entry(3)
    for bad in (
        b"",
        b"{}",
        good + b"\n",
        b" " + good,
        good.replace(b'"round":3', b'"round":3.0'),
        good.replace(b'"round":3', b'"round":true'),
        good.replace(b"sha256:", b"SHA256:"),
        good.replace(b'"outlet-0","outlet-1"', b'"outlet-1","outlet-0"'),
        good.replace(b'"outlet-0","outlet-1"', b'"outlet-0","outlet-0"'),
        good.replace(b"consortium/1", b"consortium/2"),
        good.replace(b'"run"', b'"ruin"'),
        good.replace(b"spring", b"spring\\n"),
        b"[" * 10_000,
        b"\xff" + good,
    ):
        assert bad != good
        with pytest.raises(EvidenceError, match="not an entry"):
            parse_entry(bad)


def test_rounds_come_once_and_in_order_for_each_contract() -> None:
    rounds, other = Rounds(), "sha256:" + "d" * 64
    for told in (entry(0), entry(1), entry(0, contract=other), entry(3), entry(1, contract=other)):
        rounds.take(told)
    wrong: list[Entry] = [entry(3), entry(2), entry(0), entry(0, contract=other)]
    for told in wrong:
        with pytest.raises(EvidenceError, match="a round twice, or out of order"):
            rounds.take(told)
    assert rounds.size == 5
    rounds.take(entry(4))
