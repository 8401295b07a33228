"""What `presspool serve` says of a registry that nobody vouches for."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.registry.made_registry import make_registry


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return typed(monkeypatch, capsys, "serve")


def test_what_is_known_is_known_of_a_registry(serve: Command, tmp_path: Path) -> None:
    for option in ("--known", "--head"):
        said = serve("desk=run", option, tmp_path / "registry.json")
        assert (said.code, "--registry beside it" in said.err) == (2, True), said.err


def test_a_registry_s_own_keys_are_believed_aloud(serve: Command, tmp_path: Path) -> None:
    """Nothing is in production, so nothing is served in the end."""
    made = make_registry(tmp_path)
    words = "the registry's own keys are believed"
    said = serve("--registry", made.url)
    assert (said.code, words in said.err) == (2, True), said.err
    said = serve("--registry", made.url, "--known", Path(made.url) / "registry.json")
    assert (said.code, words in said.err) == (2, False), said.err
    assert "nothing is in production" in said.err
