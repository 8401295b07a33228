"""The demo of a language model: made headlines, a small private federation, and what it writes.

An instance is a prompt that names a topic and the headline that a made outlet put over it. The
public held-out headlines judge the base model as it is, with four of them as examples before each
prompt, and with the adapter that the federation trained.

Example: `prepare_llm_demo(Path("runs/demo"), outlets=4, epsilon=8.0)` writes the newsroom and
`run.toml`; after the simulation, `side_by_side(result, folder)` compares.
"""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa

from presspool.common.base.files import replace_file
from presspool.common.runs.results import RunResult
from presspool.common.runs.run_folder import RunFolder
from presspool.simulations.demo import OUTSIDE
from presspool.simulations.newsroom.few_shot import preceded, shown
from presspool.simulations.newsroom.grammar import TOPICS, write_headline
from presspool.simulations.newsroom.newsroom import make_newsroom
from presspool.simulations.newsroom.table_files import replace_table

READERS, HELD_OUT, EXAMPLES, ANSWERED = 500, 96, 4, 3
SEED = 20
MODEL = "smollm2-135m-instruct"
ASKED = "News headline about {}:"
FEW_SHOT_LENGTH = 96  # tokens that prompts with examples have at most

LLM_RUN_TOML = """\
# A PressPool run. Everything down to [server] is the contract: its sha256 names the run.
name = "demo-llm"
seed = {seed}                        # public: initial adapter, never noise or sampling

[model]
id = "{model}"     # `presspool models fetch {model}`

[task]
kind = "generation"
format = "prompt"                # only the answer counts in the loss
max_length = 24
answer_length = 16

[adapter]                        # B of these layers in the last six; what lies below is frozen
rank = 4
alpha = 16
targets = ["o_proj", "down_proj"]
layers = 6
method = "ffa"

[federation]
trust = "local"                  # each outlet's transcript is private whatever the others do
rounds = 8
local_steps = 1
quorum = {quorum}

[outlets]                        # declared populations: public, never measured during the run
{outlets}

[privacy]
epsilon = {epsilon}                  # for each reader and the whole run
delta = 1e-5
clip = 1.0
records_per_reader = 1
sampling_rate = 0.1

[optimizer]
learning_rate = 1.0

[server]                         # Adam sees the noise averaged over the outlets
name = "adam"
learning_rate = 0.04
"""


def prepare_llm_demo(folder: Path, *, outlets: int, epsilon: float) -> Path:
    """Write the newsroom's headlines and the run file; as `demo.prepare_demo`."""
    made = make_newsroom(outlets=outlets, readers=READERS, seed=SEED, write=write_headline)
    files = {f"outlets/{name}": _asked(table) for name, table in made.tables.items()}
    files["held_out"] = _asked(made.held_out.slice(EXAMPLES, HELD_OUT))
    examples = _asked(made.held_out.slice(0, EXAMPLES)).to_pylist()
    before = shown((row["prompt"], row["answer"]) for row in examples)
    files["few_shot"] = preceded(files["held_out"], before)
    for name, table in files.items():
        file = folder / "newsroom" / f"{name}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_table(file, table)
    text = (LLM_RUN_TOML + OUTSIDE).format(
        seed=SEED,
        model=MODEL,
        quorum=max(1, outlets - 1),
        outlets="\n".join(f"{name} = {READERS}" for name in made.tables),
        epsilon='"inf"' if math.isinf(epsilon) else repr(epsilon),
    )
    return replace_file(folder / "run.toml", text.encode())


def _asked(table: pa.Table) -> pa.Table:
    """Prompts that name the topic, and the headlines as their answers."""
    prompts = [ASKED.format(label) for label in table["label"].to_pylist()]
    columns = {"prompt": pa.array(prompts), "answer": table["text"]}
    reader = {"reader": table["reader"]} if "reader" in table.column_names else {}
    return pa.table(reader | columns)


def side_by_side(result: RunResult, folder: Path) -> str:
    """What the finished demo's base model and adapter make of the same prompts, for people.

    Args:
        result: of the run in `folder`/run.
        folder: as `prepare_llm_demo` wrote it.
    """
    from presspool.common.models.adapters import read
    from presspool.common.models.models import build
    from presspool.common.runs.run_file import EvaluationData
    from presspool.server.rounds import round_checkpoint
    from presspool.server.rounds.evaluation import Evaluation

    run = RunFolder(folder / "run")
    contract = run.read_contract()
    point = round_checkpoint.load(run.checkpoint, digest=contract.digest)
    assert point is not None  # a finished run has one
    wider = contract.replace(task={"max_length": FEW_SHOT_LENGTH})
    held_out = EvaluationData(data=folder / "newsroom" / "few_shot.parquet").records(wider)
    model = build(wider)
    start = read(model)
    base = Evaluation(wider, held_out, model=model)
    few_shot = base.task.score(base.judged(start), held_out)["perplexity"]
    lines = _perplexities(result, few_shot)
    prompts = [ASKED.format(topic) for topic in TOPICS[:ANSWERED]]
    asked = pa.table({"prompt": prompts, "answer": prompts})
    judge = Evaluation(wider, asked, model=model)
    for prompt, *said in zip(
        prompts, judge.predictions(start), judge.predictions(point.state), strict=True
    ):
        lines += ["", prompt, *map("  {}: {!r}".format, ("base   ", "adapter"), said)]
    return "\n".join(lines)


def _perplexities(result: RunResult, few_shot: float | None) -> list[str]:
    plain, tuned = (done.figures["perplexity"] for done in (result.rounds[0], result.final))
    spent = result.final.epsilon
    cost = "without privacy" if spent is None else f"ε = {spent:.2f} for each reader"
    figures = {"plain base": plain, "few-shot base": few_shot, f"adapter, {cost}": tuned}
    return [
        "perplexity on held-out headlines (lower is better; their ends count):",
        *(f"{math.nan if v is None else v:10,.1f}  {name}" for name, v in figures.items()),
    ]
