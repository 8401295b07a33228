"""What the writing part of `experiment tasks` is made of, from the real data."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from presspool.simulations.experiments.declared import writing_tasks
from presspool.simulations.experiments.pools import EVERYBODY, Pool, Record


@pytest.fixture(scope="module")
def pools(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pool]:
    folder = tmp_path_factory.mktemp("pools")
    return {pool.folder.name: pool for pool in writing_tasks.pools(data_root, folder)}


def test_the_first_records_of_a_reader_are_kept_and_all_of_a_tested_one() -> None:
    records = [
        Record(outlet="a", reader=reader, text=f"text {number}", label="", test=reader == "tested")
        for number, reader in enumerate(["ann", "tested", "ann", "tested", "ann", "tested"])
    ]
    kept = writing_tasks.firsts(records)
    assert [record.text[-1] for record in kept] == ["0", "1", "2", "3", "5"]


def test_people_differ_in_training_records_alone(pools: dict[str, Pool]) -> None:
    people, first = pools[writing_tasks.PEOPLE], pools[writing_tasks.FIRST]
    assert people.readers == first.readers
    assert pq.read_table(people.test).equals(pq.read_table(first.test))
    many, few = (
        Counter(pq.read_table(pool.folder / f"{EVERYBODY}.parquet")["reader"].to_pylist())
        for pool in (people, first)
    )
    assert few == {reader: min(count, 2) for reader, count in many.items()}
    assert max(many.values()) > 2


def test_a_summary_is_one_sentence_of_an_article_that_is_not_trained_on(
    pools: dict[str, Pool],
) -> None:
    pool = pools[writing_tasks.SUMMARIES]
    train, test = pq.read_table(pool.folder / f"{EVERYBODY}.parquet"), pq.read_table(pool.test)
    assert not {*train["reader"].to_pylist()} & {*test["reader"].to_pylist()}
    assert len(pool.readers) == 5
    words = [len(said.split()) for said in train["summary"].to_pylist()]
    assert 15 < sum(words) / len(words) < 30
    assert all(len(said.split()) <= writing_tasks.WORDS for said in test["article"].to_pylist())


def test_the_first_sentence_has_figures_for_both_kinds_of_articles(pools: dict[str, Pool]) -> None:
    lines = writing_tasks.lead_one([*pools.values()]).splitlines()[2:]
    assert len(lines) == 2
    for line in lines:
        assert 0.1 < float(line.split("|")[2].split("±")[0]) < 0.5
