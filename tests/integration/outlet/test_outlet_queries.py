"""An outlet whose records lie with its tracker: import, look, and train a round on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.fakes.instruments.detectors import OUTLET, Bench, ask, task_of
from tests.fakes.instruments.made_trackers import CONSENT, KEPT, WINDOW, home_with, write_parquet
from tests.fakes.instruments.typed import typed
from tests.fakes.made_outlets import policy_body
from tests.fakes.made_runs import toml

from presspool.client import client_app
from presspool.client.data.readers import Readers
from presspool.common.contract.contract import parse_contract
from presspool.common.ledger import entries
from presspool.common.ledger.store import Ledger
from presspool.common.wire.update import pack_task


@pytest.fixture(scope="module")
def bench(contract_body: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench.of(parse_contract(contract_body), tmp_path_factory.mktemp("bench"))


@pytest.mark.parametrize("preset", ["snowplow", "ga4", "parsely"])
def test_a_round_is_trained_on_what_a_tracker_has(
    bench: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    preset: str,
) -> None:
    write_parquet(tmp_path / "events.parquet", preset)
    consent = f'consent = "{CONSENT[preset]}"' if CONSENT[preset] else ""
    table = f'source = "parquet"\nlocation = "events.parquet"\npreset = "{preset}"\n{consent}'
    home = home_with(tmp_path, f"{table}\nwindow = {WINDOW}\nmost_records = 2", name=OUTLET)
    (home / "policy.toml").write_text(toml(policy_body(bench.contract)), encoding="utf-8")
    outlet = typed(monkeypatch, capsys, "outlet")
    assert outlet("import", "--home", home).code == 0
    assert outlet("check-data", home / "snapshot.parquet").code == 0
    seen: list[Readers] = []
    real = client_app._forget_others

    def forget_others(readers: Readers, contract: Any) -> None:
        seen.append(readers)
        real(readers, contract)

    monkeypatch.setattr(client_app, "_forget_others", forget_others)
    answer = ask(home / "outlet.toml", pack_task(task_of(bench)))
    assert answer.has_content(), answer
    (readers,) = seen
    assert readers.offsets.tolist() == [0, 2, 3]  # ann's newest two, and bob's only one
    assert readers.table["text"].to_pylist() == [text for _, text, _ in (*KEPT[:2], KEPT[3])]
    with Ledger(home / "ledger.db") as ledger:
        kinds = [entries.parse_entry(b).kind for b in ledger.bodies(0, ledger.book.size)]
    assert kinds == ["opened", "data-frozen", "reserve", "adapter-received", "release-intent"]
