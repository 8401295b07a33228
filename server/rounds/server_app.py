"""The coordinator's Flower `ServerApp`: runs the run of the folder that its configuration names.

On a network outlets come one by one, so it begins when as many nodes are there as the contract's
quorum asks for.

Example: `app(grid, context)` with `context.run_config = {"run-folder": "runs/demo"}`.
"""

from __future__ import annotations

import time
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from presspool.common.base.errors import InputError, QuorumError
from presspool.common.runs.results import RunResult
from presspool.common.runs.run_folder import RunFolder
from presspool.server.rounds.rounds import Committed, run, uncommitted

LONGEST_WAIT, PAUSE = 600.0, 0.2  # seconds

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run, or continue, the folder's run on the grid's outlets."""
    folder = context.run_config.get("run-folder")
    if not folder:
        raise InputError(
            "the coordinator does not know which run to run",
            where="run configuration",
            expected="run-folder = the path of a run folder",
        )
    serve(grid, RunFolder(Path(str(folder))))


def serve(
    grid: Grid, folder: RunFolder, *, committed: Committed = uncommitted, bound: bool = False
) -> RunResult:
    """Run, or continue, a folder's run once enough outlets are there; as `rounds.run`."""
    _wait_for_nodes(grid, folder.read_contract().federation.quorum)
    return run(grid, folder, committed=committed, bound=bound)


def _wait_for_nodes(grid: Grid, quorum: int) -> None:
    """Return when enough outlets are connected.

    Raises:
        QuorumError: they were not after `LONGEST_WAIT` seconds.
    """
    deadline = time.monotonic() + LONGEST_WAIT
    while (there := len(list(grid.get_node_ids()))) < quorum:
        if time.monotonic() > deadline:
            raise QuorumError(
                "too few outlets are connected",
                expected=f"at least {quorum}",
                got=there,
                advice="start the others' nodes, then the same run again",
            )
        time.sleep(PAUSE)
