"""`run.toml`: the contract's body, and two tables that stand outside its digest.

`[simulation]` says where a simulation's data lies and how it is split over outlets; `[evaluation]`
names a public held-out file. Real outlets ignore both: their data is named in their `outlet.toml`.

::

    [simulation]
    data = "readers.csv.gz"                # one file, or a folder with one file for each outlet
    columns = { reader = "user_id", text = "text", label = "site" }
    partition = "column:site"              # or "files", "iid", "dirichlet:0.5"
    workers = 2

    [evaluation]
    data = "held_out.parquet"
    text = "text"
    label = "label"

Example: `read_run_file(Path("run.toml")).contract`.
"""

from __future__ import annotations

import logging
import tomllib
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from presspool.common.base.errors import ContractError
from presspool.common.base.foreign_text import commands_in
from presspool.common.base.validation import validate
from presspool.common.contract import schema_versions
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.contract.doors import task_of
from presspool.common.data.tables import Columns, Mapped, read_records
from presspool.common.models.base_model import resolve
from presspool.common.runs.run_folder import Setup

log = logging.getLogger(__name__)


def _concentrated(partition: str) -> str:
    kind, _, number = partition.partition(":")
    # So small that a draw would underflow, or so large that it is "iid", is not meant.
    if kind == "dirichlet" and not 1e-3 <= float(number) <= 1e6:
        raise ValueError("dirichlet:ALPHA with ALPHA from 0.001 to 1000000")
    return partition


class Simulation(BaseModel):
    """Where a simulation's data lies and how it is split.

    Attributes:
        data: one file, or with partition "files" a folder of `NAME.*`.
        columns: how the data's columns are called.
        partition: "files", "column:NAME", "iid" or "dirichlet:ALPHA".
        outlets: use only the contract's first so many outlets; None for all.
        workers: worker processes.
        grid: what carries messages between coordinator and outlets (`simulations/grids`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Path
    columns: Columns = Columns()
    partition: Annotated[
        str, Field(pattern=r"^(files|iid|column:.+|dirichlet:.+)$"), AfterValidator(_concentrated)
    ] = "files"
    outlets: Annotated[int, Field(ge=1)] | None = None
    workers: Annotated[int, Field(ge=1, le=256)] = 2
    grid: str = "local"


class EvaluationData(Mapped):
    """A public held-out file at the coordinator, and how it calls its columns.

    Attributes:
        data: the file.
    """

    data: Path

    def setup(self, *, deterministic: int | None = None) -> Setup:
        """What a run folder keeps of it."""
        names = {key: str(name) for key, name in self if key != "data"}
        return Setup(
            evaluation=str(self.data.resolve()), columns=names, deterministic=deterministic
        )

    def records(self, contract: Contract) -> pa.Table:
        """What it holds for a contract's task, read strictly.

        Raises:
            DataError: missing or empty file, a column that is not there, an unknown value.
        """
        return read_records(self.data, task_of(contract), self)


class RunFile(BaseModel):
    """A parsed `run.toml`.

    Attributes:
        contract: its body, as written (not frozen yet).
        simulation: the `[simulation]` table, if any.
        evaluation: the `[evaluation]` table, if any.
    """

    model_config = ConfigDict(frozen=True)

    contract: Contract
    simulation: Simulation | None = None
    evaluation: EvaluationData | None = None

    def first_outlets(self, count: int | None) -> RunFile:
        """This run with only the contract's first `count` outlets (another contract).

        Raises:
            ContractError: it has fewer.
        """
        if count is None:
            return self
        names = list(self.contract.outlets)
        if not 1 <= count <= len(names):
            raise ContractError("--outlets", expected=f"1 to {len(names)}", got=count)
        chosen = {name: self.contract.outlets[name] for name in names[:count]}
        return self.model_copy(update={"contract": self.contract.replace(outlets=chosen)})


def read_run_file(path: Path) -> RunFile:
    """Read a `run.toml`; relative data paths are taken from the file's own folder.

    One that says `schema = 1`, or `[adapter] aggregation`, is a contract of schema 1 and has the
    digest that it always had; the operator is told in one line what to write instead.

    Raises:
        ContractError: missing, not TOML, or something in it is wrong: file, key, expected, got.
    """
    try:
        body = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ContractError(
            "no such file", where=str(path), advice="write one; the guide shows an example"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ContractError("not readable as TOML", where=str(path), got=str(error)) from None
    tables = {
        key: validate(model, _resolved(body.pop(key), path, key), where=f"{path} [{key}]")
        for key, model in (("simulation", Simulation), ("evaluation", EvaluationData))
        if key in body
    }
    contract = parse_contract(body, where=str(path))
    if old := schema_versions.advice(body):
        log.warning("%s: %s", path, old)
    return RunFile(contract=contract, **tables)  # type: ignore[arg-type]


def freeze(contract: Contract, *, fetch: bool = False) -> Contract:
    """The contract with σ solved and the hashes of its base model filled in.

    Args:
        contract: as written.
        fetch: whether the hub may be asked for the base model; for the person who wrote the run,
            and never at an outlet, where another's run would name what is fetched.

    Raises:
        ModelError: the base model is missing or is not the pinned one.
        ContractError: σ and ε contradict each other, or ε is meaningless.
    """
    if key := next(commands_in(contract.body()), None):
        raise ContractError(
            "a character that commands a terminal, or reorders text",
            where=key,
            expected="letters, signs and spaces",
            advice="take it out; labels come from your data, so look there as well",
        )
    spec = contract.model
    found = resolve(
        spec.id,
        weights=spec.weights,
        tokenizer=spec.tokenizer,
        manifest=spec.manifest,
        fetch=fetch,
    )
    return contract.replace(model=found.pins).with_noise()


def _resolved(table: Any, path: Path, key: str) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise ContractError(
            "not a table", where=f"{path} {key}", expected=f"[{key}] and keys below it", got=table
        )
    data = {"data": path.parent / str(table["data"])} if "data" in table else {}
    return {**table, **data}
