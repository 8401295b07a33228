"""`presspool adapters …` as it is typed, and what a wrong run is told."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_evidence import made_contract
from tests.fakes.registry.made_registry import MadeRegistry, finished, make_registry, passed

from presspool.common.runs.result_file import read_result, write_result

WHO = ("--by", "A. Editor", "--reason", "weekly run")


@pytest.fixture(scope="module")
def desks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs; each test has a copy."""
    folder = tmp_path_factory.mktemp("desks")
    for number in range(2):
        finished(folder / f"desk-{number}", number)
    return folder


@pytest.fixture
def made(desks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeRegistry:
    """A registry where the commands look for it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(desks, tmp_path, dirs_exist_ok=True)
    return make_registry(tmp_path)


@pytest.fixture
def adapters(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return typed(monkeypatch, capsys, "adapters")


def test_a_newsroom_s_week(adapters: Command, made: MadeRegistry) -> None:
    exports = sorted(made.run().parent.glob("*.export"))
    ledgers = [word for path in exports for word in ("--ledger", path)]
    assert adapters("add", made.run(), *ledgers, *WHO).out == "topics@1 is candidate\n"
    assert adapters("promote", "topics@1", *WHO).out == "topics@1 is staging\n"
    refused = adapters("promote", "topics@1", *WHO)
    assert (refused.code, "the gate's report, or without it" in refused.err) == (2, True)
    said = adapters("promote", "topics@1", *WHO, "--without-gate")
    assert said.out == "topics@1 is production\n"
    adapters("add", made.run(1), *WHO, "--name", "evening")
    adapters("promote", "evening", *WHO)
    said = adapters("promote", "evening", *WHO, "--without-gate")
    assert said.out == "evening@1 is production, topics@1 retired\n"
    said = adapters("rollback", "classification", "en", *WHO)
    assert said.out == "topics@1 is production, evening@1 retired\n"
    assert adapters("retire", "evening@1", *WHO).out == "evening@1 is retired\n"
    listed = adapters("list").out.splitlines()
    assert listed[0].startswith("topics@1: production, classification en, sha256:")
    shown = adapters("show", "topics").out
    assert "without its release gate by A. Editor" in shown
    assert "replaced (promote) by A. Editor: weekly run" in shown
    body = json.loads(adapters("show", "topics", "--json").out)
    assert len(body["records"]) == 5
    assert "contract.seed: 0 → 1" in adapters("diff", "topics", "evening").out
    assert adapters("verify", "--known", "registry/registry.json").code == 0
    lineage = made.open().entry(body["id"]).files["lineage.json"].sha256
    places = json.loads(made.open().store.read_digest(f"blobs/{lineage[7:]}", lineage))["outlets"]
    assert {place["period"] for place in places.values()} == {"2026-Q2"}


def test_words_of_others_make_no_lines_of_their_own(adapters: Command, made: MadeRegistry) -> None:
    entry, forged = made.add().entry, "\n2026-01-01T00:00:00Z retire by A. Editor: asked to"
    adapters("promote", "topics", "--by", f"B{forged}", "--reason", f"tried{forged}")
    body = json.loads(passed(entry).gate or b"") | {"inputs": {f"policy{forged}": entry}}
    Path("report").write_text(json.dumps(body))
    assert adapters("promote", "topics", *WHO, "--gate", "report").code == 0
    shown = adapters("show", "topics").out
    assert shown.count(forged.replace("\n", "\\n")) == 3
    assert forged not in shown
    assert json.loads(adapters("show", "topics", "--json").out)["records"][1]["by"] == f"B{forged}"


def test_verify_holds_a_registry_against_what_is_known(
    adapters: Command, made: MadeRegistry, tmp_path: Path
) -> None:
    made.add()
    adapters("promote", "topics", *WHO)
    body = json.loads(adapters("verify", "--json").out)
    assert (body["key_known"], len(body["adapters"])) == (False, 1)
    Path("kept").write_text(body["head"])
    assert adapters("verify", "--head", "kept").code == 0
    (tmp_path / "registry" / "log" / "00000001.proof").unlink()
    assert adapters("verify").code == 0  # nobody has seen more of it
    cut = adapters("verify", "--head", "kept")
    assert (cut.code, "lost its end" in cut.err) == (1, True)
    (tmp_path / "other").mkdir()
    other = make_registry(tmp_path / "other")
    told = adapters("verify", "--known", Path(other.url) / "registry.json")
    assert (told.code, "another registry than the one" in told.err) == (1, True)


def without_card(run: Path) -> None:
    (run / "adapter" / "privacy_card.json").unlink()


def other_card(run: Path) -> None:
    shutil.copy(run.parent.parent / "desk-1/run/adapter/privacy_card.json", run / "adapter")


def other_adapter(run: Path) -> None:
    shutil.rmtree(run / "adapter")
    shutil.copytree(run.parent.parent / "desk-1/run/adapter", run / "adapter")


def damaged(run: Path) -> None:
    (run / "adapter" / "adapter_model.safetensors").write_bytes(b"other weights")


def unfinished(run: Path) -> None:
    write_result(run, replace(read_result(run), status="running", adapter_sha256=None))


def linked(run: Path) -> None:
    (run / "adapter" / "adapter_config.json").symlink_to("/etc/hostname")


def other_base(run: Path) -> None:
    """The card of the same run on another base model."""
    path = run / "adapter" / "privacy_card.json"
    body = json.loads(path.read_text())
    body["governance"]["hashes"]["base_model"] = "sha256:" + "7" * 64
    path.write_text(json.dumps(body))


def front_matter(run: Path, text: str) -> None:
    """A model card of the right weights that begins otherwise."""
    path = run / "adapter" / "README.md"
    path.write_text(text + path.read_text().split("---", 2)[2])


def no_language(run: Path) -> None:
    front_matter(run, "# Topics\n")


def other_readme(run: Path) -> None:
    (run / "adapter" / "README.md").write_text("---\nlanguage: en\n---\n# Topics\n")


def broken_front_matter(run: Path) -> None:
    front_matter(run, "---\nlanguage: [en\n---\n")


def long_ledger(run: Path) -> None:
    path = run / "adapter" / "privacy_card.json"
    body = json.loads(path.read_text())
    next(iter(body["governance"]["outlets"].values()))["ledger"] = "l" * 400
    path.write_text(json.dumps(body))


def reproducible(run: Path) -> None:
    write_result(run, replace(read_result(run), deterministic=True))


def smaller_claim(run: Path) -> None:
    """The card is the adapter's, and what the adapter itself says is less."""
    path = run / "adapter" / "presspool.json"
    body = json.loads(path.read_text())
    claim = body["statement"].split("(ε = ")[1].split(",")[0]
    body["statement"] = body["statement"].replace(f"(ε = {claim}", "(ε = 0.001", 1)
    path.write_text(json.dumps(body))


def with_code(run: Path) -> None:
    (run / "adapter" / "evil.py").write_text("raise SystemExit\n")


def pipe(run: Path) -> None:
    """Who opens it waits for somebody who writes."""
    (run / "adapter" / "presspool.json").unlink()
    os.mkfifo(run / "adapter" / "presspool.json")


def no_proof(run: Path) -> None:
    (run / "log.proof").write_bytes(b"c2sp.org/tlog-proof@v1\nindex x\n\n")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (without_card, "without a privacy card"),
        (other_card, "another adapter's privacy card"),
        (other_adapter, "an adapter of another run"),
        (damaged, "not the weights that are described"),
        (unfinished, "of another run"),
        (linked, "not a file that can be taken"),
        (pipe, "not a file that can be taken"),
        (other_base, "another base model's privacy card"),
        (no_language, "--language"),
        (broken_front_matter, "--language"),
        (long_ledger, "ledger"),
        (other_readme, "another adapter's model card"),
        (reproducible, "noise can be drawn again"),
        (smaller_claim, "another privacy than the card's"),
        (no_proof, "not a proof of a consortium's log"),
        (with_code, "belongs to no adapter"),
    ],
)
def test_a_wrong_run_is_told_and_nothing_is_stored(
    adapters: Command, made: MadeRegistry, spoil: Callable[[Path], None], told: str
) -> None:
    run, _ = made.run(), made.run(1)
    spoil(run)
    before = sorted(Path(made.url).rglob("*"))
    said = adapters("add", run, *WHO)
    assert (said.code, told in said.err) == (2, True), said.err
    assert sorted(Path(made.url).rglob("*")) == before


def test_an_adapter_on_another_base_is_another_run(
    adapters: Command, made: MadeRegistry, tmp_path: Path
) -> None:
    model = {"weights": "sha256:" + "5" * 64, "tokenizer": "sha256:" + "2" * 64}
    other = finished(tmp_path / "other-base", 0, made_contract(seed=0, model=model))
    shutil.rmtree(made.run() / "adapter")
    shutil.copytree(other.adapter, made.run() / "adapter")
    said = adapters("add", made.run(), *WHO)
    assert (said.code, "an adapter of another run" in said.err) == (2, True), said.err


WRONG: list[tuple[tuple[str, ...], str]] = [
    (("show", "tropics"), "no such adapter"),
    (("rollback", "classification", "en", *WHO), "nothing to roll back to"),
    (("promote", "x@1", *WHO, "--gate", "absent"), "cannot read"),
    (("add", "absent", *WHO), "not a run folder"),
    (("verify", "--known", "absent"), "cannot read"),
    (("list", "--registry", "absent"), "no registry here"),
    (("list", "--registry", "no-such-kind://x/y"), "no place of a known kind"),
    (("init", "--name", "newsroom"), "something already"),
    (("init", "--name", "newsroom"), "choose another --keys"),
    (("add", "absent", "--by", "", "--reason", "b"), "not a run folder"),
]


def test_wrong_words_are_one_clear_error(adapters: Command, made: MadeRegistry) -> None:
    made.add()
    for words, told in WRONG:
        said = adapters(*words)
        assert (said.code, told in said.err) == (2, True), (words, said.err)


def test_who_and_why_are_asked(adapters: Command, made: MadeRegistry) -> None:
    said = adapters("add", made.run(), "--by", " ", "--reason", "b")
    assert (said.code, "the move by" in said.err) == (2, True), said.err
    assert "Missing option" in adapters("promote", "topics").err
