"""Approvals: by digest, beside the policy, and bounded in what a coordinator can leave there."""

from __future__ import annotations

from pathlib import Path

import pytest

from presspool.client.consent.approvals import MOST_WAITING, Approvals
from presspool.common.base.errors import InputError, StorageError
from presspool.common.contract.contract import Contract


def test_a_run_waits_until_its_very_contract_is_approved(
    tmp_path: Path, contract: Contract
) -> None:
    approvals = Approvals(tmp_path / "approvals")
    assert approvals.waiting() == []
    assert not approvals.approved(contract.digest)
    approvals.ask(contract)
    approvals.ask(contract)
    assert approvals.waiting() == [contract.digest]
    approvals.approve(contract.digest)
    assert approvals.approved(contract.digest)
    assert approvals.waiting() == []
    assert not approvals.approved(contract.replace(seed=contract.seed + 1).digest)


def test_the_newest_word_on_a_run_counts_and_a_kill_between_two_words_declines_it(
    tmp_path: Path, contract: Contract
) -> None:
    approvals, run = Approvals(tmp_path / "approvals"), contract.digest
    approvals.ask(contract)
    assert approvals.decline(run, by="A. Editor").by == "A. Editor"
    assert (approvals.declined(run), approvals.approved(run)) == (True, False)
    assert (approvals.waiting(), approvals.all_declined()) == ([], [run])
    approvals.approve(run)
    assert (approvals.declined(run), approvals.approved(run)) == (False, True)
    approvals.decline(run)
    (tmp_path / "approvals" / f"{run[7:]}.approved").touch()  # a kill within `approve`
    assert approvals.declined(run)


def test_what_waits_does_not_fill_the_disk(tmp_path: Path, contract: Contract) -> None:
    approvals = Approvals(tmp_path)
    (tmp_path / "note.json").write_text("not a run's")
    for seed in range(MOST_WAITING + 5):
        approvals.ask(contract.replace(seed=seed))
    assert len(approvals.waiting()) == MOST_WAITING
    approvals.approve(approvals.waiting()[0])
    approvals.ask(contract.replace(seed=999))
    assert contract.replace(seed=999).digest in approvals.waiting()


@pytest.mark.parametrize("text", ["", "sha256:", "sha256:../../x", "0" * 64, "sha256:" + "G" * 64])
def test_only_a_digest_names_a_run(text: str, tmp_path: Path) -> None:
    for act in (Approvals(tmp_path).approve, Approvals(tmp_path).approved):
        with pytest.raises(InputError, match="not a run's digest"):
            act(text)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path, contract: Contract) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        Approvals(tmp_path / "file" / "approvals").ask(contract)
