"""B.1: a member of 1 % of the weight writes the name of one of 98 % into its update.

Whose an update is, is the outlet's whose task it answers: the certificate's, over the real wire.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tests.fakes.instruments.live_coordinator import live, trains, until
from tests.fakes.made_runs import write_run

from presspool.common.wire.envelope import task_id
from presspool.server.rounds import round_checkpoint

BIG, SMALL, THIRD = "big-daily", "small-weekly", "third-post"


def test_a_small_member_cannot_move_the_adapter_in_a_big_one_s_name(
    tmp_path: Path, contract_body: dict[str, Any]
) -> None:
    body = contract_body | {
        "outlets": {BIG: 196, SMALL: 2, THIRD: 2},
        "federation": {"rounds": 1, "local_steps": 2, "quorum": 2},
    }
    with live(tmp_path, write_run(tmp_path / "made", body)) as pool:
        pool.join(BIG, SMALL, THIRD)
        name = pool.submit()
        pool.outlet(SMALL, trains(SMALL, value=0.5, in_name_of=BIG))
        until(lambda: bool(pool.mailbox.answered([task_id(name, 1, 1, SMALL)])))  # it is first
        pool.outlet(BIG, trains(BIG, value=0.0))
        pool.outlet(THIRD, trains(THIRD, value=0.01))
        pool.wait(name, "complete")
        result = pool.result(name)
        file = pool.folder.path / "runs" / name / "checkpoint.safetensors"
    point = round_checkpoint.load(file, digest=result.contract_digest)
    assert point is not None
    done = result.rounds[1]
    assert dict(done.refused) == {SMALL: "wrong-outlet"}
    assert done.outlets == (BIG, THIRD)
    matrices = [array for key, array in point.state.items() if "lora_B" in key]  # zeros at first
    assert matrices
    for array in matrices:  # by the two that were admitted, each with its own weight
        np.testing.assert_allclose(array, 0.01 * 2 / 198, rtol=1e-5)
