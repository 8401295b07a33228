"""`presspool outlet budget|policy|approve|runs`: what an outlet's operator types and reads."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import REPOSITORY
from tests.fakes.children.budget_children import ADAPTER
from tests.fakes.made_ledgers import SIGNER
from tests.fakes.made_outlets import pin_of
from tests.fakes.made_pool import made_task
from tests.fakes.made_runs import toml

from presspool.cli import app
from presspool.client.agent.spool import Spool
from presspool.client.agent.spool_files import SpooledTask
from presspool.client.consent.budget import Budget
from presspool.client.consent.policy import EXAMPLE, Policy, parse_policy, read_policy
from presspool.client.witnessing.witness_folder import WitnessFolder
from presspool.common.base.console import guarded
from presspool.common.base.errors import GuardError
from presspool.common.contract.contract import Contract
from presspool.common.ledger.store import Ledger
from presspool.common.pki.keys import SigningKey
from presspool.common.transparency import notes
from presspool.common.wire.flower import to_bytes
from presspool.common.wire.update import TrainTask, pack_task


@dataclass(frozen=True, kw_only=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Said]


@pytest.fixture
def outlet(capsys: pytest.CaptureFixture[str]) -> Command:
    """`presspool outlet …`, as a shell would run it."""

    def run(*arguments: object) -> Said:
        try:
            code = guarded(lambda: app(["outlet", *map(str, arguments)], standalone_mode=False))
        except SystemExit as stop:
            code = int(str(stop.code))
        captured = capsys.readouterr()
        return Said(code=code, out=captured.out, err=captured.err)

    return run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An outlet that has not made a ledger yet."""
    (tmp_path / "outlet.toml").write_text('name = "north-post"\ndata = "x.csv"\n')
    return tmp_path


@pytest.fixture
def run_toml(tmp_path: Path, contract_body: dict[str, Any]) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(toml(contract_body))
    return path


@pytest.fixture
def policy_body(contract: Contract) -> dict[str, Any]:
    return {
        "base_models": [pin_of(contract)],
        "max_epsilon_per_run": 8.0,
        "min_noise_multiplier": 0.5,
    }


def made(outlet: Command, home: Path, *more: object) -> Any:
    said = outlet("budget", "init", "--home", home, "--new-key", "--json", *more)
    assert said.code == 0, said.err
    return said.json


def test_init_makes_key_ledger_and_policy(outlet: Command, home: Path) -> None:
    document = made(outlet, home)
    assert document["add_to_outlet_toml"] == ['policy = "policy.toml"', 'ledger = "ledger.db"']
    key = home / "identity" / "log.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    signer = notes.Signer.load("presspool/north-post", SigningKey.read(key).secret, kind=notes.NOTE)
    assert document["key"] == signer.key.text
    assert read_policy(home / "policy.toml") == Policy()
    with Ledger(home / "ledger.db") as ledger:
        opened = ledger.book.opened
        assert (opened.order, opened.epsilon_max, opened.delta, opened.unit) == (
            6,
            8.0,
            1e-5,
            "reader",
        )
        assert ledger.checkpoint(signer)  # it is the key that signs


def test_init_again_changes_nothing(outlet: Command, home: Path) -> None:
    made(outlet, home)
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    said = outlet("budget", "init", "--home", home, "--new-key", "--epsilon-max", 99)
    assert said.code == 2
    assert "there is a ledger already" in said.err
    assert before == {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "join a pool first"),
        (("--new-key", "--epsilon-max", 3, "--order", 4), "orders that work for this ε"),
        (("--new-key", "--order", 5), "one of 2, 3, 4, 6"),
        (("--new-key", "--delta", 1), "0 < δ < 1"),
        (("--new-key", "--unit", "article"), "reader or record"),
    ],
)
def test_init_that_makes_no_sense_makes_no_ledger(
    options: tuple[object, ...], says: str, outlet: Command, home: Path
) -> None:
    said = outlet("budget", "init", "--home", home, *options)
    assert (said.code, says in said.err) == (2, True), said.err
    assert not (home / "ledger.db").exists()
    assert not (home / "policy.toml").exists()


def test_init_takes_the_order_that_suits_the_runs_expected(
    outlet: Command, home: Path, run_toml: Path
) -> None:
    planned = outlet("budget", "plan", run_toml, "--times", 3, "--json").json
    expect = ("--expect", run_toml) * 3
    said = outlet("budget", "init", "--home", home, "--new-key", "--epsilon-max", 8, *expect)
    assert said.code == 2
    assert f"--epsilon-max {planned['epsilon_max']:g}" in said.err
    document = made(outlet, home, "--epsilon-max", planned["epsilon_max"], *expect)
    assert document["order"] == planned["order"]
    kept = outlet("budget", "plan", run_toml, "--times", 4, "--home", home, "--json").json["ledger"]
    assert kept["fits"] == [True, True, True, False]


def test_a_plan_says_what_would_fit_under_a_cap(outlet: Command, run_toml: Path) -> None:
    """As many as `init` with that ε and order would then admit; none where it has no capacity."""
    plan = ("budget", "plan", run_toml, "--times", 4, "--json")
    document = outlet(*plan).json
    needed = document["needed_epsilon_by_order"]
    assert document["asked_epsilon_max"] == 8.0
    for order, least in needed.items():
        tight = outlet(*plan, "--epsilon-max", least + 1e-6).json["fit_by_order"]
        below = outlet(*plan, "--epsilon-max", least - 1e-6).json["fit_by_order"]
        assert (tight[order], below[order]) == (4, 3)
    assert set(outlet(*plan, "--epsilon-max", 0.01).json["fit_by_order"].values()) == {0}
    text = outlet(*plan[:-1], "--epsilon-max", 10_000).out
    assert text.count("4 of them fit under 10000") == len(needed)


def join_toml(home: Path, policy_body: dict[str, Any]) -> None:
    (home / "policy.toml").write_text(toml(policy_body))
    settings = home / "outlet.toml"
    settings.write_text('policy = "policy.toml"\nledger = "ledger.db"\n' + settings.read_text())


def spend(home: Path, contract: Contract, *, number: int = 1) -> None:
    policy = read_policy(home / "policy.toml")
    with (
        Budget.open(home / "ledger.db", policy=policy) as budget,
        budget.round(contract, number=number, adapter=ADAPTER) as meter,
    ):
        meter.step(2 * number - 1)
        meter.step(2 * number)
        meter.bind(b"answer")


def test_show_and_runs_say_what_is_used(
    outlet: Command, home: Path, contract: Contract, policy_body: dict[str, Any]
) -> None:
    made(outlet, home, "--epsilon-max", 60, "--order", 4)
    join_toml(home, policy_body | {"max_epsilon_per_period": 30.0, "period": "month"})
    assert outlet("budget", "--home", home, "--json").json["share"] == 0
    policy = home / "policy.toml"
    assert "not witnessed" not in outlet("budget", "--home", home).out
    rules = policy.read_text()
    policy.write_text(rules + "witnesses = { required = false }\n")
    assert "runs are not witnessed" in outlet("budget", "--home", home).out
    policy.write_text(rules)
    assert outlet("runs", "--home", home).out == "no run yet\n"
    spend(home, contract)
    document = outlet("budget", "--home", home, "--json").json
    assert document["share"] == document["spent_nats"] / document["capacity_nats"] > 0.1
    assert document["more_like_the_last"] == 8
    assert document["period"]["share"] > document["share"]
    (held,) = document["open"]
    assert (held["run"], held["steps"], held["executed"]) == (contract.digest, 4, 2)
    assert held["rounds_released"] == [1]
    text = outlet("budget", "--home", home).out
    assert "8 more runs like the last one fit" in text
    assert "10.9% of the lifetime budget is used" in text
    (row,) = outlet("runs", "--home", home, "--json").json["runs"]
    assert (row["run"], row["state"], row["steps"], row["rounds_released"]) == (
        contract.digest,
        "open",
        4,
        [1],
    )
    assert f"open    {contract.digest}" in outlet("runs", "--home", home).out


def test_an_auditor_takes_the_ledger_with_the_outlets_own_log_key(
    outlet: Command,
    home: Path,
    contract: Contract,
    policy_body: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    key = made(outlet, home, "--epsilon-max", 60, "--order", 4)["key"]
    join_toml(home, policy_body)
    spend(home, contract)
    file, signing = home / "outlet.export", home / "identity" / "log.key"
    commands = (
        ("export", home / "ledger.db", "--out", file, "--signing-key", signing),
        ("verify", file, "--key", key),
        ("recompute", file, "--key", key),
    )
    for command in commands:
        arguments = ["audit", *map(str, command)]
        assert guarded(lambda a=arguments: app(a, standalone_mode=False)) == 0  # type: ignore[misc]
    assert "10.9% of the filter" in " ".join(capsys.readouterr().out.split())


def test_runs_says_what_was_refused_ended_and_waits(
    outlet: Command, home: Path, contract: Contract, policy_body: dict[str, Any]
) -> None:
    made(outlet, home, "--epsilon-max", 60, "--order", 4)
    join_toml(home, policy_body)
    spend(home, contract)
    with Budget.open(home / "ledger.db", policy=parse_policy(policy_body)) as budget:
        budget.end(contract)
        budget.refuse("sha256:" + "0" * 64, "policy-noise")
    waiting = contract.replace(name="waiting")
    (home / "approvals").mkdir()
    (home / "approvals" / f"{waiting.digest[7:]}.json").write_bytes(waiting.canonical())
    document = outlet("runs", "--home", home, "--json").json
    assert [(row["state"], row["steps"], row["refusals"]) for row in document["runs"]] == [
        ("over", 2, []),
        ("refused", 0, ["policy-noise"]),
    ]
    assert document["waiting_for_approval"] == [waiting.digest]
    said = outlet("runs", "--home", home).out
    assert "refused: policy-noise" in said
    assert f"waits for: presspool outlet approve {waiting.digest}" in said
    kept = home / "approvals" / f"{waiting.digest[7:]}.json"
    assert outlet("policy", "check", kept, "--home", home).code == 0
    assert outlet("approve", waiting.digest[:20], "--home", home).code == 2
    for named in (waiting.digest[:20], waiting.name, kept):
        assert outlet("decline", named, "--home", home).code == 0
        kept.with_suffix(".declined").unlink()
    unknown = outlet("decline", "autumn", "--home", home)
    assert (unknown.code, "the name of a run here" in unknown.err) == (2, True)
    assert outlet("decline", kept, "--home", home).code == 0
    document = outlet("runs", "--home", home, "--json").json
    assert (document["waiting_for_approval"], document["declined"]) == ([], [waiting.digest])
    assert f"declined: {waiting.digest}" in outlet("runs", "--home", home).out
    assert "it was declined" in outlet("policy", "check", kept, "--home", home).out
    assert outlet("approve", kept, "--home", home).code == 0
    document = outlet("runs", "--home", home, "--json").json
    assert (document["waiting_for_approval"], document["declined"]) == ([], [])


def test_end_gives_back_what_was_never_begun_and_ends_the_run_for_good(
    outlet: Command, home: Path, contract: Contract, policy_body: dict[str, Any], tmp_path: Path
) -> None:
    made(outlet, home, "--epsilon-max", 60, "--order", 4)
    join_toml(home, policy_body)
    longer = contract.replace(federation={"rounds": contract.federation.rounds + 3})
    spend(home, longer)
    file = tmp_path / "contract.json"
    file.write_bytes(longer.canonical())
    before = outlet("budget", "--home", home, "--json").json["share"]
    secrets = home / "sums" / longer.digest.removeprefix("sha256:")  # of its part in pooled sums
    secrets.parent.mkdir()
    secrets.touch()
    ended = outlet("end", file, "--home", home, "--json").json
    assert not secrets.exists()
    after = outlet("budget", "--home", home, "--json").json["share"]
    assert ended["ended"] == longer.digest
    assert ended["freed_share"] == pytest.approx(before - after)
    assert 0 < after < before
    assert outlet("end", file, "--home", home).code == 2  # over is over
    with (
        Budget.open(home / "ledger.db", policy=parse_policy(policy_body)) as budget,
        pytest.raises(GuardError) as refused,
    ):
        budget.check(longer.digest, number=contract.federation.rounds + 1)
    assert refused.value.code == "run-over"


def test_end_where_no_ledger_is_asks_for_one(outlet: Command, home: Path, run_toml: Path) -> None:
    ended = outlet("end", run_toml, "--home", home)
    assert (ended.code, "presspool outlet budget init" in ended.err) == (2, True)


def test_end_knows_a_run_by_the_digest_of_its_task(
    outlet: Command, home: Path, contract: Contract, policy_body: dict[str, Any]
) -> None:
    made(outlet, home, "--epsilon-max", 60, "--order", 4)
    join_toml(home, policy_body)
    spend(home, contract)
    unknown = outlet("end", contract.digest, "--home", home)
    assert unknown.code == 2
    assert "no task of this run is here" in unknown.err
    state = {"w": np.zeros(1, np.float32)}
    text = contract.canonical().decode()
    task = TrainTask(contract=text, digest=contract.digest, round=1, state=state)
    body = to_bytes(pack_task(task))
    header, signed = made_task("north-post", body, contract=contract.digest)
    with Spool.open(home / "work") as spool:
        spool.accept(SpooledTask(header, signed), [body])
    assert outlet("end", contract.digest[:14], "--home", home).code == 2  # too few digits
    assert outlet("end", contract.digest[:15], "--home", home, "--json").json["freed_nats"] >= 0
    named = outlet("end", contract.name, "--home", home)
    assert (named.code, "over" in named.err) == (2, True)  # found, and over is over


def test_end_does_not_end_another_run_than_its_operator_named(
    outlet: Command, home: Path, contract: Contract, policy_body: dict[str, Any]
) -> None:
    """A coordinator that signs one run's digest over another run's task decides nothing here."""
    made(outlet, home, "--epsilon-max", 60, "--order", 4)
    join_toml(home, policy_body)
    spend(home, contract)
    text, named = contract.canonical().decode(), contract.replace(name="other").digest
    state = {"w": np.zeros(1, np.float32)}
    body = to_bytes(
        pack_task(TrainTask(contract=text, digest=contract.digest, round=1, state=state))
    )
    header, signed = made_task("north-post", body, contract=named)
    with Spool.open(home / "work") as spool:
        spool.accept(SpooledTask(header, signed), [body])
    said = outlet("end", named, "--home", home)
    assert said.code == 2
    assert contract.digest in said.err
    with Budget.open(home / "ledger.db", policy=parse_policy(policy_body)) as budget:
        budget.check(contract.digest, number=2)


def test_end_frees_nothing_in_a_ledger_that_was_restored_from_a_backup(
    outlet: Command, home: Path, contract: Contract, policy_body: dict[str, Any]
) -> None:
    """What the copy knows nothing of may have been released since."""
    made(outlet, home, "--epsilon-max", 60, "--order", 4)
    join_toml(home, policy_body)
    ledger, longer = home / "ledger.db", contract.replace(federation={"rounds": 5})
    spend(home, longer, number=1)
    backup = ledger.read_bytes()
    spend(home, longer, number=2)
    with Ledger(ledger) as opened:
        text = opened.head().text
    WitnessFolder.at(home).keep_own(notes.Note(text=text, signatures=(SIGNER.sign(text),)))
    ledger.write_bytes(backup)
    kept = home / "contract.json"
    kept.write_bytes(longer.canonical())
    before = outlet("budget", "--home", home, "--json").json["share"]
    said = outlet("end", kept, "--home", home)
    assert said.code != 0
    assert "older than a head" in said.err
    assert outlet("budget", "--home", home, "--json").json["share"] == before


def test_policy_check_says_every_rule_and_the_price(
    outlet: Command, home: Path, run_toml: Path, contract: Contract, policy_body: dict[str, Any]
) -> None:
    join_toml(home, policy_body)
    alone = outlet("policy", "check", run_toml, "--home", home, "--json")
    assert (alone.code, alone.json["admitted"], alone.json["budget"]) == (0, True, None)
    assert alone.json["run"] == contract.digest
    made(outlet, home, "--epsilon-max", 60, "--order", 4)
    said = outlet("policy", "check", run_toml, "--home", home)
    assert said.code == 0
    assert "the ledger holds it; 10.9% is used then" in said.out
    assert f"it needs: presspool outlet approve {contract.digest}" in said.out
    approved = outlet("approve", run_toml, "--by", "A. Editor", "--home", home, "--json").json
    assert (approved["approved"], approved["by"]) == (contract.digest, "A. Editor")
    assert "it needs" not in outlet("policy", "check", run_toml, "--home", home).out
    (home / "policy.toml").write_text(toml(policy_body | {"max_rounds": 1, "max_steps": 3}))
    strict = outlet("policy", "check", run_toml, "--home", home)
    assert strict.code == 1
    assert "REFUSED  [federation] rounds: 2 (at most 1)" in strict.out
    assert "REFUSED  [federation] rounds × local_steps: 4 (at most 3)" in strict.out
    assert "ε of the whole run is judged once all of these allow it" in strict.out
    assert "policy.toml max_rounds: this outlet refuses the run" in strict.err
    document = json.loads(outlet("policy", "check", run_toml, "--home", home, "--json").out)
    assert document["admitted"] is False
    assert [rule["rule"] for rule in document["rules"] if not rule["holds"]] == [
        "max_rounds",
        "max_steps",
    ]


def test_the_example_policy_is_printed_or_written_once(
    outlet: Command, home: Path, tmp_path: Path
) -> None:
    assert outlet("policy", "example").out == EXAMPLE
    path = tmp_path / "policy.toml"
    assert outlet("policy", "example", "--out", path).code == 0
    assert path.read_text() == EXAMPLE
    assert outlet("policy", "example", "--out", path).code == 2
    shown = outlet("policy", "--home", home, "--json").json
    assert shown == Policy().model_dump(mode="json")
    assert "max_epsilon_per_run: 3.0" in outlet("policy", "--home", home).out


def test_a_kept_contract_is_priced_like_the_run_file(
    outlet: Command, tmp_path: Path, run_toml: Path, contract: Contract
) -> None:
    kept = tmp_path / "contract.json"
    kept.write_bytes(contract.canonical())
    one, other = (outlet("budget", "plan", path, "--json").json for path in (run_toml, kept))
    assert one["needed_epsilon_by_order"] == other["needed_epsilon_by_order"]
    assert outlet("approve", tmp_path / "none.json", "--home", tmp_path).code == 2


def test_a_key_that_cannot_be_used_is_not_replaced(outlet: Command, home: Path) -> None:
    key = home / "identity" / "log.key"
    key.parent.mkdir()
    SigningKey.generate().write(key)
    key.chmod(0o644)
    before = key.read_bytes()
    said = outlet("budget", "init", "--home", home, "--new-key")
    assert (said.code, "others may read" in said.err) == (2, True)
    assert key.read_bytes() == before
    key.unlink()
    key.parent.rmdir()
    key.parent.write_text("a file")
    said = outlet("budget", "init", "--home", home, "--new-key")
    assert (said.code, "cannot make a folder" in said.err) == (2, True)
    assert not (home / "ledger.db").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("budget",),
        ("runs",),
        ("policy",),
        ("policy", "check", "no-such.toml"),
        ("approve", "sha256:12"),
        ("approve", "no-such.toml"),
        ("decline", "sha256:12"),
        ("budget", "plan", "no-such.toml"),
    ],
)
def test_what_is_not_there_is_bad_input(
    arguments: tuple[str, ...], outlet: Command, home: Path
) -> None:
    rest = () if "plan" in arguments else ("--home", home)
    said = outlet(*arguments, *rest)
    assert (said.code, said.out) == (2, "")
    assert said.err


@pytest.mark.parametrize(
    "command",
    [
        ("budget",),
        ("budget", "init"),
        ("budget", "plan"),
        ("policy",),
        ("policy", "check"),
        ("policy", "example"),
        ("approve",),
        ("decline",),
        ("runs",),
    ],
)
def test_every_command_has_help_with_an_example(command: tuple[str, ...], outlet: Command) -> None:
    said = outlet(*command, "--help")
    assert said.code == 0
    assert f"Example: presspool outlet {' '.join(command)}" in " ".join(said.out.split())


def test_the_guide_shows_these_commands() -> None:
    guide = (REPOSITORY / "docs" / "guides" / "outlet.md").read_text(encoding="utf-8")
    for command in ("budget init", "budget plan", "policy check", "approve", "runs"):
        assert f"presspool outlet {command}" in guide
