"""NVFlare's simulator: its `FedAvg` with one client process at a time.

Where there are fewer processes than clients, the simulator starts a new one for each client of each
round: Python, torch and the model are loaded again. As many processes as clients do not fit into
the memory of a machine like this one.

Runs where `simulator_rooms` has installed it.

Example: ``python -m presspool.simulations.bench.simulators.contestant nvflare``
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import FLMetaKey
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.workflows.fedavg import FedAvg
from nvflare.private.fed.app.simulator.simulator_runner import SimulatorRunner

from presspool.simulations.bench.simulators.simulator_task import (
    Arrays,
    ClientTask,
    done_between,
)
from presspool.simulations.bench.simulators.simulator_turns import RoundSizes, Turns

MOST_ROUNDS = 10_000
MODULE = "presspool.simulations.bench.simulators.rooms.nvflare_rounds"


class TurnController(FedAvg):  # type: ignore[misc]
    """NVFlare's controller, which waits for its turn before each round."""

    def run(self) -> None:
        """Begin with the model's own values."""
        self._turns, self._seen = Turns(), (0, 0)
        self.model = ClientTask(RoundSizes.told()).arrays()
        self._before: Arrays | None = None
        super().run()

    def send_model(self, *args: Any, **words: Any) -> None:
        """As NVFlare does it, in its turn."""
        state, done = dict(words["data"].params), None
        if self._before is not None:
            clients, records = self._seen
            done = done_between(self._before, state, clients=clients, records=records)
        if not self._turns.next(done):
            raise SystemExit
        self._before, self._seen = state, (0, 0)
        super().send_model(*args, **words)

    def _aggregate_one_result(self, result: FLModel) -> bool:
        clients, records = self._seen
        taken = bool(super()._aggregate_one_result(result))
        if taken:
            records += int(result.meta[FLMetaKey.NUM_STEPS_CURRENT_ROUND])
            self._seen = clients + 1, records
        return taken


class ClientExecutor(Executor):  # type: ignore[misc]
    """What a client does with a model that came."""

    def execute(self, task_name: str, shareable: Any, fl_ctx: Any, abort_signal: Any) -> Any:  # noqa: ARG002
        """The client's step."""
        sizes = RoundSizes.told()
        client = int(fl_ctx.get_identity_name().removeprefix("site-")) - 1
        state = from_shareable(shareable).data
        trained = ClientTask(sizes).trained_by(client, state)
        answer = DXO(DataKind.WEIGHTS, data=trained)
        answer.set_meta_prop(FLMetaKey.NUM_STEPS_CURRENT_ROUND, sizes.records)
        return answer.to_shareable()


def nvflare(sizes: RoundSizes) -> None:
    """Take turns until there are no more."""
    with tempfile.TemporaryDirectory() as folder:
        job, workspace = Path(folder, "job"), Path(folder, "workspace")
        for path, said in _files(sizes).items():
            written = Path(folder, path)
            written.parent.mkdir(parents=True, exist_ok=True)
            written.write_text(json.dumps(said), encoding="utf-8")
        SimulatorRunner(str(job), str(workspace), n_clients=sizes.clients, threads=1).run()


def _files(sizes: RoundSizes) -> dict[str, Any]:
    """The job, and what the workspace lets it name."""
    rounds = {"num_clients": sizes.clients, "num_rounds": MOST_ROUNDS, "persistor_id": ""}
    controller = {"id": "average", "path": f"{MODULE}.TurnController", "args": rounds}
    executor = {"path": f"{MODULE}.ClientExecutor", "args": {}}
    site: dict[str, Any] = {"format_version": 2, "components": []}
    site |= {"task_data_filters": [], "task_result_filters": []}
    train = {"executors": [{"tasks": ["train"], "executor": executor}]}
    return {
        "job/meta.json": {"name": "bench", "deploy_map": {"app": ["@ALL"]}, "resource_spec": {}},
        "job/app/config/config_fed_server.json": site | {"workflows": [controller]},
        "job/app/config/config_fed_client.json": site | train,
        "workspace/local/resources.json": {"class_allow_list": ["nvflare.", f"{MODULE}."]},
    }
