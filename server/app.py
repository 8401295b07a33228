"""The coordinator's Flower `ServerApp`: runs the run of the folder that its configuration names.

Example: `app(grid, context)` with `context.run_config = {"run-folder": "runs/demo"}`.
"""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from presspool.common.errors import InputError
from presspool.common.run_folder import RunFolder
from presspool.server.rounds import run

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run, or continue, the folder's run on the grid's outlets."""
    folder = context.run_config.get("run-folder")
    if not folder:
        raise InputError(
            "the coordinator does not know which run to run", where="run configuration",
            expected="run-folder = the path of a run folder",
        )  # fmt: skip
    run(grid, RunFolder(Path(str(folder))))
