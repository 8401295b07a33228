"""The demo: a made newsroom, a run file that explains itself, and a private federation.

Example: `prepare_demo(Path("runs/demo"), outlets=4, epsilon=3.0)` writes the newsroom and
`run.toml`; the rest is an ordinary simulation.
"""

from __future__ import annotations

import math
from pathlib import Path

from presspool.common.base.files import replace_file
from presspool.common.base.toml_values import toml_value
from presspool.simulations.newsroom.newsroom import TOPICS, make_newsroom, write_newsroom

READERS = 1500
SEED = 20

OUTSIDE = """
# Below stands outside the contract: only a simulation reads it.
[simulation]
data = "newsroom/outlets"
partition = "files"
workers = 2

[evaluation]                     # a public held-out file at the coordinator
data = "newsroom/held_out.parquet"
"""

RUN_TOML = """\
# A PressPool run. Everything down to [optimizer] is the contract: its sha256 names the run.
name = "demo"
seed = {seed}                    # public: initial adapter and data split, never noise or sampling

[task]
kind = "classification"
labels = {labels}
max_length = 40

[adapter]
rank = 4
alpha = 8
targets = ["query", "value"]
method = "ffa"                   # A frozen at public values, B averaged

[federation]
trust = "local"                  # each outlet's transcript is private whatever the others do
rounds = {rounds}
local_steps = {local_steps}
quorum = {quorum}                       # updates that a round needs
update_norm_cap = 100.0

[outlets]                        # declared populations: public, never measured during the run
{outlets}

[privacy]
unit = "reader"
epsilon = {epsilon}                    # for the whole run; noise is solved from it
delta = 1e-5
clip = {{ adapter = 0.5, head = 1.0 }}
records_per_reader = 2
sampling_rate = 0.04

[optimizer]
name = "sgd"
learning_rate = {{ adapter = 2.0, head = 20.0 }}
schedule = "cosine"
"""


def prepare_demo(folder: Path, *, outlets: int, epsilon: float) -> Path:
    """Write the demo's newsroom and run file.

    Args:
        folder: where to.
        outlets: how many outlets.
        epsilon: the run's ε; `math.inf` for an unprotected run.

    Returns:
        The run file.

    Raises:
        InputError: a number of outlets that cannot be made.
        StorageError: the disk refuses.
    """
    newsroom = make_newsroom(outlets=outlets, readers=READERS, seed=SEED)
    write_newsroom(newsroom, folder / "newsroom")
    text = (RUN_TOML + OUTSIDE).format(
        seed=SEED,
        labels=toml_value(list(TOPICS)),
        rounds=4,
        local_steps=3,
        quorum=max(1, outlets - 1),
        outlets="\n".join(f"{name} = {READERS}" for name in newsroom.tables),
        epsilon='"inf"' if math.isinf(epsilon) else repr(epsilon),
    )
    return replace_file(folder / "run.toml", text.encode())
