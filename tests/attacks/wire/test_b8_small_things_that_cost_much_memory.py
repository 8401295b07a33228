"""Tiny arrays, packed shapes, small numbers and empty entries, weighed in a child's memory."""

from __future__ import annotations

import io
import multiprocessing
import resource
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from flwr.proto import recorddict_pb2 as flower
from google.protobuf.proto import serialize_length_prefixed
from tests.fakes.made_pool import made_task, open_pool, task_body

from presspool.client.witnessing.log_copy import LogCopy
from presspool.common.base.errors import EvidenceError
from presspool.common.transparency import notes
from presspool.common.transparency.checkpoints import Checkpoint
from presspool.common.wire import flower as content

MEGABYTE = 1 << 20
_FORK = multiprocessing.get_context("fork")


def tiny_arrays(size: int) -> bytes:
    """Pieces of one empty array each."""
    parts, length = [], 0
    for number in range(size):
        array = flower.ArrayRecord.Item(
            key=str(number), value=flower.Array(dtype="float32", shape=[0], stype="s")
        )
        parts.append(piece(flower.ArrayRecord(items=[array])))
        if (length := length + len(parts[-1])) > size:
            break
    return b"".join(parts)


def packed_shape(size: int) -> bytes:
    """One array with a dimension a byte."""
    array = flower.Array(dtype="float32", shape=[1] * size, stype="s")
    return piece(flower.ArrayRecord(items=[flower.ArrayRecord.Item(key="w", value=array)]))


def small_numbers(size: int) -> bytes:
    """A field that is a list of zeros."""
    value = flower.ConfigRecordValue(uint_list=flower.UintList(vals=[0] * size))
    return config(flower.ConfigRecord.Item(key="said", value=value))


def many_fields(size: int) -> bytes:
    """A record of as many fields as fit."""
    one = flower.ConfigRecordValue(bool=True)
    return config(*(flower.ConfigRecord.Item(key=str(n), value=one) for n in range(size // 14)))


def many_items(size: int) -> bytes:
    """A piece of empty items."""
    return prefixed(flower.RecordDict(items=[flower.RecordDict.Item()] * (size // 2)))


def config(*items: flower.ConfigRecord.Item) -> bytes:
    return prefixed(
        flower.RecordDict(
            items=[
                flower.RecordDict.Item(
                    key="update", config_record=flower.ConfigRecord(items=list(items))
                )
            ]
        )
    )


def piece(record: flower.ArrayRecord) -> bytes:
    return prefixed(
        flower.RecordDict(items=[flower.RecordDict.Item(key="adapter", array_record=record)])
    )


def prefixed(message: flower.RecordDict) -> bytes:
    stream = io.BytesIO()
    serialize_length_prefixed(message, stream)
    return stream.getvalue()


def grown(what: Callable[[], None]) -> int:
    """By how many bytes a child's largest memory grows while it does this."""
    ours, theirs = _FORK.Pipe(duplex=False)
    child = _FORK.Process(target=_measured, args=(theirs, what))
    child.start()
    size: int = ours.recv()
    child.join()
    assert child.exitcode == 0, f"it was taken, for {size} bytes"
    return size


def _measured(out: Connection, what: Callable[[], None]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        what()
    finally:
        out.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)


MADE = (tiny_arrays, packed_shape, small_numbers, many_fields, many_items)


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("size", [MEGABYTE, pytest.param(10 * MEGABYTE, marks=pytest.mark.soak)])
def test_a_body_costs_little_more_than_it_weighs(made: Callable[[int], bytes], size: int) -> None:
    body = made(size)

    def read() -> None:
        for parse in (content.from_bytes, lambda data: content.from_stored(io.BytesIO(data))):
            with pytest.raises(ValueError, match="not a message's content"):
                parse(body)

    assert grown(read) < 4 * len(body) + 8 * MEGABYTE


@pytest.mark.parametrize("entries", [200_000, pytest.param(4_000_000, marks=pytest.mark.soak)])
def test_empty_entries_of_the_log_are_counted(entries: int) -> None:
    signer = notes.Signer.generate("example.org/pool", kind=notes.NOTE)
    text = Checkpoint(origin=signer.key.name, size=entries, root=bytes(32)).text
    note = notes.Note(text=text).signed(signer.sign(text))
    fetched: list[int] = []

    def fetch(start: int) -> Sequence[bytes]:
        fetched.append(start)
        return [b""] * 100_000

    def follow() -> None:
        with pytest.raises(EvidenceError):
            LogCopy(signer.key).follow(note, held=None, fetch=fetch)
        assert not fetched

    assert grown(follow) < 96 * MEGABYTE


def test_a_task_that_declares_too_much_is_not_read(tmp_path: Path) -> None:
    body = task_body(1)
    with open_pool(tmp_path, ["north-post"]) as pool, pool.node("north-post") as node:
        pool.desk.hand_out([made_task("north-post", body, bytes=2**31 - 1)], body)
        with pytest.raises(EvidenceError, match="too large"):
            node.step()
        assert node._spool.tasks() == []
