"""What a header alone tells: a run that is over, a round that no policy allows; else nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fakes.made_ledgers import JOB, RUN, identity
from tests.fakes.made_outlets import new_ledger
from tests.fakes.made_pool import made_task

from presspool.client.agent.spool import Spool
from presspool.client.agent.task_rules import judge
from presspool.common.base.errors import GuardError
from presspool.common.ledger.store import Ledger
from presspool.common.wire.envelope import TaskHeader


def _home(folder: Path) -> Path:
    (folder / "outlet.toml").write_text(
        'name = "north-post"\ndata = "x.csv"\npolicy = "policy.toml"\nledger = "ledger.db"\n'
    )
    (folder / "policy.toml").write_text("max_rounds = 50\n")
    new_ledger(folder / "ledger.db")
    return folder


def _header(round: int) -> TaskHeader:
    return made_task("north-post", b"", round=round, contract=RUN)[0]


def test_only_a_run_that_is_over_or_a_round_beyond_the_policy_is_refused(tmp_path: Path) -> None:
    home, spool = _home(tmp_path), Spool(tmp_path / "work")
    before = judge(home, spool)
    before(_header(1))
    with pytest.raises(GuardError) as refused:
        before(_header(51))
    assert refused.value.code == "policy-rounds"
    with Ledger(home / "ledger.db") as ledger:
        entry = ledger.reserve(
            run=RUN, unit="reader", period="2026", datasets=[identity(1)], event=JOB, head=None
        )
        before(_header(1))
        ledger.intend(entry.reservation, round_number=1, steps=20, digest=RUN)
        ledger.settle(entry.reservation)
    before(_header(1))  # bound: its phases may follow
    with pytest.raises(GuardError) as refused:
        before(_header(2))
    assert refused.value.code == "run-over"
    (home / "work").mkdir()
    spool.answer(_header(2).task).write_bytes(b"paid for")
    before(_header(2))


def test_a_home_that_cannot_be_read_is_left_to_the_gate(tmp_path: Path) -> None:
    home = _home(tmp_path)
    (home / "policy.toml").write_text("max_rounds = 0\n")
    judge(home, Spool(tmp_path / "work"))(_header(1))
