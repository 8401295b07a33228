"""Splitting one data set over simulated outlets.

Each outlet gets an `outlet.toml` like a real one's and, where its data is cut out of a common file,
a Parquet file beside it. A split is a public choice of the simulation: it comes from the contract's
seed, never from an outlet's secret randomness.

* `files`: the data is a folder that already holds one file for each outlet (`NAME.parquet`, …, or
  with a name whose slug it is).
* `column:NAME`: records belong to the outlet that the column names (written as a slug). A reader is
  at each outlet where the column has them, as in life: each counts and charges them by itself, and
  what they spend is the sum. How many there are is said.
* `iid`: readers are dealt out at random in the proportions of the declared populations.
* `dirichlet:A`: readers with a common most frequent label go to outlets in proportions drawn from a
  Dirichlet distribution, the more unequal the smaller A (Hsu et al. 2019, §3, with readers dealt
  out instead of records).

With the last two a reader is at one outlet only.

Invariant: a copy of readers' records is its owner's alone, from its first byte.

Example: `write_outlets(run, RunFolder(Path("runs/x")), deterministic=None)`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from presspool.client.data.check_data import require_population
from presspool.client.data.readers import read_readers
from presspool.client.data.snapshots import SNAPSHOT
from presspool.client.identity.settings import read_settings
from presspool.common.base.errors import InputError
from presspool.common.base.files import private_folder, replace_file
from presspool.common.base.toml_values import toml_value
from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import task_of
from presspool.common.data.remote_file import File
from presspool.common.data.tables import Columns, read_table
from presspool.common.runs.named_files import own_file
from presspool.common.runs.run_file import Simulation, slug
from presspool.common.runs.run_folder import RunFolder
from presspool.server.rounds import round_checkpoint
from presspool.simulations.newsroom.table_files import replace_table

log = logging.getLogger(__name__)


def write_outlets(
    contract: Contract, simulation: Simulation, folder: RunFolder, *, deterministic: int | None
) -> list[Path]:
    """Write every outlet's `outlet.toml` (and data, where it is split) into the run folder.

    Records that a URL names are read by whoever trains, who compares them with the contract then
    (`check_elsewhere`); here they are not.

    Args:
        contract: the run's contract.
        simulation: where the data lies and how it is split.
        folder: the run folder.
        deterministic: seed of reproducible noise, or None.

    Returns:
        The settings files, in the contract's order of outlets.

    Raises:
        DataError: data is missing or wrong, or an outlet has fewer readers than declared.
    """
    private_folder(folder.outlets)
    if simulation.partition == "files":
        files = {name: own_file(simulation.data, name) for name in contract.outlets}
        columns = simulation.columns
    else:
        files = _write_split(contract, simulation, folder)
        columns = Columns()
    here = {name: file for name, file in files.items() if isinstance(file, Path)}
    for name, file in here.items():
        check_population(contract, name, file, columns)
    _say_shared([read_table(file, {"reader": columns.reader}) for file in here.values()])
    return [
        replace_file(
            folder.outlets / f"{name}.toml",
            _settings(contract, name, file, columns, deterministic).encode(),
        )
        for name, file in files.items()
    ]


def outlets_of(contract: Contract, folder: RunFolder) -> list[Path]:
    """The settings files of a run that is continued, in the contract's order of outlets.

    Raises:
        InputError: a file is missing or wrong.
        DataError: an outlet's data is not what it was any more, and rounds are left to train.
    """
    files = [folder.outlets / f"{name}.toml" for name in contract.outlets]
    point = round_checkpoint.load(folder.checkpoint, digest=contract.digest)
    if point is not None and len(point.rounds) > contract.federation.rounds:
        return files  # nobody's records are read any more
    for file in files:
        outlet = read_settings(file)
        if isinstance(outlet.file, Path):
            check_population(contract, outlet.name, outlet.file, outlet.columns)
    return files


def check_elsewhere(contract: Contract, settings: Path) -> None:
    """As `check_population`, where it can be read, of an outlet whose records a URL names."""
    outlet = read_settings(settings)
    if not isinstance(outlet.file, Path):
        check_population(contract, outlet.name, outlet.file, outlet.columns)


def remove_copies(folder: RunFolder) -> None:
    """Remove the copies of readers' records that a run made; what they came from stays."""
    for path in (*folder.outlets.glob("*.parquet"), *folder.outlets.glob(f"*/{SNAPSHOT}")):
        path.unlink()


def check_population(contract: Contract, name: str, file: File, columns: Columns) -> None:
    """Refuse to start where an outlet has fewer units than its contract declares.

    Raises:
        DataError: bad data, or fewer readers (or records) than declared.
    """
    readers = read_readers(file, columns=columns, task=task_of(contract), strict=True)
    require_population(
        readers, contract.outlets[name], unit=contract.privacy.unit, where=f"{name}: {file}"
    )


def split(
    table: pa.Table, partition: str, populations: Mapping[str, int], *, seed: int
) -> dict[str, pa.Table]:
    """Split records over outlets; only "column:" can put a reader at several of them.

    Args:
        table: string columns reader, text, label, and for "column:" also outlet.
        partition: as in `[simulation] partition`, except "files".
        populations: outlet to declared population.
        seed: public seed of the split.

    Returns:
        Outlet to its records, for every outlet in `populations`, sorted: equal contracts, whose
        run files may list the outlets in another order, have equal splits.
    """
    populations = dict(sorted(populations.items()))
    if partition.startswith("column:"):
        slugs = pa.array([slug(str(v)) for v in table["outlet"].to_pylist()])
        return {name: table.filter(pc.equal(slugs, name)) for name in populations}
    codes = table["reader"].combine_chunks().dictionary_encode()
    rng = np.random.default_rng(seed)
    if partition == "iid":
        home = _deal(len(codes.dictionary), _shares(populations), rng)
    else:
        concentration = float(partition.partition(":")[2])
        home = _deal_by_label(table, codes, populations, concentration, rng)
    of_record = home[codes.indices.to_numpy()]
    return {name: table.filter(pa.array(of_record == i)) for i, name in enumerate(populations)}


def _deal(count: int, shares: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Outlet number of each of `count` readers, in exact proportions and random order."""
    bounds = np.rint(np.cumsum(shares) * count).astype(np.int64)
    home = np.searchsorted(bounds, np.arange(count), side="right")
    return rng.permutation(np.minimum(home, len(shares) - 1))


def _deal_by_label(
    table: pa.Table,
    codes: pa.DictionaryArray,
    populations: Mapping[str, int],
    concentration: float,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    labels = table["label"].combine_chunks().dictionary_encode()
    counts = np.zeros((len(codes.dictionary), len(labels.dictionary)), np.int64)
    np.add.at(counts, (codes.indices.to_numpy(), labels.indices.to_numpy()), 1)
    favourite = counts.argmax(axis=1)
    home = np.empty(len(favourite), np.int64)
    for label in range(counts.shape[1]):
        members = np.flatnonzero(favourite == label)
        shares = rng.dirichlet(_shares(populations) * concentration * len(populations))
        home[members] = _deal(len(members), shares, rng)
    return home


def _shares(populations: Mapping[str, int]) -> NDArray[np.float64]:
    sizes = np.array(list(populations.values()), np.float64)
    shares: NDArray[np.float64] = sizes / sizes.sum()
    return shares


def _write_split(contract: Contract, simulation: Simulation, folder: RunFolder) -> dict[str, File]:
    own = task_of(contract).columns
    _require_labels(simulation, own)
    names = {"reader": simulation.columns.reader, **simulation.columns.of(own)}
    if simulation.partition.startswith("column:"):
        names["outlet"] = simulation.partition.partition(":")[2]
    assert isinstance(simulation.data, Path)  # of a URL each outlet has its own file
    table = read_table(simulation.data, names)
    parts = split(table, simulation.partition, contract.outlets, seed=contract.seed)
    files = dict[str, File]()
    for name, part in parts.items():
        files[name] = path = folder.outlets / f"{name}.parquet"
        replace_table(path, part.select(["reader", *own]), private=True)
    return files


def _say_shared(parts: Iterable[pa.Table]) -> None:
    """Say how many readers are at several outlets, where there are any."""
    homes = Counter(reader for part in parts for reader in pc.unique(part["reader"]).to_pylist())
    shared = [count for count in homes.values() if count > 1]
    if shared:
        log.warning(
            "%d of %d readers are at several outlets, one of them at %d, if an id means one person "
            "everywhere: each outlet counts and charges them by itself, and they spend more than "
            "at one: the sum over their outlets, or more where those share their noise",
            len(shared),
            len(homes),
            max(shared),
        )


def _require_labels(simulation: Simulation, columns: Sequence[str]) -> None:
    if simulation.partition.startswith("dirichlet:") and "label" not in columns:
        raise InputError(
            "this task has no labels to deal readers by",
            where="[simulation] partition",
            got=simulation.partition,
            advice='choose "files", "column:NAME" or "iid"',
        )


def _settings(
    contract: Contract, name: str, file: File, columns: Columns, deterministic: int | None
) -> str:
    mapped = {"reader": columns.reader, **columns.of(task_of(contract).columns)}
    place = file.resolve() if isinstance(file, Path) else file
    lines = [f'name = "{name}"', f"data = {toml_value(str(place))}"]
    if deterministic is not None:
        lines.append(f"deterministic = {deterministic}  # reproducible noise: NOT private")
    lines += [
        "",
        "[columns]",
        *(f"{key} = {toml_value(column)}" for key, column in mapped.items()),
    ]
    return "\n".join(lines) + "\n"
