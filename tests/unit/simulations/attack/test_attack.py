"""The attacks on the real pipeline with a tiny model: they see what is there and no more."""

from __future__ import annotations

import dataclasses
import html
import json
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.fakes.bases.wide_base import LABELS, attacked_contract
from typer.testing import CliRunner

from presspool.cli import app
from presspool.client.engine.randomness import SecureRandom
from presspool.common.base.errors import ContractError, FolderError, InputError, PressPoolError
from presspool.common.contract.contract import Contract
from presspool.common.runs.run_file import freeze, read_run_file
from presspool.common.tasks.classification import labels_of
from presspool.simulations.attack import attack as audits
from presspool.simulations.attack import attack_page, attack_report, scores
from presspool.simulations.attack.attack import Options, attack
from presspool.simulations.attack.attacked_outlet import own_readers, write_outlet
from presspool.simulations.attack.bounds import Guesses
from presspool.simulations.attack.canaries import plant
from presspool.simulations.attack.findings import Attack
from presspool.simulations.attack.roc import separation, share_interval
from presspool.simulations.attack.transcript import bait, listen, scaled_noise
from presspool.simulations.attack.workplace import at_work
from presspool.simulations.demo import prepare_demo

CANARIES = 600


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Contract:
    return attacked_contract(tmp_path_factory.mktemp("wide-base"))


@pytest.fixture(scope="module")
def outlet(contract: Contract) -> str:
    return "north-post"


@pytest.fixture(scope="module")
def honest(contract: Contract, outlet: str, tmp_path_factory: pytest.TempPathFactory) -> Attack:
    out = tmp_path_factory.mktemp("attack") / "honest"
    return attack(contract, outlet, Options(out=out, canaries=CANARIES, deterministic=1))


def test_the_bound_is_below_the_claim_and_the_control_fires(honest: Attack) -> None:
    assert honest.updates.fired
    assert honest.updates.control.tpr >= 0.2
    assert honest.epsilon is not None
    assert honest.epsilon < honest.claimed == pytest.approx(3.0, abs=0.05)
    assert "no proof of privacy" in honest.sentence


def test_hardly_any_noise_under_the_same_claim_is_a_defect(
    contract: Contract, outlet: str, tmp_path: Path
) -> None:
    """The tiny model's share of what the soak test shows on the demo with a tenth of the noise."""
    options = Options(out=tmp_path / "weak", canaries=CANARIES, deterministic=1)
    found = attack(contract, outlet, options, _noise_scale=0.03)
    assert found.epsilon is not None
    assert found.epsilon > found.claimed
    assert found.defect
    with pytest.raises(PressPoolError, match="more leaks than is claimed"):
        attack_report.require_verdict(found)


def test_a_short_record_is_read_off_a_bare_update_and_not_off_a_planned_one(
    honest: Attack,
) -> None:
    assert honest.tokens is not None
    assert honest.tokens_control is not None
    assert honest.tokens_control.exact >= 0.8
    assert honest.tokens.suspected <= honest.tokens.chance + 0.02
    assert honest.tokens.exact <= 0.02


def test_an_attack_without_power_gives_no_verdict_and_no_card(honest: Attack) -> None:
    updates = dataclasses.replace(honest.updates, fired=False)
    adapter = dataclasses.replace(honest.adapter, fired=False)
    blind = dataclasses.replace(honest, updates=updates, adapter=adapter)
    assert blind.epsilon is None
    assert not blind.defect
    assert blind.card is None
    assert "no power here" in blind.sentence
    with pytest.raises(PressPoolError, match="no verdict"):
        attack_report.require_verdict(blind)


def test_a_stopped_audit_goes_on_to_the_same_result(
    contract: Contract, outlet: str, tmp_path: Path
) -> None:
    """Stopped in the second arm; what was finished is not run again."""
    options, steps = Options(out=tmp_path / "a", canaries=40, deterministic=5), []

    def stop() -> None:
        steps.append(1)
        if len(steps) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attack(contract, outlet, options, on_step=stop)
    steps.clear()
    continued = attack(contract, outlet, options, on_step=lambda: steps.append(1))
    whole = attack(contract, outlet, dataclasses.replace(options, out=tmp_path / "b"))
    assert continued == whole
    assert len(steps) < audits.units_of_work(contract)


def test_a_folder_with_other_things_in_it_is_refused(
    contract: Contract, outlet: str, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FolderError):
        attack(contract, outlet, Options(out=tmp_path, canaries=40))
    assert (tmp_path / "thesis.txt").exists()


def test_a_folder_of_another_audit_is_refused(
    contract: Contract, outlet: str, tmp_path: Path
) -> None:
    audits._coins(contract, outlet, Options(out=tmp_path, canaries=40))
    with pytest.raises(FolderError):
        audits._coins(contract, outlet, Options(out=tmp_path, canaries=41))


def test_an_unprotected_contract_is_refused(
    contract: Contract, outlet: str, tmp_path: Path
) -> None:
    with pytest.raises(ContractError, match="nothing to attack"):
        attack(scaled_noise(contract, 0), outlet, Options(out=tmp_path / "x"))


def own_outlet(home: Path, readers: int = 30) -> Path:
    """A real outlet's settings and records; later readers write other words."""
    words = [f"{'aa' if i < readers // 2 else 'jj'}a" for i in range(readers)]
    records = {
        "reader": [f"secret-{i}" for i in range(readers)],
        "text": words,
        "label": [LABELS[i % 8] for i in range(readers)],
    }
    home.mkdir(parents=True, exist_ok=True)
    return write_outlet(home, "north-post", pa.table(records))


def test_of_real_readers_nothing_is_kept(honest: Attack, tmp_path: Path) -> None:
    found = dataclasses.replace(honest, readers="own", reproducible=False)
    attack_report.keep(found, tmp_path, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert found.card is None


@pytest.mark.parametrize("end", [KeyboardInterrupt, RuntimeError, signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_attack_on_real_readers_leaves_nothing(
    contract: Contract, outlet: str, tmp_path: Path, end: type[BaseException] | signal.Signals
) -> None:
    own, out = own_outlet(tmp_path / "home"), tmp_path / "out"

    def stop() -> None:
        assert (out / "malicious-noise" / "records.parquet").exists()
        if isinstance(end, signal.Signals):
            signal.raise_signal(end)
        else:
            raise end

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises((KeyboardInterrupt, RuntimeError)):
        attack(contract, outlet, Options(out=out, canaries=40, own=own), on_step=stop)
    assert not out.exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_a_killed_attack_on_real_readers_left_is_removed_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / "malicious-noise" / "records.parquet"
    left.parent.mkdir()
    left.write_bytes(b"somebody's words")
    (tmp_path / "audit.json").write_text('{"own": "/home/outlet.toml"}')
    with at_work(tmp_path, own=False):
        assert {path.name for path in tmp_path.iterdir()} == {"lock"}


def test_two_attacks_never_work_in_one_folder(tmp_path: Path) -> None:
    with at_work(tmp_path, own=False), pytest.raises(FolderError, match="another attack"):  # noqa: SIM117
        with at_work(tmp_path, own=True):
            pass
    assert tmp_path.exists()


def test_readers_who_are_compared_are_drawn_from_the_whole_file(tmp_path: Path) -> None:
    """The first of a file that is sorted by anything would differ from those left out."""
    own = own_outlet(tmp_path, readers=2000)
    audience = own_readers(own, SecureRandom.deterministic(4))
    for part in (audience.compared, audience.others):
        early = np.mean([text == "aaa" for text in part["text"].to_pylist()])
        assert len(part) == 400
        assert abs(early - 0.5) < 4 * np.sqrt(0.25 / 400)
    compared, members, others = (
        set(t["reader"].to_pylist()) for t in (audience.compared, audience.members, audience.others)
    )
    assert compared <= members
    assert not members & others


def test_the_card_gets_canary_figures_alone(honest: Attack, tmp_path: Path) -> None:
    attack_report.keep(dataclasses.replace(honest, reproducible=False), tmp_path, tmp_path)
    card = json.loads((tmp_path / "empirical.json").read_text())
    assert set(card) == {
        "status",
        "contract",
        "attack",
        "confidence",
        "interval",
        "claimed",
        "control",
        "sentence",
    }
    assert card["interval"][0] == honest.epsilon
    assert "AUC" not in json.dumps(card)


def test_reproducible_noise_gives_no_card(honest: Attack, tmp_path: Path) -> None:
    attack_report.keep(honest, tmp_path, tmp_path)
    assert (tmp_path / "attack.json").exists()
    assert not (tmp_path / "empirical.json").exists()


def test_the_page_shows_the_verdict_and_both_curves_and_asks_nobody(
    honest: Attack, tmp_path: Path
) -> None:
    attack_report.keep(honest, tmp_path, tmp_path)
    page = (tmp_path / "attack.html").read_text()
    assert html.escape(honest.sentence) in page
    assert page.count("<svg") == 4  # two attacks, each for a wide column and for a phone
    assert "no defect found" in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    leak = dataclasses.replace(honest.updates, any_mechanism=2 * honest.claimed)
    worse = attack_page.render(dataclasses.replace(honest, updates=leak))
    assert "defect: more leaks than is claimed" in worse
    mute = dataclasses.replace(honest.updates, fired=False)
    silent = attack_page.render(dataclasses.replace(honest, updates=mute, adapter=mute))
    assert "no verdict" in silent
    assert "its silence means nothing" in silent


def test_a_curve_holds_the_area_that_the_auc_says() -> None:
    rng = np.random.default_rng(5)
    found = separation(rng.normal(1.0, size=900), rng.normal(size=1100))
    x, y = np.array(found.curve).T
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert (np.diff(x) >= 0).all()
    assert (np.diff(y) >= 0).all()
    assert np.trapezoid(y, x) == pytest.approx(found.auc, abs=0.005)
    assert separation(np.array([1.0]), np.array([0.0])).curve == ((0, 0), (0, 1), (1, 1))


def test_scores_that_tie_make_the_curve_straight() -> None:
    """Without noise all who were never drawn score alike, whether they were in or out."""
    found = separation(np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0]))
    x, y = np.array(found.curve).T
    assert x.tolist() == [0, 0, 1]
    assert y.tolist() == pytest.approx([0, 1 / 3, 1])
    assert np.trapezoid(y, x) == pytest.approx(found.auc)


def test_coins_are_fair_and_only_included_canaries_are_in_the_records(contract: Contract) -> None:
    canaries = plant(contract, 4000, SecureRandom.deterministic(9))
    assert abs(int(canaries.included.sum()) - 2000) < 6.2 * np.sqrt(1000)
    table = canaries.table(labels_of(contract))
    assert len(table) == canaries.included.sum()
    assert len(set(canaries.texts)) > 3990


def test_scores_never_look_at_the_coins(contract: Contract, outlet: str, tmp_path: Path) -> None:
    canaries = plant(contract, 30, SecureRandom.deterministic(2))
    settings = write_outlet(tmp_path, outlet, canaries.table(labels_of(contract)), deterministic=1)
    transcript = listen(contract, settings, tmp_path / "rounds.npz", sent=bait(contract))
    turned = dataclasses.replace(canaries, included=~canaries.included)
    for score in (scores.from_updates, scores.from_losses):
        assert np.array_equal(score(transcript, canaries), score(transcript, turned))


def test_scores_are_not_told_how_much_noise_was_drawn(
    contract: Contract, outlet: str, tmp_path: Path
) -> None:
    """A defect of the noise is nothing that an attacker, or an auditor, knows beforehand."""
    canaries = plant(contract, 300, SecureRandom.deterministic(2))
    settings = write_outlet(tmp_path, outlet, canaries.table(labels_of(contract)), deterministic=1)
    weak = scaled_noise(contract, 0.03)
    transcript = listen(weak, settings, tmp_path / "rounds.npz", sent=bait(contract))
    untold = scores.from_updates(dataclasses.replace(transcript, contract=contract), canaries)
    assert np.array_equal(untold, scores.from_updates(transcript, canaries))
    inside = canaries.included
    assert separation(untold[inside], untold[~inside]).tpr >= 0.1


def test_more_canaries_than_coordinates_are_filtered_the_same_way() -> None:
    """The short side's eigenvectors give what inverting the whole covariance gives."""
    rng = np.random.default_rng(3)
    for shape in ((20, 50), (50, 20)):
        rows, rest = rng.normal(size=shape).astype(np.float32), rng.normal(size=shape[1])
        one = scores._Filter.of(rows)
        heard = one.vectors.T @ (rows @ rest)
        floor = one._floor(0.1, heard, float(np.square(rest).sum()))
        inverse = np.linalg.inv(0.1 * rows.T @ rows + floor * np.eye(shape[1]))
        signal_, energy = one._whitened(0.1, rest.astype(np.float32))
        assert signal_ == pytest.approx(rows @ inverse @ rest, rel=1e-3, abs=1e-4)
        assert energy == pytest.approx(np.einsum("ij,jk,ik->i", rows, inverse, rows), rel=1e-3)


def test_the_noise_is_read_off_an_update() -> None:
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(100, 300)).astype(np.float32)
    one = scores._Filter.of(rows)
    for std in (0.1, 1.0, 10.0):
        rest = (rng.normal(size=100) * np.sqrt(0.1)) @ rows + std * rng.normal(size=300)
        floor = one._floor(0.1, one.vectors.T @ (rows @ rest), float(np.square(rest).sum()))
        assert floor == pytest.approx(std**2, rel=0.35)


def test_a_control_whose_best_could_not_refute_the_claim_has_no_power(contract: Contract) -> None:
    few = Guesses(canaries=20, made=2, right=2)
    many = Guesses(canaries=2000, made=200, right=200)
    assert not audits.refuted(few, contract.plan)
    assert audits.refuted(many, contract.plan)
    assert not audits.refuted(dataclasses.replace(many, right=110), contract.plan)


def test_the_plan_of_the_attacked_run_is_the_contracts(contract: Contract) -> None:
    assert scaled_noise(contract, 1) is contract
    bare = scaled_noise(contract, 0)
    assert bare.replace(privacy=contract.privacy.model_dump()).digest == contract.digest


def test_separation_is_what_counting_says() -> None:
    found = separation(np.array([3.0, 2.0, 1.0, 1.0]), np.array([1.0, 0.0]))
    assert found.auc == pytest.approx((2 + 2 + 1.5 + 1.5) / 8)
    assert found.tpr == pytest.approx(2 / 4)
    assert found.fpr_interval == pytest.approx((0, 0.8419), abs=1e-4)  # two others say little
    assert share_interval(0, 10)[0] == 0
    assert share_interval(5, 10) == pytest.approx((0.1871, 0.8129), abs=1e-4)


def test_the_command_prints_json_and_keeps_its_result(
    contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "contract.json").write_bytes(contract.canonical())
    options = ["--canaries", "300", "--deterministic", "1", "--json", "--outlet", "north-post"]
    out = tmp_path / "out"
    told = CliRunner().invoke(app, ["audit", "attack", str(run), "--out", str(out), *options])
    body = json.loads(told.stdout)
    assert body == json.loads((out / "attack.json").read_text())
    assert body["claimed"] == pytest.approx(contract.plan.epsilon())
    assert body["updates"]["guesses"]["made"] == audits.guesses_made(contract, 300)


@pytest.mark.parametrize(
    "typed",
    [
        ["RUN", "--outlet", "nobody"],
        ["nowhere"],
        ["RUN", "--canaries", "0"],
        ["RUN", "--own", "no/such/outlet.toml"],
        ["RUN", "--own", "OWN", "--out", "x"],
        ["RUN", "--out", "THESIS"],
        ["RUN", "--out", "THESIS/years.txt"],
        ["THESIS"],
    ],
)
def test_a_wrong_command_is_told_once_and_writes_nothing(
    contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {name: tmp_path / name for name in ("RUN", "THESIS")}
    for place in places.values():
        place.mkdir()
    (tmp_path / "RUN" / "contract.json").write_bytes(contract.canonical())
    (tmp_path / "THESIS" / "years.txt").write_text("of work")
    own_outlet(tmp_path / "OWN.d")
    before = sorted(tmp_path.rglob("*"))
    arguments = [t.replace("OWN", "OWN.d/outlet.toml") for t in typed]
    with pytest.raises((SystemExit, InputError)) as told:
        app(["audit", "attack", *arguments])
    assert getattr(told.value, "exit_code", None) == 2 or getattr(told.value, "code", None) == 2
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.soak
def test_on_the_demo_the_audit_sees_a_tenth_of_the_noise_and_nothing_else(tmp_path: Path) -> None:
    run = read_run_file(prepare_demo(tmp_path / "demo", outlets=4, epsilon=3.0))
    demo = freeze(run.contract)
    (name, *_) = sorted(demo.outlets)
    for scale, defect in ((1.0, False), (0.1, True)):
        options = Options(out=tmp_path / f"{scale}", deterministic=1)
        found = attack(demo, name, options, _noise_scale=scale)
        assert found.updates.control.tpr >= 0.2
        assert found.defect == defect
        assert found.tokens is not None
        assert found.tokens_control is not None
        assert found.tokens_control.exact >= 0.8
        assert found.tokens.suspected <= found.tokens.chance + 0.02
