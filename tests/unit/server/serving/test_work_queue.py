"""The queue before the model: bounded, in order, and nobody's failure is another's."""

from __future__ import annotations

import threading

import pytest

from presspool.server.serving.shelf.call_errors import CallError
from presspool.server.serving.shelf.work_queue import QueuedJob, WorkQueue


class Model:
    """Answers jobs with their rows once it may; fails where a job asks for it."""

    def __init__(self) -> None:
        self.may, self.at_work = threading.Event(), threading.Event()
        self.batches: list[list[int]] = []

    def run(self, jobs: list[QueuedJob]) -> None:
        self.at_work.set()
        assert self.may.wait(240)
        self.batches.append([job.rows for job in jobs])
        if any(job.rows == 13 for job in jobs):
            raise PanicException("quotes what was asked")
        for job in jobs:
            job.future.set_result(job.rows)


class PanicException(BaseException):
    """No `Exception`, as Rust's bindings call theirs."""


def test_a_full_queue_refuses_and_never_grows() -> None:
    model = Model()
    queue = WorkQueue(model.run, capacity=10, at_once=4)
    first = QueuedJob(rows=1)
    queue.submit(first)
    assert model.at_work.wait(240)
    taken = [QueuedJob(rows=5) for _ in range(2)]
    for job in taken:
        queue.submit(job)
    for _ in range(100):
        with pytest.raises(CallError) as refused:
            queue.submit(QueuedJob(rows=1))
        assert refused.value.status == 429
        assert int(refused.value.headers["retry-after"]) >= 1
    assert queue.waiting == 2
    with pytest.raises(CallError, match="more than 10") as never:
        queue.submit(QueuedJob(rows=11))
    assert never.value.status == 413
    model.may.set()
    assert [job.future.result(240) for job in (first, *taken)] == [1, 5, 5]
    queue.submit(more := QueuedJob(rows=10))  # there is room again
    assert more.future.result(240) == 10
    queue.close()


def test_jobs_are_taken_together_in_their_order() -> None:
    model = Model()
    queue = WorkQueue(model.run, at_once=4)
    queue.submit(QueuedJob(rows=1))
    assert model.at_work.wait(240)
    for rows in (2, 2, 3, 9, 1):
        queue.submit(QueuedJob(rows=rows))
    model.may.set()
    queue.close()
    assert model.batches == [[1], [2, 2], [3], [9], [1]]


def test_who_hung_up_is_not_worked_for() -> None:
    model = Model()
    queue = WorkQueue(model.run)
    queue.submit(QueuedJob(rows=1))
    assert model.at_work.wait(240)
    jobs = [QueuedJob(rows=rows) for rows in (2, 3)]
    for job in jobs:
        queue.submit(job)
    assert jobs[0].future.cancel()
    model.may.set()
    queue.close()
    assert model.batches == [[1], [3]]


def test_one_jobs_failure_is_its_own(caplog: pytest.LogCaptureFixture) -> None:
    model = Model()
    queue = WorkQueue(model.run)
    queue.submit(QueuedJob(rows=1))
    assert model.at_work.wait(240)
    jobs = [QueuedJob(rows=rows) for rows in (2, 13, 3)]
    for job in jobs:
        queue.submit(job)
    model.may.set()
    queue.close()
    assert jobs[0].future.result(0) == 2
    assert jobs[2].future.result(0) == 3
    failed = jobs[1].future.exception(0)
    assert isinstance(failed, CallError)
    assert failed.status == 500
    assert "quotes" not in caplog.text + failed.message


def test_who_has_heard_a_part_does_not_hear_it_twice() -> None:
    """A batch that fails in mid-answer is done again for those alone who have heard nothing."""
    model, heard = Model(), list[int]()

    def run(jobs: list[QueuedJob]) -> None:
        for job in jobs:
            if job.rows == 2:
                job.begun = True
                heard.append(job.rows)
        if len(jobs) > 1:
            raise IndexError("beyond the model's positions")
        model.run(jobs)

    queue = WorkQueue(run)
    queue.submit(QueuedJob(rows=1))
    assert model.at_work.wait(240)
    jobs = [QueuedJob(rows=rows) for rows in (2, 3)]
    for job in jobs:
        queue.submit(job)
    model.may.set()
    queue.close()
    assert heard == [2]
    assert jobs[1].future.result(0) == 3
    with pytest.raises(CallError, match="broke off") as caught:
        jobs[0].future.result(0)
    assert caught.value.status == 500


def test_what_was_taken_in_is_answered_before_the_end() -> None:
    model = Model()
    queue = WorkQueue(model.run)
    jobs = [QueuedJob(rows=rows) for rows in (1, 2, 3)]
    for job in jobs:
        queue.submit(job)
    model.may.set()
    queue.close()
    assert [job.future.result(0) for job in jobs] == [1, 2, 3]
    with pytest.raises(CallError) as stopping:
        queue.submit(QueuedJob(rows=1))
    assert stopping.value.status == 503


def test_one_key_cannot_fill_the_queue() -> None:
    model = Model()
    queue = WorkQueue(model.run, capacity=12, at_once=1)
    queue.submit(QueuedJob(rows=1))
    assert model.at_work.wait(240)

    def taken(key: str) -> int:
        for jobs in range(20):
            try:
                queue.submit(QueuedJob(rows=1, key=key))
            except CallError:
                return jobs
        raise AssertionError

    # Each as much as it leaves to others: a half, half of the half, and so on.
    assert [taken(key) for key in ("one", "two", "three")] == [6, 3, 1]
    model.may.set()
    queue.close()
    assert sum(map(len, model.batches)) == 11


def test_a_job_that_yields_makes_way_before_its_turn_and_in_it() -> None:
    model = Model()
    queue = WorkQueue(model.run)
    queue.submit(first := QueuedJob(rows=1))
    assert model.at_work.wait(240)
    queue.submit(shadow := QueuedJob(rows=1, yields=True))
    queue.submit(second := QueuedJob(rows=2))
    assert (shadow.left, shadow.future.cancelled()) == (True, True)
    with pytest.raises(CallError, match="others wait"):
        queue.submit(QueuedJob(rows=1, yields=True))
    model.may.set()
    assert [job.future.result(240) for job in (first, second)] == [1, 2]
    model.may.clear()
    model.at_work.clear()
    queue.submit(shadow := QueuedJob(rows=3, yields=True))
    assert model.at_work.wait(240)
    queue.submit(last := QueuedJob(rows=1))
    assert (shadow.left, shadow.future.cancelled()) == (True, False)  # at work: it looks itself
    model.may.set()
    assert last.future.result(240) == 1
    queue.close()
    assert [3, 1] not in model.batches
    assert model.batches[-2:] == [[3], [1]]
