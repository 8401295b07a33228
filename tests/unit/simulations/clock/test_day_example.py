"""The example of a day is a run of this version, with a buffer and without one."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import REPOSITORY

from presspool.common.contract.contract import Contract
from presspool.common.runs.run_file import read_run_file
from presspool.simulations.clock.timetable import timetable

EXAMPLE = REPOSITORY / "examples" / "day.toml"


@pytest.fixture(params=["rounds", "buffer"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The example, or the example with the two lines that stand in comments."""
    text = EXAMPLE.read_text()
    if request.param == "buffer":
        text = text.replace("# buffer", "buffer").replace("# staleness", "staleness")
    (tmp_path / "day.toml").write_text(text)
    return tmp_path / "day.toml"


def test_it_comes_to_its_end_and_somebody_is_late(path: Path, contract: Contract) -> None:
    run = read_run_file(path)
    assert run.simulation is not None
    assert run.simulation.clock is not None
    assert (run.contract.federation.buffer is not None) == ("\nbuffer" in path.read_text())
    # On a small base, which changes nothing but the links' bytes.
    small = contract.replace(
        outlets=dict(run.contract.outlets),
        federation=run.contract.federation.model_dump(exclude_none=True),
    )
    rounds = timetable(small, run.simulation.clock)
    assert len(rounds) == 24
    assert sum(one.virtual.failed for one in rounds) > 0
    assert sum(one.virtual.late for one in rounds) > 0
