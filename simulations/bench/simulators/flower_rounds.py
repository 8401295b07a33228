"""Flower's own simulation: `FedAvg` over its Ray backend with one actor.

The client app keeps the model from one client to the next, as long as its actor lives; its
example loads it each time.

Example: ``python -m presspool.simulations.bench.simulators.contestant flower``
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from presspool.simulations.bench.simulators.simulator_task import (
    Arrays,
    ClientTask,
    done_between,
)
from presspool.simulations.bench.simulators.simulator_turns import (
    LOOPBACK,
    RoundSizes,
    Turns,
)

MOST_ROUNDS = 10_000
client_app, server_app = ClientApp(), ServerApp()


@cache
def _task() -> ClientTask:
    """The model of this process."""
    return ClientTask(RoundSizes.told())


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """A client's answer to a round's message."""
    client = int(context.node_config["partition-id"])
    trained = _task().trained_by(client, _arrays(message.content.array_records["arrays"]))
    told = MetricRecord({"num-examples": RoundSizes.told().records})
    answer = RecordDict({"arrays": _record(trained), "metrics": told})
    return Message(answer, reply_to=message)


@server_app.main()
def serve_rounds(grid: Grid, context: Context) -> None:  # noqa: ARG001
    """Average until there are no more turns."""
    strategy = TurnAverage(RoundSizes.told().clients)
    strategy.start(grid, _record(_task().arrays()), num_rounds=MOST_ROUNDS, timeout=1e6)


class TurnAverage(FedAvg):
    """Flower's strategy, which waits for its turn before each round."""

    def __init__(self, clients: int) -> None:
        super().__init__(
            fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients
        )
        self._turns, self._seen = Turns(), (0, 0)
        self._before: Arrays | None = None

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """As Flower does it, in its turn."""
        state, done = _arrays(arrays), None
        if self._before is not None:
            clients, records = self._seen
            done = done_between(self._before, state, clients=clients, records=records)
        if not self._turns.next(done):
            raise SystemExit
        self._before = state
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """As Flower does it."""
        held = [reply for reply in replies if not reply.has_error()]
        counts = (reply.content.metric_records["metrics"]["num-examples"] for reply in held)
        self._seen = len(held), sum(int(str(count)) for count in counts)
        return super().aggregate_train(server_round, held)


def flower(sizes: RoundSizes) -> None:
    """Take turns until there are no more."""
    backend = {
        "init_args": {"num_cpus": 1, "_node_ip_address": LOOPBACK, "log_to_driver": False},
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
    }
    run_simulation(server_app, client_app, sizes.clients, backend_config=backend)  # type: ignore[arg-type]


def _arrays(record: ArrayRecord) -> Arrays:
    return {name: array.numpy() for name, array in record.items()}


def _record(arrays: Arrays) -> ArrayRecord:
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})
