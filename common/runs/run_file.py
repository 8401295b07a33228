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
    columns = { text = "headline" }        # the one shape of all files: as [columns] of outlet.toml

With `recipe = "default"` in its first lines a run file needs no more of the contract than outlets,
labels and ε; see `default_recipe`.

Example: `read_run_file(Path("run.toml")).contract`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import pyarrow as pa
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from presspool.common.base.errors import ContractError
from presspool.common.base.foreign_text import commands_in
from presspool.common.base.toml_values import read_toml
from presspool.common.base.validation import validate
from presspool.common.contract import schema_versions
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.contract.doors import task_of
from presspool.common.data.remote_file import Place
from presspool.common.data.tables import Columns, Mapped, read_records, refuse_flat_columns
from presspool.common.models.base_model import resolve
from presspool.common.runs.clock_table import ClockTable
from presspool.common.runs.default_recipe import filled
from presspool.common.runs.run_folder import Setup

log = logging.getLogger(__name__)


def _concentrated(partition: str) -> str:
    kind, _, number = partition.partition(":")
    try:
        # So small that a draw would underflow, or so large that it is "iid", is not meant.
        if kind != "dirichlet" or 1e-3 <= float(number) <= 1e6:
            return partition
    except ValueError:  # no number
        pass
    raise ValueError("dirichlet:ALPHA with ALPHA from 0.001 to 1000000")


def _whole_or_part(gpus: float) -> float:
    if gpus > 1 and gpus != int(gpus):
        raise ValueError("a part of one GPU, or a whole number of them")
    return gpus


class Simulation(BaseModel):
    """Where a simulation's data lies and how it is split.

    Attributes:
        data: one file, or with partition "files" a folder of `NAME.*`, or where they lie
            elsewhere a URL with `{outlet}` in it, which is read by whoever trains the outlet.
        columns: how the data's columns are called.
        partition: "files", "column:NAME", "iid" or "dirichlet:ALPHA".
        outlets: use only the contract's first so many outlets; None for all.
        workers: worker processes.
        grid: what carries messages between coordinator and outlets (`simulations/grids`).
        gpus_per_worker: GPUs of each worker of the grid "ray"; a fraction where several share one.
        clock: a day on a clock of its own (`clock_table`); None where all outlets always answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Place
    columns: Columns = Columns()
    partition: Annotated[
        str, Field(pattern=r"^(files|iid|column:.+|dirichlet:.+)$"), AfterValidator(_concentrated)
    ] = "files"
    outlets: Annotated[int, Field(strict=True, ge=1)] | None = None
    workers: Annotated[int, Field(strict=True, ge=1, le=256)] = 2
    grid: str = "local"
    gpus_per_worker: Annotated[
        float, Field(strict=True, ge=0, le=64), AfterValidator(_whole_or_part)
    ] = 0.0
    clock: ClockTable | None = None

    @model_validator(mode="after")
    def _elsewhere(self) -> Self:
        if isinstance(self.data, str) and (
            self.partition != "files" or "{outlet}" not in self.data
        ):
            raise ValueError('data: a URL has {outlet} in it, and partition = "files"')
        return self


class EvaluationData(BaseModel):
    """A public held-out file at the coordinator, and how it calls its columns.

    Attributes:
        data: the file.
        columns: how its columns are called.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Path
    columns: Mapped = Mapped()

    def setup(self, *, deterministic: int | None = None) -> Setup:
        """What a run folder keeps of it."""
        return Setup(
            evaluation=str(self.data.resolve()),
            columns=dict(self.columns),
            deterministic=deterministic,
        )

    def records(self, contract: Contract) -> pa.Table:
        """What it holds for a contract's task, read strictly.

        Raises:
            DataError: missing or empty file, a column that is not there, an unknown value.
        """
        return read_records(self.data, task_of(contract), self.columns)


# The tables that no digest covers.
OUTSIDE: Mapping[str, type[BaseModel]] = {"simulation": Simulation, "evaluation": EvaluationData}


class RunFile(BaseModel):
    """A parsed `run.toml`.

    Attributes:
        contract: its body, as written and filled in (not frozen yet).
        written: the contract's part of the file, before anything was filled in.
        simulation: the `[simulation]` table, if any.
        evaluation: the `[evaluation]` table, if any.
    """

    model_config = ConfigDict(frozen=True)

    contract: Contract
    written: Mapping[str, Any] = {}
    simulation: Simulation | None = None
    evaluation: EvaluationData | None = None

    @property
    def defaults(self) -> list[str]:
        """The contract's values that the file does not give, as `table.key`."""
        said = {key: table for key, table in self.written.items() if isinstance(table, Mapping)}
        return [
            f"{key}.{name}"
            for key, table in self.contract.body().items()
            if isinstance(table, Mapping) and key != "outlets"
            for name, value in table.items()
            if value is not None and name not in said.get(key, {})
        ]

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
        return self.only(names[:count])

    def with_own_noise(self) -> RunFile:
        """This run with each outlet's noise its own, at the same ε, where the pool shares it."""
        if self.contract.pooled is None:
            return self
        body = {key: table for key, table in self.written.items() if key != "pooled"}
        federation = {k: v for k, v in body.get("federation", {}).items() if k != "trust"}
        contract = self.contract.replace(federation={"trust": "local"}, pooled=None)
        written = body | {"federation": federation}
        return self.model_copy(update={"contract": contract, "written": written})

    def only(self, names: Sequence[str], **federation: int | str) -> RunFile:
        """This run with some of its outlets, its recipe made anew for them (another contract).

        Args:
            names: the contract's outlets that stay.
            federation: keys of [federation] that change too; `quorum`, say.
        """
        chosen = {name: self.contract.outlets[name] for name in names}
        if "recipe" in self.written:  # made from the outlets that there are
            table = {**self.written.get("federation", {}), **federation}
            body = {**self.written, "outlets": chosen, "federation": table}
            contract = parse_contract(filled(body, where="--outlets", name=self.contract.name))
        else:
            contract = self.contract.replace(outlets=chosen, federation=federation)
        return self.model_copy(update={"contract": contract})


def read_run_file(path: Path) -> RunFile:
    """Read a `run.toml`; relative data paths are taken from the file's own folder.

    One that says `schema = 1`, or `[adapter] aggregation`, is a contract of schema 1 and has the
    digest that it always had; the operator is told in one line what to write instead.

    Raises:
        ContractError: missing, not TOML, or something in it is wrong: file, key, expected, got.
    """
    body = read_toml(
        path,
        what="cannot read the run's file",
        advice="write one: presspool new run, or as the guide shows",
        fault=ContractError,
    )
    tables = {
        key: validate(model, _resolved(body.pop(key), path, key), where=f"{path} [{key}]")
        for key, model in OUTSIDE.items()
        if key in body
    }
    whole = filled(body, where=str(path), name=slug(path.stem) or "run")
    contract = parse_contract(whole, where=str(path), beside=tuple(OUTSIDE))
    if (key := contract.task.needs_public) and "evaluation" not in tables:
        raise ContractError(
            "nothing to choose from",
            where=f"{path} [task] {key}",
            expected="[evaluation] with a public file beside it",
            advice=f"add [evaluation], or take {key} out",
        )
    if old := schema_versions.advice(body):
        log.warning("%s: %s", path, old)
    return RunFile(contract=contract, written=body, **tables)  # type: ignore[arg-type]


def slug(text: str) -> str:
    """A name that a contract accepts: lower case letters, digits and single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63]


def freeze(contract: Contract, *, fetch: bool = False) -> Contract:
    """The contract with σ solved, the hashes of its base model and what else it lacks filled in.

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
    return _sized(contract.replace(model=found.pins)).with_noise()


def _sized(contract: Contract) -> Contract:
    """With the number of trained numbers, where noise that is shared hangs on it."""
    if contract.pooled is None or contract.pooled.parameters is not None:
        return contract
    from presspool.common.models.models import group_sizes

    return contract.replace(pooled={"parameters": sum(group_sizes(contract).values())})


def _resolved(table: Any, path: Path, key: str) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise ContractError(
            "not a table", where=f"{path} {key}", expected=f"[{key}] and keys below it", got=table
        )
    refuse_flat_columns(table, where=f"{path} [{key}]", fault=ContractError)
    clock = table.get("clock")
    inner = {"clock": _at(clock, path, "trace")} if isinstance(clock, dict) else {}
    return _at({**table, **inner}, path, "data")


def _at(table: Mapping[str, Any], path: Path, key: str) -> dict[str, Any]:
    """The table with a key's path, if there is one, taken from the run file's folder."""
    if key not in table or "://" in str(table[key]):
        return dict(table)
    return {**table, key: path.parent / str(table[key])}
