"""vLLM's folder of adapters: what its filesystem resolver would take, by its documented names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.instruments.typed import typed
from tests.unit.server.exporting.conftest import Exporting, Make

from presspool.common.base.errors import FolderError, InputError
from presspool.server.exporting.vllm_layout import vllm_layout


def resolved(cache: Path, base: str, name: str) -> Path | None:
    """What vLLM's guide says of its resolver, in our words."""
    folder = cache / name
    if not (folder / "adapter_config.json").exists():
        return None
    config = json.loads((folder / "adapter_config.json").read_text())
    right = config["peft_type"] == "LORA" and config["base_model_name_or_path"] == base
    return folder if right and (folder / "adapter_model.safetensors").is_file() else None


def test_the_resolver_finds_what_was_exported(
    make: Make,
    exported: Exporting,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = exported(make("text", 0.3), "peft").path
    run = typed(monkeypatch, capsys, "serve", "--engine", "vllm")
    said = json.loads(run(folder, "--json").out)
    assert said["environment"].keys() == {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
        "VLLM_PLUGINS",
        "VLLM_LORA_RESOLVER_CACHE_DIR",
    }
    assert said["environment"]["VLLM_PLUGINS"] == "lora_filesystem_resolver"
    program, verb, base, *options = said["command"]
    assert (program, verb) == ("vllm", "serve")
    assert options[:3] == ["--enable-lora", "--max-lora-rank", "8"]
    cache = Path(said["environment"]["VLLM_LORA_RESOLVER_CACHE_DIR"])
    assert resolved(cache, base, said["models"][0]) == folder
    shown = run(folder).out
    assert f"vllm serve {base} --enable-lora" in shown
    for name, value in said["environment"].items():
        assert f"{name}={value}" in shown


def test_what_the_resolver_would_pass_by_is_refused(
    make: Make, exported: Exporting, tmp_path: Path
) -> None:
    writer = make("text", 0.3)
    folder = exported(writer, "peft").path
    config = folder / "adapter_config.json"
    right: dict[str, Any] = json.loads(config.read_text())
    for changed in (
        {"peft_type": "IA3"},
        {"use_dora": True},
        {"modules_to_save": ["head"]},
        {"r": 513},
        {"task_type": "FEATURE_EXTRACTION"},
        {"r": float("inf")},
        {"base_model_name_or_path": "--trust-remote-code"},
        {"base_model_name_or_path": ["a", {"b": "c"}]},
        {"base_model_name_or_path": "a\nname"},
        {"peft_type": "x" * 5000},
        "[" * 200_000,
    ):
        config.write_text(changed if isinstance(changed, str) else json.dumps(right | changed))
        with pytest.raises(FolderError, match="not an adapter that vLLM takes"):
            vllm_layout([folder])
    config.write_text(json.dumps(right))
    assert vllm_layout([folder]).rank == 8
    with pytest.raises(FolderError, match="--format peft"):
        vllm_layout([writer.path])  # a run's own folder, whose names are not the plain model's
    with pytest.raises(FolderError):
        vllm_layout([tmp_path / "nowhere"])
    with pytest.raises(InputError, match="no adapter"):
        vllm_layout([])
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(FolderError):
        vllm_layout([folder])
