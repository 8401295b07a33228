"""`recipe = "default"`: a run file of outlets, labels and ε is a whole contract."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import REPOSITORY
from tests.fakes.instruments.typed import typed
from tests.fakes.made_runs import toml

from presspool.common.base.errors import ContractError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.models.catalogue import DEFAULT_ID
from presspool.common.runs.default_recipe import hidden_recipe, ranking_recipe, writing_recipe
from presspool.common.runs.recipe import head_recipe, recipe
from presspool.common.runs.run_file import RunFile, read_run_file

Body = dict[str, Any]
LABELS = ["world", "sport"]
SHORT: Body = {
    "recipe": "default",
    "task": {"labels": LABELS},
    "outlets": {"north-post": 900, "south-echo": 700, "west-sun": 400},
    "privacy": {"epsilon": 3.0},
}


def read(folder: Path, body: Body) -> RunFile:
    path = folder / "first.toml"
    path.write_text(toml(body), encoding="utf-8")
    return read_run_file(path)


def changed(**tables: Any) -> Body:
    body = {k: dict(v) if isinstance(v, dict) else v for k, v in SHORT.items()}
    for key, table in tables.items():
        body[key] = {**body.get(key, {}), **table} if isinstance(table, dict) else table
    return body


def test_outlets_labels_and_epsilon_are_a_contract(tmp_path: Path) -> None:
    contract = read(tmp_path, SHORT).contract
    made = head_recipe(populations=SHORT["outlets"], classes=2, epsilon=3.0)
    assert contract.name == "first"
    assert contract.federation.quorum == 2  # more than half of three
    assert contract.task.model_dump()["head"] == made["task"]["head"]
    assert contract.privacy.epsilon == 3.0
    assert dict(contract.privacy.clip) == {"all": made["privacy"]["clip"]}
    assert contract.federation.rounds == made["federation"]["rounds"]


def test_noise_that_the_pool_shares_is_counted_once(tmp_path: Path) -> None:
    """The default goes as far as for one outlet of all readers, but for who may drop or collude."""
    as_one = head_recipe(populations={"pool": 2000}, classes=2, epsilon=3.0)
    less_one = head_recipe(populations=SHORT["outlets"], classes=2, epsilon=3.0, uncounted=1)
    for colluders, made in enumerate((as_one, less_one)):
        pooled = changed(
            federation={"trust": "pooled"}, pooled={"colluders": colluders, "dropouts": 0}
        )
        contract = read(tmp_path, pooled).contract
        assert dict(contract.server.learning_rate) == {"all": made["server"]["learning_rate"]}
        assert contract.federation.trust == "pooled"
    local, pooled_run = read(tmp_path, SHORT).contract, contract
    ways = [c.server.learning_rate["all"] * c.federation.rounds for c in (local, pooled_run)]
    assert ways[0] < ways[1]


def test_a_cohort_of_all_changes_no_number_and_a_smaller_one_asks_for_half_of_it(
    tmp_path: Path,
) -> None:
    """Each outlet has fewer rounds, with less noise: over the run about as much is seen."""
    every, some = (read(tmp_path, changed(federation={"cohort": k})).contract for k in (3, 2))
    usual = read(tmp_path, SHORT).contract
    assert every.replace(federation={"cohort": None}).digest == usual.digest
    assert some.federation.quorum == 2
    assert some.outlet_steps == -(-usual.steps * 2 // 3)
    ways = [made.server.learning_rate["all"] for made in (some, usual)]
    assert 0.9 < ways[0] / ways[1] <= 1.0


def test_the_digest_covers_the_numbers_and_never_the_word(tmp_path: Path) -> None:
    """Written out by hand, the same contract has the same bytes."""
    found = read(tmp_path, SHORT).contract
    whole = {key: value for key, value in found.body().items() if key != "schema"}
    spelt: Contract = parse_contract(whole)
    assert spelt.canonical() == found.canonical()
    assert b"recipe" not in found.canonical()


def test_what_the_file_says_stands(tmp_path: Path) -> None:
    body = changed(
        name="mine",
        federation={"rounds": 3, "quorum": 3},
        privacy={"clip": 0.7},
        task={"max_length": 17},
        server={"learning_rate": 0.1},
    )
    run = read(tmp_path, body)
    contract = run.contract
    assert (contract.name, contract.task.max_length) == ("mine", 17)
    assert (contract.federation.rounds, contract.federation.quorum) == (3, 3)
    assert (dict(contract.privacy.clip), contract.server.learning_rate) == (
        {"all": 0.7},
        {"all": 0.1},
    )
    for key in ("federation.rounds", "privacy.clip", "task.max_length", "privacy.epsilon"):
        assert key not in run.defaults
    for key in ("federation.local_steps", "privacy.delta", "adapter.method", "model.id"):
        assert key in run.defaults


def test_a_file_without_a_recipe_has_the_digest_it_always_had(
    tmp_path: Path, contract_body: Body
) -> None:
    assert read(tmp_path, contract_body).contract.digest == parse_contract(contract_body).digest


def test_a_method_that_trains_an_adapter_brings_its_own_recipe(tmp_path: Path) -> None:
    contract = read(tmp_path, changed(adapter={"method": "ffa"})).contract
    made = recipe(trained="adapter")
    assert contract.groups == ("adapter", "head")
    assert dict(contract.privacy.clip) == made["privacy"]["clip"]


def test_a_task_that_writes_gets_the_recipe_for_writing(tmp_path: Path) -> None:
    body = changed()
    body["task"] = {"kind": "generation", "format": "prompt"}
    contract, made = read(tmp_path, body).contract, writing_recipe()
    assert contract.model.id == made["model"]["id"]
    assert list(contract.adapter.targets) == made["adapter"]["targets"]
    assert contract.federation.quorum == 2


def test_a_task_of_hidden_tokens_trains_an_adapter_of_the_default_encoder(tmp_path: Path) -> None:
    body = changed()
    body["task"] = {"kind": "fill-mask"}
    contract, made = read(tmp_path, body).contract, hidden_recipe()
    assert contract.model.id == DEFAULT_ID
    assert contract.groups == ("adapter",)
    assert dict(contract.privacy.clip) == {"all": made["privacy"]["clip"]}
    assert contract.adapter.rank == made["adapter"]["rank"]


def test_a_task_of_titles_takes_plain_steps_of_the_head(tmp_path: Path) -> None:
    body = changed()
    body["task"] = {"kind": "recommendation"}
    contract = read(tmp_path, body).contract
    assert contract.adapter.method == "head"
    assert (contract.server.name, contract.federation.rounds) == ("average", 32)
    assert contract.task.kind == "recommendation"
    body["adapter"] = {"method": "ffa"}
    assert dict(read(tmp_path, body).contract.server.learning_rate) == {
        "adapter": 0.02,
        "head": 0.02,
    }


def test_a_task_of_clicks_takes_shorter_steps_under_a_wider_clip_norm(tmp_path: Path) -> None:
    body = changed()
    body["task"] = {"kind": "ad-response", "context": {"device": ["phone", "desktop"]}}
    contract = read(tmp_path, body).contract
    made = head_recipe(populations=SHORT["outlets"], classes=1, epsilon=3.0)
    assert contract.adapter.method == "head"
    assert dict(contract.privacy.clip) == {"all": 0.5}
    (rate,) = contract.server.learning_rate.values()
    assert 4 * rate * 0.5 == pytest.approx(0.1 * made["server"]["learning_rate"], rel=1e-3)
    assert contract.federation.rounds == made["federation"]["rounds"]
    body["adapter"] = {"method": "ffa"}
    assert read(tmp_path, body).contract.groups == ("adapter", "head")


def test_few_readers_take_shorter_steps_of_titles_and_none_longer_ones_than_without_noise() -> None:
    rates = [
        ranking_recipe(populations={"a": n, "b": n}, epsilon=epsilon)["server"]["learning_rate"]
        for n, epsilon in ((50, 8.0), (500, 8.0), (50_000, 8.0), (50, math.inf))
    ]
    assert rates == sorted(rates)
    assert rates[2] == rates[3] == 1.25
    assert rates[1] == pytest.approx(10 * rates[0], rel=1e-3)


def test_delta_is_below_one_over_the_largest_population(tmp_path: Path) -> None:
    contract = read(tmp_path, changed(outlets={"north-post": 5_000_000})).contract
    assert contract.privacy.delta == pytest.approx(0.1 / 5_000_000)


def test_fewer_outlets_make_the_recipe_anew(tmp_path: Path) -> None:
    """Else the quorum of three outlets would refuse the first one alone."""
    one = read(tmp_path, SHORT).first_outlets(1).contract
    assert (list(one.outlets), one.federation.quorum) == (["north-post"], 1)
    assert one.name == "first"


@pytest.mark.parametrize(
    ("body", "place", "said"),
    [
        (changed(recipe="best"), "first.toml recipe", "unknown recipe"),
        (changed(recipe=3), "first.toml recipe", "unknown recipe"),
        ({**SHORT, "privacy": {"noise_multiplier": 1.0}}, "[privacy] epsilon", "missing key"),
        ({**SHORT, "privacy": {"epsilom": 3.0}}, "[privacy] epsilom", "unknown key"),
        ({**SHORT, "privacy": {}}, "privacy", "give epsilon"),
        ({**SHORT, "outlets": {}}, "outlets", "1 or more"),
        ({**SHORT, "task": {"labels": ["one"]}}, "labels", "2 or more"),
        ({**SHORT, "outlet": SHORT["outlets"]}, "outlet", "unknown key"),
        ({k: v for k, v in SHORT.items() if k != "outlets"}, "outlets", "missing key"),
        (changed(federation=7), "federation", ""),
    ],
)
def test_what_is_wrong_is_told_as_in_any_run_file(
    tmp_path: Path, body: Body, place: str, said: str
) -> None:
    with pytest.raises(ContractError) as caught:
        read(tmp_path, body)
    assert place in caught.value.where
    assert said in str(caught.value)
    assert caught.value.exit_code == 2


def test_contract_check_prints_every_filled_value_as_a_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = typed(monkeypatch, capsys, "contract", "check", str(REPOSITORY / "examples" / "run.toml"))
    said = run()
    assert said.code == 0, said.err
    printed = " ".join(said.out.split())
    found = json.loads(run("--json").out)
    assert "epsilon 8.0," in printed
    for key in found["defaults"]:
        table, name = key.split(".")
        assert f"{name} {found['contract'][table][name]} (default)" in printed
    assert {"federation.rounds", "privacy.sampling_rate", "server.name"} <= set(found["defaults"])


@pytest.mark.parametrize(
    ("privacy", "said"),
    [(None, "give epsilon"), (5, "not allowed here"), (["noise_multiplier"], "not allowed here")],
)
def test_a_run_file_without_its_privacy_table_is_refused_in_one_message(
    tmp_path: Path, privacy: object, said: str
) -> None:
    rest = {key: value for key, value in SHORT.items() if key != "privacy"}
    said_first = "" if privacy is None else f"privacy = {json.dumps(privacy)}\n"
    path = tmp_path / "first.toml"
    path.write_text(said_first + toml(rest), encoding="utf-8")
    with pytest.raises(ContractError, match=said):
        read_run_file(path)


@pytest.mark.parametrize("mode", ["multi", "ordinal"])
def test_where_no_single_label_wins_the_head_starts_at_zero(tmp_path: Path, mode: str) -> None:
    single = read(tmp_path, SHORT).contract
    contract = read(tmp_path, changed(task={"mode": mode})).contract
    said = {key: value for key, value in contract.body()["task"].items() if key != "max_length"}
    assert said == {"kind": "classification", "labels": LABELS, "head": "zero", "mode": mode}
    assert contract.server == single.server


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ({"labels": ["PER", "PER"]}, "distinct"),
        ({"labels": ["PER"], "max_length": 32, "window": 64}, "a window has fewer tokens"),
        ({"labels": ["PER"], "max_length": "long"}, r"max_length"),
    ],
)
def test_a_fault_of_another_kind_of_task_is_told_by_its_own_words(
    tmp_path: Path, task: Body, told: str
) -> None:
    """Not by the keys of the task that stands in where the file itself is at fault."""
    body = changed() | {"task": {"kind": "tagging", **task}}
    with pytest.raises(ContractError) as caught:
        read(tmp_path, body)
    assert re.search(told, str(caught.value))
    assert "head" not in str(caught.value)
