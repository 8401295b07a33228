"""A query from policy to answer: off by default, once for each name, paid before it is counted."""

from __future__ import annotations

import csv
import hashlib
import json
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_outlets import DELTA, EPSILON, ORDER, new_ledger

from presspool.client.consent import budget_report
from presspool.client.consent.policy import Policy
from presspool.client.data.suppression_list import SuppressionList
from presspool.client.engine.randomness import SecureRandom
from presspool.client.opinion import counts_release
from presspool.client.opinion.counts_release import answer, noised
from presspool.client.opinion.opinion_query import OpinionQuery, read_query
from presspool.client.opinion.reader_counts import reader_counts
from presspool.common.accounting import events, filter
from presspool.common.audit.dashboard.alerts import alerts
from presspool.common.audit.dashboard.source_watch import SourceWatch
from presspool.common.base.errors import FolderError, InputError, LedgerError
from presspool.common.ledger import entries
from presspool.common.ledger.log import utc_today
from presspool.common.ledger.store import Ledger
from presspool.common.released.counts_document import CountsDocument

QUERY = """name = "mood"
labels = ["bad", "good"]
first = 2026-01-01
periods = 2
by = "month"
share = 0.05
"""
ALLOWED = "[counts]\nallowed = true\nmax_share = 0.1\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An outlet of 300 readers: all good in January, two thirds of them bad in February."""
    monkeypatch.chdir(tmp_path)
    rows = [(f"r{i}", f"t{i}", "good", "2026-01-03") for i in range(300)]
    rows += [(f"r{i}", f"u{i}", "bad" if i % 3 else "good", "2026-02-03") for i in range(300)]
    with Path("data.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("reader", "text", "label", "seen"), *rows])
    Path("outlet.toml").write_text(
        'name = "o"\ndata = "data.csv"\npolicy = "policy.toml"\nledger = "ledger.db"\n'
        '[care]\nday = "seen"\n'
    )
    Path("policy.toml").write_text(ALLOWED)
    Path("mood.toml").write_text(QUERY)
    new_ledger(Path("ledger.db"))
    return tmp_path


@pytest.fixture
def outlet(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    made = typed(monkeypatch, capsys, "outlet", width=100)
    assert made("import").code == 0
    return made


def query() -> OpinionQuery:
    return read_query(Path("mood.toml"))


def written() -> list[entries.Entry]:
    with Ledger(Path("ledger.db")) as ledger:
        return [entries.parse_entry(b) for b in ledger.bodies(0, ledger.refresh().size)]


def kinds() -> list[str]:
    return [entry.kind for entry in written()]


def test_an_answer_is_near_the_truth_paid_for_and_bound(outlet: Command, home: Path) -> None:
    said = outlet("count", "mood.toml", "--json")
    assert said.code == 0, said.err
    found = CountsDocument.read(home / "counts" / "mood.json")
    assert kinds() == ["opened", "reserve", "release-intent", "settle"]
    reserve, intent = written()[1], written()[2]
    assert isinstance(reserve, entries.Reserve)
    assert isinstance(intent, entries.ReleaseIntent)
    assert reserve.purpose == "reader-counts"
    room = filter.capacity(epsilon=EPSILON, delta=DELTA, order=ORDER)
    assert reserve.charge * events.UNIT == pytest.approx(0.05 * room, rel=1e-6)
    assert intent.digest.removeprefix("sha256:") == _sha256(home / "counts" / "mood.json")
    truth = np.array([[0, 300], [200, 100]])
    assert np.abs(np.array(found.counts) - truth).max() < 8 * found.sigma
    assert found.sigma == pytest.approx((2 * ORDER / (2 * 0.05 * room)) ** 0.5, rel=1e-9)
    assert json.loads(said.out)["counts"] == [list(row) for row in found.counts]


def test_the_dashboard_says_that_readers_labels_drifted_and_shows_no_counts_nobody_paid_for(
    outlet: Command, home: Path
) -> None:
    path = home / "counts" / "mood.json"
    assert outlet("count", "mood.toml").code == 0
    watch = SourceWatch(lambda: [home])
    look = watch.look()
    assert look.counts == (CountsDocument.read(path),)
    moved = look.counts[0].series[1].moved
    assert moved is not None
    assert moved.drifted
    (alert,) = [one for one in alerts(look) if one.kind == "drift"]
    assert "“mood”" in alert.what
    assert moved.text in alert.what
    assert alert.entry == 1
    assert alert.origin == look.counts[0].origin
    # Both periods alike: nothing that was noised and paid for says so, and so it is not believed.
    found = CountsDocument.read(path)
    path.write_bytes(found.model_copy(update={"counts": (found.counts[0],) * 2}).encode())
    (home / "counts" / "torn.json").write_text("{")
    look = watch.look()
    watch.close()
    assert look.counts == ()
    assert [fault.source for fault in look.faults] == ["mood.json", "torn.json"]
    assert [one.kind for one in alerts(look) if one.kind == "drift"] == []
    assert len(look.evidence.outlets) == 1


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_noise_on_every_count_is_what_was_paid_for(tmp_path: Path) -> None:
    """Of nobody: 2,928 counts are noise alone, of the reserved σ, and no two runs share it."""
    asked = OpinionQuery(
        name="none",
        labels=tuple("abcdefgh"),
        first=date(2026, 1, 1),
        periods=366,
        by="day",
        share=0.1,
    )
    nobody = pa.table({name: pa.array([], pa.large_string()) for name in counts_release.COLUMNS})
    with Ledger(new_ledger(tmp_path / "ledger.db")) as ledger:
        room = ledger.book.room(EPSILON) * events.UNIT
        entry = ledger.reserve(
            run=asked.run,
            unit="reader",
            period="2026",
            datasets=[entries.new_id()],
            event=asked.event(order=ORDER, room=room),
            head=None,
            purpose="reader-counts",
        )
        held = ledger.book.dangling[entry.reservation]
        one, two = (
            np.array(
                noised(nobody, asked, held=held, ledger=ledger, random=SecureRandom()).counts
            ).ravel()
            for _ in range(2)
        )
    sigma = (366 * ORDER / (2 * 0.1 * room)) ** 0.5
    for drawn in (one, two):  # six standard errors
        assert abs(drawn.mean()) < 6 * sigma / len(drawn) ** 0.5
        assert abs(drawn.std() / sigma - 1) < 6 / (2 * len(drawn)) ** 0.5
    assert abs(np.corrcoef(one, two)[0, 1]) < 6 / len(one) ** 0.5


def test_asked_again_the_same_bytes_are_shown_and_nothing_is_paid(outlet: Command) -> None:
    first = outlet("count", "mood.toml").out
    before, size = Path("counts/mood.json").read_bytes(), len(written())
    Path("mood.toml").write_text(QUERY.replace("share = 0.05", "share = 0.01"))
    assert outlet("count", "mood.toml").out == first
    assert (Path("counts/mood.json").read_bytes(), len(written())) == (before, size)
    Path("counts/mood.json").unlink()
    with pytest.raises(FolderError, match="no other answer"):
        answer(Path(), query())


def test_the_policy_s_switch_is_off_by_default(outlet: Command) -> None:
    assert not Policy().counts.allowed
    Path("policy.toml").write_text("")
    said = outlet("count", "mood.toml")
    assert said.code == 2
    assert "[counts] allowed" in said.err
    assert kinds() == ["opened"]
    Path("policy.toml").write_text("[counts]\nallowed = true\n")
    assert outlet("count", "mood.toml").code == 0
    Path("mood.toml").write_text(QUERY.replace("mood", "more").replace("0.05", "0.06"))
    said = outlet("count", "mood.toml")
    assert said.code == 2
    assert "[counts] max_share" in said.err


def test_a_filter_that_is_full_refuses_and_writes_it_down(outlet: Command) -> None:
    Path("policy.toml").write_text(ALLOWED.replace("0.1", "1.0"))
    Path("mood.toml").write_text(QUERY.replace("share = 0.05", "share = 0.9"))
    assert outlet("count", "mood.toml").code == 0
    Path("mood.toml").write_text(QUERY.replace('"mood"', '"more"').replace("0.05", "0.2"))
    refused = outlet("count", "mood.toml")
    assert refused.code == 1
    assert "does not fit" in refused.err
    assert kinds()[-1] == "refusal"
    assert not Path("counts/more.json").exists()


def test_training_and_counts_share_one_filter(outlet: Command) -> None:
    step = events.PoissonSampled(rate=0.1, event=events.Gaussian(noise_multiplier=1.0))
    job = events.SelfComposed(event=step, count=50)
    with Ledger(Path("ledger.db")) as ledger:
        run = ledger.reserve(
            run="sha256:" + "1" * 64,
            unit="reader",
            period="2026",
            datasets=[entries.new_id()],
            event=job,
            head=None,
        )
        answer(Path(), query())
        found = budget_report.shown(ledger, Policy(), utc_today())
        counted = next(e for e in written() if isinstance(e, entries.Reserve) and e.purpose)
        assert ledger.refresh().spent == run.charge + counted.charge
        room = ledger.book.room(EPSILON)
    assert found["reader_counts"] == {"queries": 1, "share": counted.charge / room}
    assert found["share"] == (run.charge + counted.charge) / room
    assert found["more_like_the_last"] == (room - run.charge - counted.charge) // run.charge
    said = outlet("budget").out
    assert "5.0% of the lifetime budget went into 1 count of readers" in said
    assert "(reader-counts)" in outlet("runs").out


@pytest.mark.parametrize("dies", ["reader_counts", "replace_file", "bind_counts"])
def test_a_kill_before_the_answer_is_bound_goes_on_with_what_was_paid(
    outlet: Command, monkeypatch: pytest.MonkeyPatch, dies: str
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(counts_release, dies, die)
        with pytest.raises(KeyboardInterrupt):
            answer(Path(), query())
    assert kinds() == ["opened", "reserve"]
    drafts = list(Path("counts").glob("*.draft"))
    assert len(drafts) == (dies == "bind_counts")
    answer(Path(), query())
    assert kinds() == ["opened", "reserve", "release-intent", "settle"]
    assert not list(Path("counts").glob("*.draft"))


def test_a_kill_after_the_answer_was_bound_shows_those_bytes(
    outlet: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "settle", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            answer(Path(), query())
    (draft,) = Path("counts").glob("*.draft")
    data = draft.read_bytes()
    assert answer(Path(), query()).read_bytes() == data
    assert kinds() == ["opened", "reserve", "release-intent", "settle"]


def test_a_name_that_is_reserved_for_other_periods_is_refused(
    outlet: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(counts_release, "reader_counts", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            answer(Path(), query())
    other = query().model_copy(update={"periods": 3})
    with pytest.raises(InputError, match="asked before"):
        answer(Path(), other)


def test_erased_readers_are_in_no_count_and_the_others_are_noted(
    outlet: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def spied(rows: pa.Table, asked: OpinionQuery) -> NDArray[np.int64]:
        made = reader_counts(rows, asked)
        seen.append(int(made.sum()))
        return made

    monkeypatch.setattr(counts_release, "reader_counts", spied)
    suppression = SuppressionList(home / "private")
    suppression.exclude("r1")
    answer(Path(), query())
    assert seen == [598]
    assert query().run in suppression.runs_of("r2")
    assert query().run not in suppression.runs_of("r1")


def test_a_snapshot_without_days_is_said_before_anything_is_paid(outlet: Command) -> None:
    text = Path("outlet.toml").read_text()
    Path("outlet.toml").write_text(text.replace('[care]\nday = "seen"\n', ""))
    assert outlet("import").code == 0
    said = outlet("count", "mood.toml")
    assert said.code == 2
    assert "[care] day" in said.err
    assert kinds() == ["opened"]


@pytest.mark.parametrize(
    ("was", "now", "named"),
    [
        ("periods = 2", "periods = 0", "periods"),
        ('["bad", "good"]', '["bad", "bad"]', "labels"),
        ("2026-01-01", "2026-01-31", "first"),
        ("share = 0.05", "share = 2.0", "share"),
        ("share = 0.05", "shares = 0.05", "share"),
        ("2026-01-01", '"soon"', "first"),
        ("share = 0.05", "share = [", "mood.toml, line 6, column 10: not readable as TOML"),
    ],
)
def test_a_wrong_query_is_named(outlet: Command, was: str, now: str, named: str) -> None:
    Path("mood.toml").write_text(QUERY.replace(was, now))
    said = outlet("count", "mood.toml")
    assert said.code == 2
    assert named in said.err
    assert "Traceback" not in said.err


def test_only_gaussians_can_be_paid_for_as_counts(tmp_path: Path) -> None:
    step = events.PoissonSampled(rate=0.1, event=events.Gaussian(noise_multiplier=9.0))
    with (
        Ledger(new_ledger(tmp_path / "ledger.db")) as ledger,
        pytest.raises(LedgerError, match="not sampled"),
    ):
        ledger.reserve(
            run=query_run(),
            unit="reader",
            period="2026",
            datasets=[entries.new_id()],
            event=events.SelfComposed(event=step, count=2),
            head=None,
            purpose="reader-counts",
        )


def query_run() -> str:
    return "sha256:" + "2" * 64
