"""What a program reads is never broken into lines: commands piped, where a screen has 20 columns.

Invariant: a command that has `--json` is typed here, or is named as one that trains, measures,
serves or needs the other side; those print by the same one function.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_evidence import make_desk
from tests.fakes.made_outlets import policy_body
from tests.fakes.made_runs import toml, write_run
from tests.fakes.registry.made_registry import make_registry
from typer.main import get_command

from presspool.cli import app
from presspool.common.contract.contract import Contract
from presspool.simulations import tune as tuning

TYPED = """
contract check {run}
plan {single}
methods {run}
compare {desk}/run {desk}/twin/run
models list
models show smollm2-135m-instruct
outlet policy pin {base}
outlet policy --home {home}
outlet policy check {run} --home {home}
outlet budget init --home {home} --new-key
outlet budget plan {run} --home {home}
outlet budget --home {home}
outlet decline {run} --home {home}
outlet approve {run} --home {home}
outlet runs --home {home}
outlet check-data {data} --run {run} --outlet north-post
outlet split {data} --kept {desk}/own.csv --held-out {desk}/public.csv --share 0.5
opinion {desk}/labels.csv
outlet import --home {home}
outlet backup {desk}/outlet.backup --home {home}
outlet restore {desk}/outlet.backup --home {desk}/restored
coordinator init --name pool --address 127.0.0.1:7443 --home {pool}
coordinator invite north-post --home {pool}
coordinator viewer editor --out {desk}/editor.pem --home {pool}
coordinator members --home {pool}
coordinator submit {run} --home {pool}
coordinator status --home {pool}
coordinator move 127.0.0.1:7444 --home {pool}
coordinator reissue --home {pool}
coordinator migrate --home {pool}
coordinator backup {desk}/pool.backup --home {pool}
coordinator restore {desk}/pool.backup --home {desk}/moved
audit verify {desk}/north-post.export
audit recompute {desk}/north-post.export
audit export {desk}/north-post/ledger.db --out {desk}/new.export
audit card {desk}/run --ledger {one} --ledger {other} --fields {desk}/fields.toml
adapters init --name newsroom --registry {store} --keys {keys}
adapters list --registry {store}
adapters verify --registry {store}
adapters gc --registry {store} --keys {keys}
adapters show topics --registry {filled}
adapters diff topics@1 topics@1 --registry {filled}
adapters promote topics --by A --reason b --registry {filled} --keys {seals}
adapters retire topics --by A --reason b --registry {filled} --keys {seals}
tune {run} --out {desk}/trials
new run --data {offered} --out {desk}/new.toml
""".strip().splitlines()
ELSEWHERE = """
demo, simulate, sweep, predict, serve, outlet erase, outlet init, outlet join, outlet moved,
outlet count, outlet preview-redaction, outlet budget restored, outlet budget rename, outlet doctor,
adapters add, adapters rollback, adapters gate,
outlet adapters list, outlet adapters fetch, outlet adapters verify,
outlet end, outlet peers, outlet peers me, outlet peers approve, outlet peers withdraw,
coordinator admit, coordinator revoke, coordinator drop, audit ui, audit fork, audit attack,
models fetch, bench engine, bench gpu, bench transport, bench ledger, bench secagg, bench export,
bench simulation, bench serving, export,
experiment agnews, experiment outlets, experiment readers, experiment sweep, experiment headlines,
experiment heads, experiment pooled, experiment robust, experiment methods, experiment tasks,
experiment paired, experiment clicks
"""


def with_json(command: click.Command, path: str = "") -> Iterator[str]:
    """Names of the commands that have `--json`."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from with_json(inner, f"{path} {name}".strip())
    if any("--json" in option.opts for option in command.params):
        yield path


@pytest.fixture
def places(
    tmp_path: Path, contract: Contract, contract_body: dict[str, Any], tiny_base: Path
) -> dict[str, Path]:
    """An outlet's home, a run and a compliance desk, in a folder whose name no screen holds."""
    desk = make_desk(tmp_path / ("a long name " * 9).strip()).folder
    make_desk(desk / "twin")
    home = desk / "home"
    home.mkdir()
    run = write_run(desk / "offered", contract_body, records=60)
    single = write_run(
        desk / "single",
        {**contract_body, "federation": {**contract_body["federation"], "local_steps": 1}},
    )
    data = run.parent / "data" / "north-post.parquet"
    (home / "outlet.toml").write_text(f'name = "north-post"\ndata = {json.dumps(str(data))}\n')
    (home / "policy.toml").write_text(toml(policy_body(contract)))
    (desk / "labels.csv").write_text("day,label\n2026-01-01,good\n2026-02-01,bad\n")
    named = {"desk": desk, "home": home, "run": run, "single": single, "data": data}
    (desk / "newsroom").mkdir()
    filled = make_registry(desk / "newsroom")
    filled.add()
    named |= {"filled": Path(filled.url), "seals": filled.keys.path}
    named |= {"store": desk / "store", "keys": desk / "keys"}
    exports = {"one": desk / "north-post.export", "other": desk / "south-echo.export"}
    return {**named, **exports, "base": tiny_base, "pool": desk / "pool", "offered": data.parent}


@pytest.fixture
def piped(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """A command of one line, its output going to a program."""
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr(tuning, "SAMPLING", ((1.0, 2),))
    monkeypatch.setattr(tuning, "NOISE_DRAWS", 1)
    run = typed(monkeypatch, capsys)
    return lambda line: run(*(word.format(**places) for word in line.split()))


def test_every_command_for_machines_is_known_here() -> None:
    known = {name.strip() for name in ELSEWHERE.split(",")}
    for name in with_json(get_command(app)):
        assert name in known or any(line.startswith(name) for line in TYPED), name


def test_json_is_parsed(piped: Command) -> None:
    for line in TYPED:
        answer = piped(f"{line} --json")
        assert answer.code == 0, (line, answer.err)
        assert isinstance(json.loads(answer.out), dict | list), line


def test_toml_is_parsed(piped: Command, places: dict[str, Path]) -> None:
    assert "max_epsilon_per_run" in tomllib.loads(piped("outlet policy example").out)
    pin = tomllib.loads(piped("outlet policy pin {base}").out)
    assert pin["base_models"][0]["folder"] == str(places["base"])
    proposed = piped("tune {run} --out {desk}/trials").out
    assert tomllib.loads(proposed)["federation"]["rounds"] == 2
    assert str(places["run"].parent / "held_out.parquet") in proposed


def test_paths_and_digests_stay_whole(piped: Command, places: dict[str, Path]) -> None:
    made = piped("outlet budget init --home {home} --new-key").out
    assert str(places["home"] / "ledger.db") in made
    said = piped("compare {desk}/run {desk}/twin/run").out
    assert str(places["desk"] / "twin" / "run") in said
    assert str(places["desk"]) in piped("simulate {run} --out {desk}/out --prepare-only").out
