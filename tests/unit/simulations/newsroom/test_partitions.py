"""Partitions: no reader is split, no record is lost or doubled, and the seed decides all of it."""

from __future__ import annotations

import itertools
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import LABELS, made_rows

from presspool.client.identity.settings import read_settings
from presspool.common.base.errors import DataError, InputError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.runs.run_file import Simulation, slug
from presspool.common.runs.run_folder import RunFolder
from presspool.simulations.newsroom.partitions import outlets_of, split, write_outlets

SPLITS = ("iid", "dirichlet:0.3", "dirichlet:100")
SITES = {"The Daily Bugle": "the-daily-bugle", "Échos & Fils": "chos-fils", "north": "north"}


def made_table(readers: int, *, seed: int = 0) -> pa.Table:
    """Readers with 1 to 4 records, mostly of one label, and the site that each record came from."""
    rng = np.random.default_rng(seed)
    rows = []
    for reader in range(readers):
        favourite = LABELS[reader % 3]
        for record in range(int(rng.integers(1, 5))):
            rows.append(
                {
                    "reader": f"r{reader}",
                    "text": f"text {reader} {record}",
                    "label": favourite if record % 3 < 2 else LABELS[(reader + 1) % 3],
                    "outlet": list(SITES)[int(rng.integers(3))],
                }
            )
    order = rng.permutation(len(rows))
    return pa.Table.from_pylist([rows[i] for i in order])


def texts(table: pa.Table) -> list[str]:
    return [str(text) for text in table["text"].to_pylist()]


def readers(table: pa.Table) -> set[str]:
    return set(table["reader"].to_pylist())


def sizes(parts: Mapping[str, pa.Table]) -> dict[str, int]:
    """How many readers each outlet got."""
    return {name: len(readers(part)) for name, part in parts.items()}


populations = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True), st.integers(1, 40), min_size=1, max_size=6
)


@given(
    count=st.integers(1, 60),
    populations=populations,
    partition=st.sampled_from(SPLITS),
    seed=st.integers(0, 2**63 - 1),
)
def test_every_record_is_at_one_outlet_and_no_reader_at_two(
    count: int, populations: dict[str, int], partition: str, seed: int
) -> None:
    table = made_table(count, seed=seed)
    parts = split(table, partition, populations, seed=seed)
    assert set(parts) == set(populations)
    assert sorted(itertools.chain.from_iterable(map(texts, parts.values()))) == sorted(texts(table))
    for one, other in itertools.combinations(parts.values(), 2):
        assert not readers(one) & readers(other)


@given(populations=populations, more=st.integers(0, 50), seed=st.integers(0, 1000))
def test_an_even_split_gives_every_outlet_what_it_declared(
    populations: dict[str, int], more: int, seed: int
) -> None:
    """Where there are enough readers for all, no outlet may be refused for rounding's sake."""
    total = sum(populations.values())
    table = pa.table(
        {
            "reader": [f"r{i}" for i in range(total + more)],
            "label": ["sport"] * (total + more),
        }
    )
    got = sizes(split(table.append_column("text", table["reader"]), "iid", populations, seed=seed))
    for name, population in populations.items():
        assert got[name] >= population
        assert abs(got[name] - (total + more) * population / total) <= 1


@pytest.mark.parametrize("partition", [*SPLITS, "column:site"])
def test_the_seed_decides_the_split(partition: str) -> None:
    table, outlets = made_table(60), dict.fromkeys(SITES.values(), 10)

    def parts(seed: int) -> dict[str, list[str]]:
        return {n: texts(t) for n, t in split(table, partition, outlets, seed=seed).items()}

    assert parts(1) == parts(1)
    assert (parts(1) == parts(2)) == (partition == "column:site")  # nothing is drawn there


@pytest.mark.parametrize("partition", [*SPLITS, "column:site"])
def test_equal_contracts_have_equal_splits_in_whatever_order_they_list_outlets(
    partition: str,
) -> None:
    table = made_table(60)
    outlets = {"the-daily-bugle": 30, "chos-fils": 20, "north": 10}
    one = split(table, partition, outlets, seed=3)
    other = split(table, partition, dict(reversed(outlets.items())), seed=3)
    assert {n: texts(t) for n, t in one.items()} == {n: texts(t) for n, t in other.items()}


def test_records_keep_their_order_within_an_outlet() -> None:
    table = made_table(40)
    position = {text: i for i, text in enumerate(texts(table))}
    for part in split(table, "iid", {"a": 1, "b": 1}, seed=0).values():
        places = [position[text] for text in texts(part)]
        assert places == sorted(places)


def test_an_uneven_split_mixes_labels_the_less_the_smaller_alpha_is() -> None:
    table = made_table(300)
    whole = Counter(table["label"].to_pylist())

    def imbalance(alpha: float) -> float:
        """Mean distance of an outlet's label counts from its share of all, over 20 splits."""
        outlets = {"a": 1, "b": 1, "c": 1}
        splits = [split(table, f"dirichlet:{alpha}", outlets, seed=seed) for seed in range(20)]
        distances = [
            abs(part["label"].to_pylist().count(label) - part.num_rows * count / table.num_rows)
            for parts in splits
            for part in parts.values()
            for label, count in whole.items()
        ]
        return float(sum(distances) / table.num_rows / len(splits))

    assert imbalance(0.05) > imbalance(1.0) > imbalance(1000.0)
    assert imbalance(1000.0) < 0.1


def test_large_alpha_keeps_the_proportions_of_the_declared_populations() -> None:
    got = sizes(split(made_table(900), "dirichlet:100000", {"a": 600, "b": 300}, seed=1))
    assert got["a"] == pytest.approx(600, abs=10)


@pytest.mark.parametrize("alpha", ["0.001", "1000000"])
def test_the_smallest_and_the_largest_alpha_still_deal_out_everybody(alpha: str) -> None:
    outlets = {"a": 1, "b": 10_000}
    parts = split(made_table(50), f"dirichlet:{alpha}", outlets, seed=0)
    assert sum(sizes(parts).values()) == 50


def test_a_column_sends_records_to_the_outlet_that_it_names() -> None:
    table = made_table(60)
    parts = split(table, "column:site", dict.fromkeys(SITES.values(), 1), seed=0)
    for site, name in SITES.items():
        assert set(parts[name]["outlet"].to_pylist()) == {site}
    assert sum(part.num_rows for part in parts.values()) == table.num_rows


def test_records_of_outlets_that_are_not_in_the_contract_go_nowhere() -> None:
    table = made_table(60)
    parts = split(table, "column:site", {"north": 1, "the-moon": 1}, seed=0)
    assert set(parts["north"]["outlet"].to_pylist()) == {"north"}
    assert parts["the-moon"].num_rows == 0


@pytest.mark.parametrize(
    ("text", "name"),
    [("BBC News", "bbc-news"), ("--a__b--", "a-b"), ("x" * 80, "x" * 63), ("NYT.com", "nyt-com")],
)
def test_slugs_are_names_that_a_contract_takes(text: str, name: str) -> None:
    assert slug(text) == name


# --- Outlets' files -----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


@pytest.fixture
def pooled(tmp_path: Path) -> Path:
    """One file with the readers of everybody, its columns under other names."""
    table = made_table(80).rename_columns(["user_id", "title", "topic", "site"])
    path = tmp_path / "pooled.csv"
    pa_csv.write_csv(table, path)
    return path


NAMED = {"reader": "user_id", "text": "title", "label": "topic"}


def simulation(**fields: Any) -> Simulation:
    return Simulation.model_validate(fields)


def test_every_outlet_gets_settings_like_a_real_ones(
    contract: Contract, folder: RunFolder, pooled: Path
) -> None:
    table = simulation(data=pooled, columns=NAMED, partition="iid")
    files = write_outlets(contract, table, folder, deterministic=None)
    assert files == [folder.outlets / f"{name}.toml" for name in contract.outlets]
    for file, name in zip(files, contract.outlets, strict=True):
        settings = read_settings(file)
        assert (settings.name, settings.deterministic) == (name, None)
        assert settings.data == folder.outlets / f"{name}.parquet"
        part = pq.read_table(settings.data)
        assert part.column_names == ["reader", "text", "label"]
        assert len(readers(part)) >= contract.outlets[name]
    assert sorted(path.name for path in folder.outlets.iterdir()) == [
        "north-post.parquet",
        "north-post.toml",
        "south-echo.parquet",
        "south-echo.toml",
    ]


def test_written_files_are_the_same_bytes_every_time(
    contract: Contract, tmp_path: Path, pooled: Path
) -> None:
    table = simulation(data=pooled, columns=NAMED, partition="dirichlet:50")
    contract = contract.replace(outlets={"north-post": 10, "south-echo": 5})
    folders = [RunFolder(tmp_path / name) for name in "ab"]
    for folder in folders:
        write_outlets(contract, table, folder, deterministic=7)
    for name in contract.outlets:
        parts = [(folder.outlets / f"{name}.parquet").read_bytes() for folder in folders]
        assert parts[0] == parts[1]


def test_deterministic_noise_is_a_switch_of_the_outlet_and_says_what_it_is(
    contract: Contract, folder: RunFolder, pooled: Path
) -> None:
    table = simulation(data=pooled, columns=NAMED, partition="iid")
    files = write_outlets(contract, table, folder, deterministic=7)
    assert [read_settings(file).deterministic for file in files] == [7, 7]
    assert "NOT private" in files[0].read_text()


def test_a_files_own_columns_and_odd_path_survive_the_settings_file(
    contract: Contract, folder: RunFolder, tmp_path: Path
) -> None:
    data = tmp_path / 'a "quoted" back\\slash\tähm\x7f folder'
    data.mkdir()
    for name, population in contract.outlets.items():
        rows = pa.Table.from_pylist(made_rows(name, population))
        pa_csv.write_csv(
            rows.rename_columns(['user "id"', "the\ttitle", "tøpic"]), data / f"{name}.csv"
        )
    columns = {"reader": 'user "id"', "text": "the\ttitle", "label": "tøpic"}
    files = write_outlets(
        contract, simulation(data=data, columns=columns), folder, deterministic=None
    )
    settings = read_settings(files[0])
    assert settings.data == data / "north-post.csv"
    assert settings.columns.model_dump() == columns


def test_one_column_can_be_label_and_outlet(
    tmp_path: Path, folder: RunFolder, contract_body: dict[str, Any]
) -> None:
    """As in the example of `run_file`: which site a reader of several sites visits."""
    rows = [
        {"user_id": f"u{i}", "text": "goal match", "site": site}
        for i in range(4)
        for site in ("North Post", "South Echo")
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "readers.parquet")
    contract = parse_contract(
        contract_body
        | {
            "task": {"labels": ["North Post", "South Echo"]},
            "outlets": {"north-post": 4, "south-echo": 4},
        }
    )
    table = simulation(
        data=tmp_path / "readers.parquet",
        partition="column:site",
        columns={"reader": "user_id", "text": "text", "label": "site"},
    )
    files = write_outlets(contract, table, folder, deterministic=None)
    labels = pq.read_table(read_settings(files[1]).data)["label"].to_pylist()
    assert labels == ["South Echo"] * 4


def test_records_count_where_the_unit_is_a_record(
    tmp_path: Path, contract: Contract, folder: RunFolder
) -> None:
    """30 readers have 60 records here: enough for 60 units only if units are records."""
    for name in contract.outlets:
        pq.write_table(pa.Table.from_pylist(made_rows(name, 30)), tmp_path / f"{name}.parquet")
    larger = contract.replace(outlets={"north-post": 60, "south-echo": 60})
    table = simulation(data=tmp_path)
    with pytest.raises(DataError, match="fewer readers"):
        write_outlets(larger, table, folder, deterministic=None)
    records = larger.replace(privacy={"unit": "record"})
    assert len(write_outlets(records, table, folder, deterministic=None)) == 2
    more = records.replace(outlets={"north-post": 61, "south-echo": 60})
    with pytest.raises(DataError, match="fewer records"):
        write_outlets(more, table, folder, deterministic=None)


def test_fewer_readers_than_declared_are_told_with_both_numbers(
    tmp_path: Path, contract: Contract, folder: RunFolder
) -> None:
    for name in contract.outlets:
        pq.write_table(pa.Table.from_pylist(made_rows(name, 20)), tmp_path / f"{name}.parquet")
    with pytest.raises(DataError) as caught:
        write_outlets(contract, simulation(data=tmp_path), folder, deterministic=None)
    assert caught.value.what == "fewer readers than the declared population"
    assert caught.value.where == f"north-post: {tmp_path / 'north-post.parquet'}"
    assert (caught.value.expected, caught.value.got) == ("at least 30 readers", "20")
    assert "declare" in caught.value.advice


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"data": "nowhere"}, "no data for north-post"),
        ({"data": "pooled.csv"}, "no data for north-post"),
        ({"data": "nowhere.csv", "partition": "iid"}, "missing file"),
        ({"data": "pooled.csv", "partition": "iid"}, "missing column 'reader'"),
        (
            {"data": "pooled.csv", "partition": "column:page", "columns": NAMED},
            "missing column 'page'",
        ),
        ({"data": "empty.csv", "partition": "dirichlet:1"}, "empty file"),
        ({"data": "unknown.csv", "partition": "iid"}, "unknown label"),
        ({"data": "null.parquet", "partition": "iid"}, "null in column 'reader'"),
        ({"data": "null.parquet", "partition": "column:label"}, "null in column 'reader'"),
    ],
)
def test_bad_data_is_told_in_words(
    tmp_path: Path,
    contract: Contract,
    folder: RunFolder,
    pooled: Path,
    fields: dict[str, Any],
    what: str,
) -> None:
    (tmp_path / "empty.csv").touch()
    unknown = [{"reader": f"r{i}", "text": "x", "label": "weather"} for i in range(80)]
    pa_csv.write_csv(pa.Table.from_pylist(unknown), tmp_path / "unknown.csv")
    nulls: list[dict[str, str | None]] = [
        {"reader": None if i == 3 else f"r{i}", "text": "x", "label": "sport"} for i in range(80)
    ]
    pq.write_table(pa.Table.from_pylist(nulls), tmp_path / "null.parquet")
    table = simulation(**fields | {"data": tmp_path / fields["data"]})
    with pytest.raises(DataError, match=what) as caught:
        write_outlets(contract, table, folder, deterministic=None)
    assert caught.value.exit_code == 2
    assert str(tmp_path) in caught.value.where


# --- Continuing ---------------------------------------------------------------------------------


def test_a_continued_run_keeps_the_outlets_that_were_written(
    contract: Contract, folder: RunFolder, pooled: Path
) -> None:
    table = simulation(data=pooled, columns=NAMED, partition="iid")
    files = write_outlets(contract, table, folder, deterministic=7)
    before = {path: path.read_bytes() for path in folder.outlets.iterdir()}
    pooled.unlink()
    assert outlets_of(contract, folder) == files
    assert {path: path.read_bytes() for path in folder.outlets.iterdir()} == before


def test_a_continued_run_is_refused_if_its_outlets_are_not_what_they_were(
    contract: Contract, folder: RunFolder, pooled: Path
) -> None:
    write_outlets(
        contract,
        simulation(data=pooled, columns=NAMED, partition="iid"),
        folder,
        deterministic=None,
    )
    data = folder.outlets / "south-echo.parquet"
    pq.write_table(pq.read_table(data).slice(0, 5), data)
    with pytest.raises(DataError, match="fewer readers than the declared"):
        outlets_of(contract, folder)
    (folder.outlets / "south-echo.toml").unlink()
    with pytest.raises(InputError, match="cannot read the outlet's settings"):
        outlets_of(contract, folder)


def test_settings_files_are_toml_that_names_nothing_else(
    contract: Contract, folder: RunFolder, pooled: Path
) -> None:
    table = simulation(data=pooled, columns=NAMED, partition="iid")
    files = write_outlets(contract, table, folder, deterministic=None)
    assert set(tomllib.loads(files[0].read_text())) == {"name", "data", "columns"}
