"""`presspool export`: what is off, another's, in the way or broken off leaves nothing behind."""

from __future__ import annotations

import csv
import json
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from tests.conftest import LABELS, made_rows
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.made_evidence import make_desk
from tests.fakes.registry.made_registry import MOVE, OVERRIDE, make_registry, write_card
from tests.fakes.served.made_adapters import made_adapter
from tests.unit.server.exporting.conftest import Exporting, Make

from presspool.common.base.errors import CardError, InputError, PressPoolError, StorageError
from presspool.common.contract.contract import Contract
from presspool.common.methods.ffa import Ffa
from presspool.common.released.exports import merged_folder, placed
from presspool.common.released.exports.export_format import EXACT
from presspool.common.released.exports.likeness import Difference
from presspool.common.released.exports.merged_folder import Merged
from presspool.common.released.exports.pruning import SHARES, prune
from presspool.common.runs.result_file import read_result, write_result
from presspool.server.registry.intake import read_run


@pytest.fixture
def presspool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return typed(monkeypatch, capsys)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A public file with answers."""
    path = tmp_path / "test.csv"
    with path.open("w", newline="") as stream:
        rows = csv.DictWriter(stream, ["title", "label"])
        rows.writeheader()
        rows.writerows(
            {"title": row["text"], "label": row["label"]} for row in made_rows("held-out", 110)
        )
    return path


def nothing_left(tmp_path: Path) -> bool:
    return not (tmp_path / "exports").exists() or not list((tmp_path / "exports").iterdir())


# --- Planted mistakes -----------------------------------------------------------------------------


def forgets_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Ffa.folded

    def wrong(self: Ffa, model: Any) -> Any:
        last = [layer for name, layer in model.named_parameters() if "lora_B" in name][-1]
        last.data.zero_()
        return right(self, model)

    monkeypatch.setattr(Ffa, "folded", wrong)


def forgets_the_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Ffa.folded

    def wrong(self: Ffa, model: Any) -> Any:
        for module in model.modules():
            if hasattr(module, "scaling"):
                module.scaling = {"default": 1.0}
        return right(self, model)

    monkeypatch.setattr(Ffa, "folded", wrong)


def swaps_two_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model: Any, folder: Path) -> None:
        right(model, folder)
        kept = load_file(folder / "head.safetensors")
        order = [1, 0, *range(2, len(LABELS))]
        torch_save({k: v[order].contiguous() for k, v in kept.items()}, folder)

    from safetensors.torch import save_file

    def torch_save(arrays: dict[str, torch.Tensor], folder: Path) -> None:
        save_file(arrays, folder / "head.safetensors")

    right = placed.save_head
    monkeypatch.setattr(merged_folder, "save_head", wrong)


@pytest.mark.parametrize("mistake", [forgets_a_layer, forgets_the_scale, swaps_two_labels])
def test_a_planted_mistake_is_refused_and_leaves_nothing(
    make: Make,
    exported: Exporting,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mistake: Callable[[pytest.MonkeyPatch], None],
) -> None:
    adapter = make("ffa", 0.05)  # no more than a run moves it
    mistake(monkeypatch)
    with pytest.raises(PressPoolError, match="not what it was made of") as caught:
        exported(adapter, "merged")
    assert caught.value.exit_code == 1
    assert nothing_left(tmp_path)
    monkeypatch.undo()
    assert exported(adapter, "merged").found.same == 1


@pytest.mark.parametrize(("typical", "passes"), [(1.4e-5, True), (2e-4, False)])
def test_what_is_held_is_how_far_outputs_are_off_in_general(
    *, typical: float, passes: bool
) -> None:
    """As of SmolLM2: one token of 3,000 was off by 0.02 for another order of additions."""
    found = Difference(
        texts=200, outputs=0.024, largest=39.8, typical=typical, chances=None, same=1.0
    )
    with nullcontext() if passes else pytest.raises(PressPoolError, match="outputs"):
        found.refuse(EXACT, where="--format merged")


# --- The card -------------------------------------------------------------------------------------


@pytest.fixture
def carded(tmp_path: Path, contract_body: dict[str, Any]) -> Path:
    """The folder of a finished run whose adapter works and has its card."""
    from presspool.common.contract.contract import parse_contract
    from presspool.common.contract.statement import statement

    contract: Contract = parse_contract(
        {
            **contract_body,
            "outlets": {"north-post": 300, "south-echo": 200},
            "privacy": {**contract_body["privacy"], "noise_multiplier": 1.2, "sampling_rate": 0.1},
        }
    )
    desk = make_desk(tmp_path / "desk", contract)
    made_adapter(desk.adapter, contract, scale=0.5)
    digest = json.loads((desk.adapter / "presspool.json").read_text())["adapter"]
    said = statement(contract, adapter=digest, reproducible=False)
    result = replace(read_result(desk.run), adapter_sha256=digest[7:], statement=said)
    write_result(desk.run, result)
    write_card(desk)
    return Path(desk.run)


def test_card_licence_and_report_travel_and_machines_read_it(
    carded: Path, presspool: Command, tmp_path: Path
) -> None:
    made = make_registry(tmp_path)
    run = read_run(carded, language=None, task=None, ledgers={})
    made.open().add(run, made.keys, MOVE)
    to = tmp_path / "onnx"
    told = presspool(
        "export", "test@1", "--registry", made.url, "--format", "onnx", "--to", to, "--json"
    )
    assert told.code == 0, told.err
    said = json.loads(told.out)
    report = json.loads((to / "export.json").read_text())
    assert said == {"path": str(to), **{k: v for k, v in report.items() if k != "files"}}
    card = (carded / "adapter" / "privacy_card.json").read_bytes()
    assert (to / "privacy_card.json").read_bytes() == card
    readme = (to / "README.md").read_text()
    assert "Post-processing costs no privacy" in readme
    assert report["adapter"] in readme
    stated, own = (
        vars(ModelCard(text).data)
        for text in ((carded / "adapter" / "README.md").read_text(), readme)
    )
    assert stated["license"]
    assert [own[key] for key in ("license", "language")] == [
        stated[key] for key in ("license", "language")
    ]
    assert report["compared"]["source"] == "made"
    assert set(report["files"]) == {
        file.name for file in to.iterdir() if file.name != "export.json"
    }


def test_who_let_it_into_use_without_the_gate_is_said_in_the_export_too(
    carded: Path, presspool: Command, tmp_path: Path
) -> None:
    made, to = make_registry(tmp_path), tmp_path / "merged"
    made.open().add(read_run(carded, language=None, task=None, ledgers={}), made.keys, MOVE)
    made.promote("test@1", MOVE)
    made.promote("test@1", OVERRIDE)
    told = presspool("export", "test@1", "--registry", made.url, "--format", "merged", "--to", to)
    assert told.code == 0, told.err
    (line,) = json.loads((to / "export.json").read_text())["overrides"]
    assert OVERRIDE.by in line
    assert line in (to / "README.md").read_text()
    assert " ".join(line.split()) in " ".join(told.err.split())
    assert OVERRIDE.reason in (to / "overrides.json").read_text()


def test_another_adapters_card_is_refused(
    carded: Path, make: Make, exported: Exporting, tmp_path: Path
) -> None:
    adapter = make("ffa", 0.7)
    shutil.copy(carded / "adapter" / "privacy_card.json", adapter.path)
    with pytest.raises(CardError, match="another adapter's"):
        exported(adapter, "merged")
    assert nothing_left(tmp_path)


# --- Pruning --------------------------------------------------------------------------------------


def test_the_smallest_numbers_go() -> None:
    weight = torch.randn(7, 9, generator=torch.Generator().manual_seed(1))
    before, order = weight.clone(), sorted(weight.abs().flatten().tolist())
    prune([weight], 0.3)
    limit = order[18]  # 0.3 of 63 are 18
    assert torch.equal(weight, before * (before.abs() >= limit))
    assert int((weight == 0).sum()) == 18


def test_a_pruned_folder_has_its_zeros_and_its_table(
    make: Make, exported: Exporting, labelled: Path
) -> None:
    adapter = make("ffa", mode="single")
    made = exported(adapter, "merged", prune=0.5, texts=labelled, columns=["text=title"])
    rows = made.said["pruning"]
    assert [row["share"] for row in rows] == [0.0, *SHARES]
    assert all(0 <= row["score"] <= 1 for row in rows)
    assert made.found.measure == "accuracy"
    assert made.found.after == pytest.approx(rows[5]["score"], abs=0.006)
    arrays = load_file(made.path / "model.safetensors")
    for name, value in arrays.items():
        if value.dim() == 2 and "embeddings" not in name:
            assert (value == 0).float().mean() == pytest.approx(0.5, abs=0.01), name
    own = exported(make("fedit"), "peft", prune=0.5, texts=labelled, columns=["text=title"])
    factors = load_file(own.path / "adapter_model.safetensors").values()
    assert all((one == 0).float().mean() == pytest.approx(0.5, abs=0.02) for one in factors)


# --- Bad input ------------------------------------------------------------------------------------


def test_what_is_typed_wrongly_is_one_message_and_leaves_nothing(
    make: Make, presspool: Command, tmp_path: Path, labelled: Path
) -> None:
    path, to = make("ffa").path, tmp_path / "exports" / "one"
    (tmp_path / "there").mkdir()
    few = tmp_path / "few.csv"
    few.write_text("text\ngoal in final\n")
    damaged = tmp_path / "damaged"
    shutil.copytree(path, damaged)
    (damaged / "adapter_model.safetensors").write_bytes(b"no weights")
    mapped = [path, "--format", "merged", "--texts", labelled, "--column", "text=title"]
    for typed_, words in (
        ([path, "--format", "tar"], "is not one of"),
        ([path, "--format", "merged", "--to", tmp_path / "there"], "something already"),
        ([path, "--format", "merged", "--prune", "1"], "above 0, below 1"),
        ([path, "--format", "merged", "--prune", "0.5"], "--texts FILE"),
        ([path, "--format", "merged", "--texts", few], "200 rows or more"),
        ([path, "--format", "merged", "--prune", "0.5", "--texts", labelled], "text"),
        ([path, "--format", "merged", "--texts", few, "--column", "=y"], "NAME=VALUE"),
        ([path, "--format", "merged", "--texts", labelled, "--column", "title"], "NAME=VALUE"),
        ([path, "--format", "merged", "--texts", labelled, "--column", "body=title"], "text"),
        ([path, "--format", "merged", "--texts", labelled, "--column", "title=x"], "one of text"),
        ([path, "--format", "merged", "--column", "text=title"], "--texts FILE"),
        ([*mapped, "--column", "label=tpoic"], "missing column 'tpoic'"),
        ([damaged, "--format", "merged"], "not the weights"),
        ([tmp_path / "nowhere", "--format", "merged"], "not an adapter's folder"),
        ([path, "--format", "gguf"], "cannot hold"),
    ):
        place = [] if "--to" in typed_ else ["--to", to]
        told = presspool("export", *typed_, *place)
        assert told.code == 2, (typed_, told)
        assert words in told.err, (typed_, told.err)
        assert "Traceback" not in told.err
        assert nothing_left(tmp_path), typed_


@contextmanager
def little_room(size: int) -> Iterator[None]:
    """Files of this process may have so many bytes at most."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("form", ["merged", "onnx", "peft"])
def test_a_full_disk_leaves_nothing(
    make: Make, exported: Exporting, tmp_path: Path, form: str
) -> None:
    adapter = make("ffa")
    with little_room(1000), pytest.raises(StorageError):
        exported(adapter, form)
    assert nothing_left(tmp_path)
    assert exported(adapter, form).path.is_dir()


def test_no_room_is_said_before_anything_is_written(
    make: Make, exported: Exporting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(StorageError, match="no room"):
        exported(make("ffa"), "merged")
    assert nothing_left(tmp_path)


def test_two_exports_to_one_name_do_not_mix(
    make: Make, exported: Exporting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins while the first is half done, and is the one that is there."""
    adapter, right = make("ffa"), Merged.read

    def meanwhile(self: Merged, contract: Contract, folder: Path) -> Any:
        monkeypatch.undo()
        second = exported(adapter, "merged").path / "export.json"
        said.append((second.read_bytes(), (folder / "model.safetensors").is_file()))
        return right(self, contract, folder)

    said: list[tuple[bytes, bool]] = []
    monkeypatch.setattr(Merged, "read", meanwhile)
    with pytest.raises(StorageError, match="cannot write"):
        exported(adapter, "merged")
    (there,) = (tmp_path / "exports").iterdir()
    assert said == [((there / "export.json").read_bytes(), True)]
    assert there.stat().st_mode == tmp_path.joinpath("exports").stat().st_mode


def test_an_interrupted_export_leaves_nothing_and_can_be_made_again(
    make: Make, exported: Exporting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, right = make("ffa"), Merged.read

    def stop(self: Merged, contract: Contract, folder: Path) -> Any:
        assert (folder / "model.safetensors").exists()  # half done
        raise KeyboardInterrupt

    monkeypatch.setattr(Merged, "read", stop)
    with pytest.raises(KeyboardInterrupt):
        exported(adapter, "merged")
    assert nothing_left(tmp_path)
    monkeypatch.setattr(Merged, "read", right)
    assert exported(adapter, "merged").path.is_dir()


def test_a_missing_extra_is_one_sentence(
    make: Make, exported: Exporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"presspool\[export\]"):
        exported(make("ffa"), "onnx")
