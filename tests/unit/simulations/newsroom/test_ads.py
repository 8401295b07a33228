"""Made adverts: the same from a seed, and with something to find in text, context and both."""

from __future__ import annotations

import csv
from collections import defaultdict

import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score
from tests.conftest import REPOSITORY

from presspool.common.runs.run_file import read_run_file
from presspool.common.tasks.ad_response import AdResponse, AdTable
from presspool.simulations.newsroom.ads import KEPT_UNCLICKED, Ads, make_ads

EXAMPLE = REPOSITORY / "examples" / "ads.toml"


@pytest.fixture(scope="module")
def many() -> Ads:
    return make_ads(outlets=3, readers=1500, seed=2)


def test_every_record_is_one_that_the_task_can_use(many: Ads) -> None:
    table = read_run_file(EXAMPLE).contract.task
    assert isinstance(table, AdTable)
    assert table.kept_unclicked == KEPT_UNCLICKED
    task = AdResponse(table)
    for found in (*many.tables.values(), many.held_out):
        rows = {n: found[n].combine_chunks().cast(pa.large_string()) for n in task.columns}
        assert not any(task.faults(rows).to_pylist())


def test_outlets_readers_and_held_out_do_not_move_each_other() -> None:
    small, large = (make_ads(outlets=n, readers=5 * n, seed=3) for n in (1, 2))
    (name,) = small.tables
    assert large.tables[name].slice(0, len(small.tables[name])) == small.tables[name]
    assert large.held_out == small.held_out
    assert len(set(small.tables[name]["reader"].to_pylist())) == 5
    assert make_ads(outlets=1, readers=5, seed=4).held_out != small.held_out


def clicks(table: pa.Table) -> list[int]:
    return [int(said) for said in table["clicked"].to_pylist()]


def test_outlets_keep_all_clicks_and_few_of_the_others(many: Ads) -> None:
    """Log-odds in the kept ones are higher by -log of the share."""
    whole = clicks(pa.concat_tables(many.tables.values()))
    kept, shown = (sum(c) / (len(c) - sum(c)) for c in (whole, clicks(many.held_out)))
    assert 0.08 < sum(clicks(many.held_out)) / len(many.held_out) < 0.2
    assert kept * KEPT_UNCLICKED == pytest.approx(shown, rel=0.25)


def by_values(many: Ads, names: tuple[str, ...]) -> float:
    """AUC, on the held-out showings, of how often like values were clicked in the outlets'."""
    sums = defaultdict[str, list[float]](lambda: [1.0, 3.0])
    for row in pa.concat_tables(many.tables.values()).to_pylist():
        for name in names:
            cell = sums[told(row, name)]
            cell[0] += row["clicked"] == "1"
            cell[1] += 1
    said = [
        sum(sums[told(row, name)][0] / sums[told(row, name)][1] for name in names)
        for row in many.held_out.to_pylist()
    ]
    return float(roc_auc_score(clicks(many.held_out), said))


def told(row: dict[str, str], name: str) -> str:
    """A value of context; of a text its first words, which are the offer's."""
    return f"{name} {' '.join(row[name].split()[:2])}"


def test_there_is_something_in_the_text_in_the_context_and_more_in_both(many: Ads) -> None:
    context = ("section", "device", "hour")
    text, where = by_values(many, ("text",)), by_values(many, context)
    assert text > 0.55
    assert where > 0.6
    assert by_values(many, ("text", *context)) > max(text, where) + 0.01


def test_the_example_is_made_so() -> None:
    outlets = read_run_file(EXAMPLE).contract.outlets
    ads = make_ads(outlets=len(outlets), readers=max(outlets.values()), seed=5)
    assert set(outlets) == set(ads.tables)
    with (EXAMPLE.parent / "ads.csv").open(encoding="utf-8", newline="") as stream:
        found = list(csv.DictReader(stream))
    for name, table in ads.tables.items():
        own = [
            {n: v for n, v in row.items() if n != "outlet"}
            for row in found
            if row["outlet"] == name
        ]
        assert own == table.to_pylist()
    with (EXAMPLE.parent / "ads_held_out.csv").open(encoding="utf-8", newline="") as stream:
        assert list(csv.DictReader(stream)) == ads.held_out.to_pylist()
