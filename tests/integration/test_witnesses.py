"""Outlets that witness for each other over the real port: what they train, and what they find."""

from __future__ import annotations

from pathlib import Path

from tests.made_witnesses import entry, witness_pool


def test_a_round_is_trained_when_its_start_is_committed_and_witnessed(tmp_path: Path) -> None:
    with witness_pool(tmp_path, 4) as pool:
        pool.start()
        assert pool.outlets[0].waits(1, turns=3)
        pool.service.commit(entry(0))
        assert [outlet.settled(1) for outlet in pool.outlets] == ["trained"] * 4
        assert pool.outlets[0].waits(2, turns=3)
        pool.service.commit(entry(1))
        assert [outlet.settled(2) for outlet in pool.outlets] == ["trained"] * 4
