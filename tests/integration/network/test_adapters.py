"""An outlet gets the model that it helped to train, and uses it: typed as its operator types it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.fakes.instruments.finished_run import FinishedRun, finished_run
from tests.fakes.instruments.typed import Answer, Command, typed

from presspool.client.agent.fetched_adapter import FetchedAdapter, kept
from presspool.common.released.adapter_folder import MANIFEST, read_adapter

LONGEST_WAIT = 240.0


@pytest.fixture
def presspool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    torch.set_num_threads(1)
    return typed(monkeypatch, capsys)


@pytest.fixture
def done(tmp_path: Path, contract_body: dict[str, Any]) -> Iterator[FinishedRun]:
    with finished_run(tmp_path, contract_body) as found:
        yield found


def fetched(presspool: Command, home: Path, *more: object) -> Answer:
    """Fetch, as often as it takes until the log is witnessed."""
    until = time.monotonic() + LONGEST_WAIT
    while True:
        said = presspool("outlet", "adapters", "fetch", *more, "--home", home, "--json")
        if "not witnessed yet" not in said.err or time.monotonic() > until:
            return said
        time.sleep(0.2)


def test_an_outlet_fetches_checks_and_uses_the_adapter(
    done: FinishedRun, presspool: Command, tmp_path: Path
) -> None:
    home = done.home()
    rows = json.loads(presspool("outlet", "adapters", "list", "--home", home, "--json").out)
    assert [(row["run"], row["folder"]) for row in rows] == [(done.id, None)]
    early = presspool("outlet", "adapters", "fetch", "--home", home)
    assert early.code == 1
    assert "not witnessed yet" in early.err
    assert kept(home) == []

    done.pool.start()
    said = fetched(presspool, home)
    assert said.code == 0, said.err
    ((one),) = json.loads(said.out)
    folder = Path(one["folder"])
    assert folder.parent == home / "adapters"
    assert one["no_card"] == "the coordinator has none"
    for path in (folder.parent, folder, *folder.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
    mine, theirs = read_adapter(folder), read_adapter(done.folder.path)
    assert mine.adapter == theirs.adapter == f"sha256:{done.result.adapter_sha256}"
    assert mine.contract == done.contract
    lineage = json.loads(FetchedAdapter(folder).lineage.read_text())
    assert [entry["round"] for entry in lineage["rounds"]] == [0, 1, 2]
    assert lineage["rounds"][1]["outlets"] == ["outlet-0", "outlet-1"]
    assert lineage["base_model"]["weights"] == done.contract.model.weights
    assert lineage["adapter"] == lineage["adapter_at_coordinator"] == mine.adapter
    assert len(lineage["witnessed_by"]) >= 2

    again = presspool("outlet", "adapters", "fetch", "--home", home)
    assert (again.code, "is here" in again.out) == (0, True)
    listed = presspool("outlet", "adapters", "list", "--home", home)
    assert str(folder) in listed.out
    checked = presspool("outlet", "adapters", "verify", "--home", home)
    assert checked.code == 0, checked.err
    assert "is the one that the log names" in checked.out
    assert "-DP at reader level" in checked.out

    texts = tmp_path / "news.csv"
    texts.write_text("text\nminister says treaty\ngoal in final\n")
    answered = presspool("predict", folder, texts)
    assert answered.code == 0, answered.err
    assert answered.out == presspool("predict", done.folder.path, texts).out


def test_who_was_not_in_the_run_gets_nothing(done: FinishedRun, presspool: Command) -> None:
    done.pool.start()
    outsider = done.home(2)
    listed = presspool("outlet", "adapters", "list", "--home", outsider)
    assert (listed.code, listed.out) == (0, "no run of this outlet is complete\n")
    by_name = presspool("outlet", "adapters", "fetch", done.contract.digest, "--home", outsider)
    assert by_name.code == 2
    assert "no such finished run of this outlet" in by_name.err
    done.pool.members.revoke("outlet-1", "left the pool")
    revoked = presspool("outlet", "adapters", "fetch", "--home", done.home(1))
    assert revoked.code == 1
    assert "revoked" in revoked.err
    assert not (done.home(1) / "adapters").exists()


def test_a_run_whose_folder_was_cleared_away_is_in_no_others_way(
    done: FinishedRun, presspool: Command, tmp_path: Path
) -> None:
    done.folder.path.rename(tmp_path / "elsewhere")
    listed = presspool("outlet", "adapters", "list", "--home", done.home())
    assert (listed.code, listed.out) == (0, "no run of this outlet is complete\n")


def test_what_was_changed_here_is_found(done: FinishedRun, presspool: Command) -> None:
    home = done.home()
    done.pool.start()
    assert fetched(presspool, home, done.id).code == 0
    (one,) = kept(home)
    assert presspool("outlet", "adapters", "verify", "nothing", "--home", home).code == 2
    proof, manifest = one.proof.read_bytes(), (one.adapter / MANIFEST).read_text()
    one.proof.write_bytes(proof.replace(b"extra ", b"extra A", 1))
    said = presspool("outlet", "adapters", "verify", "--home", home)
    assert (said.code, "Traceback" in said.err) == (1, False)
    one.proof.write_bytes(proof)
    _swap_weights(one, manifest, "lora_B")
    said = presspool("outlet", "adapters", "verify", done.contract.digest, "--home", home)
    assert said.code == 1
    assert "another adapter than the witnessed log names" in said.err


def test_a_frozen_factor_that_was_changed_is_found(done: FinishedRun, presspool: Command) -> None:
    """Its digest is not in the log: it is public, and derived here."""
    home = done.home()
    done.pool.start()
    assert fetched(presspool, home).code == 0
    (one,) = kept(home)
    _swap_weights(one, (one.adapter / MANIFEST).read_text(), "lora_A")
    said = presspool("outlet", "adapters", "verify", "--home", home)
    assert said.code == 1
    assert "public seed" in said.err


def _swap_weights(one: FetchedAdapter, manifest: str, part: str) -> None:
    """Change some weights, and everything in the adapter's own folder that speaks of them."""
    import hashlib

    from safetensors.numpy import load_file, save_file

    path = one.adapter / "adapter_model.safetensors"
    arrays = load_file(path)
    name = next(name for name in arrays if part in name)
    arrays[name] = arrays[name] + 1
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    save_file(arrays, path, metadata={"format": "pt"})
    after = hashlib.sha256(path.read_bytes()).hexdigest()
    (one.adapter / MANIFEST).write_text(manifest.replace(before, after))
