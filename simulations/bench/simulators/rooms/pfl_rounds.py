"""pfl-research: federated averaging on its simulated backend, each user clipped and noised.

Runs where `simulator_rooms` has installed it.

Example: ``python -m presspool.simulations.bench.simulators.contestant pfl``
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from pfl.privacy import GaussianMechanism
from torch import Tensor, nn

from presspool.simulations.bench.simulators.simulator_task import (
    Arrays,
    ClientTask,
    done_between,
)
from presspool.simulations.bench.simulators.simulator_turns import (
    CLIP,
    LEARNING_RATE,
    NOISE,
    RoundDone,
    RoundSizes,
    Turns,
)

MOST_ROUNDS = 10_000


class PflModule(nn.Module):
    """The model with the two functions that pfl asks of one."""

    def __init__(self, task: ClientTask) -> None:
        super().__init__()
        self.model, self._losses = task.model, task.losses

    def loss(self, ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of a batch."""
        return self._losses(ids, mask, labels).mean()

    def metrics(self, ids: Tensor, mask: Tensor, labels: Tensor) -> dict[str, Any]:
        """What is told of a batch; asked for before the first round alone."""
        return {"loss": Weighted(float(self.loss(ids, mask, labels)), len(ids))}


class EachTurn(TrainingProcessCallback):  # type: ignore[misc]
    """Waits between two rounds."""

    def __init__(self, task: ClientTask) -> None:
        self._task, self._turns = task, Turns()
        self._before: Arrays = {}

    def on_train_begin(self, *, model: Any) -> Metrics:  # noqa: ARG002
        """Before the first round."""
        self._wait(None)
        return Metrics()

    def after_central_iteration(
        self,
        aggregate_metrics: Metrics,
        model: Any,  # noqa: ARG002
        *,
        central_iteration: int,  # noqa: ARG002
    ) -> tuple[bool, Metrics]:
        """After each; returns whether to stop."""
        told = {str(name): value for name, value in aggregate_metrics.to_simple_dict().items()}
        clients = next(int(v) for n, v in told.items() if "number of devices" in n)
        mean = next(float(v) for n, v in told.items() if "number of data points" in n)
        after = self._task.arrays()
        done = done_between(self._before, after, clients=clients, records=round(mean * clients))
        return not self._wait(done), Metrics()

    def _wait(self, done: RoundDone | None) -> bool:
        self._before = self._task.arrays()
        return self._turns.next(done)


def pfl(sizes: RoundSizes) -> None:
    """Take turns until there are no more."""
    task = ClientTask(sizes)
    module = PflModule(task)
    model = PyTorchModel(
        module,
        local_optimizer_create=lambda _, lr: torch.optim.SGD(task.parameters.values(), lr=lr),
        central_optimizer=torch.optim.SGD(task.parameters.values(), lr=1.0),
    )
    rounds = {
        "central_num_iterations": MOST_ROUNDS,
        "evaluation_frequency": MOST_ROUNDS,
        "train_cohort_size": sizes.clients,
        "val_cohort_size": 0,
    }
    step = NNTrainHyperParams(
        local_learning_rate=LEARNING_RATE, local_num_epochs=1, local_batch_size=sizes.records
    )
    FederatedAveraging().run(
        NNAlgorithmParams(**rounds),
        _backend(task, sizes),
        model,
        step,
        callbacks=[EachTurn(task)],
    )


def _backend(task: ClientTask, sizes: RoundSizes) -> SimulatedBackend:
    users = range(sizes.clients)

    def of_user(user: int) -> Dataset:
        return Dataset(raw_data=list(task.records_of(user)), user_id=str(user))

    sampler: Callable[[], int] = get_user_sampler("minimize_reuse", list(users))
    data = FederatedDataset(of_user, sampler)
    # What a user sends is a step of this rate along its gradient, so that is clipped to its C.
    privacy = GaussianMechanism(LEARNING_RATE * CLIP, NOISE)
    return SimulatedBackend(training_data=data, val_data=data, postprocessors=[privacy])
