"""What a policy's base models are, where they lie, and how much of them may be fetched."""

from __future__ import annotations

import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from typer.testing import CliRunner

from presspool.cli import app
from presspool.client.consent.base_models import DEFAULT_MODEL, BaseModelPin, selected
from presspool.client.consent.policy import parse_policy
from presspool.common.base.errors import InputError, ModelError
from presspool.common.contract.contract_schema import Model
from presspool.common.models.base_model import resolve
from presspool.common.models.catalogue import DEFAULT_ID


@pytest.fixture
def entry(tiny_base: Path) -> dict[str, Any]:
    """What `outlet policy pin` prints of the tiny base."""
    said = CliRunner().invoke(app, ["outlet", "policy", "pin", str(tiny_base)])
    assert said.exit_code == 0, said.output
    (found,) = tomllib.loads(said.output)["base_models"]
    assert isinstance(found, dict)
    return found


def test_a_printed_entry_is_an_entry(entry: dict[str, Any], tiny_base: Path) -> None:
    (pin,) = parse_policy({"base_models": [entry]}).base_models
    assert pin.folder == tiny_base
    model = Model(
        id="whatever/they-say", **resolve(str(tiny_base), weights=None, tokenizer=None).pins
    )
    with selected(model, [DEFAULT_MODEL, pin]).placed():
        assert resolve(model.id, weights=None, tokenizer=None, manifest=pin.manifest).pins == {
            key: entry[key] for key in ("weights", "tokenizer", "manifest")
        }
    with pytest.raises(ModelError):
        resolve(model.id, weights=None, tokenizer=None, manifest=pin.manifest)


def test_what_is_pinned_is_toml_wherever_the_folder_lies(tiny_base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_base, tmp_path / "modèle 📰 \x7f")
    said = CliRunner().invoke(app, ["outlet", "policy", "pin", str(folder)])
    (pin,) = parse_policy(tomllib.loads(said.output)).base_models
    assert (pin.folder, pin.name) == (folder, folder.name)


def test_the_default_entry_is_the_installed_package() -> None:
    try:
        found = resolve(DEFAULT_ID, weights=None, tokenizer=None)
    except ModelError:
        pytest.skip("the default base model is not on this machine")
    assert DEFAULT_MODEL.admits(Model(id="", **found.pins))


def test_a_name_means_an_entry_only_where_there_are_no_digests(entry: dict[str, Any]) -> None:
    pin = BaseModelPin(**entry)
    assert selected(Model(id=pin.name), [pin]) is pin
    for model in (Model(id="other"), Model(id=pin.name, manifest="sha256:" + "0" * 64)):
        with pytest.raises(ModelError, match="not a base model of this outlet's policy"):
            selected(model, [pin])


@pytest.mark.parametrize("change", [{"folder": "relative"}, {"fetch": True}, {"max_bytes": 0}])
def test_an_entry_that_makes_no_sense_is_refused(
    change: dict[str, Any], entry: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match="base_models"):
        parse_policy({"base_models": [entry | change]})


@dataclass
class Offered:
    """What the hub says of a file before it is fetched."""

    file_size: int | None
    will_download: bool = True


@pytest.mark.parametrize(("size", "fetched"), [(1 << 19, 1), (1 << 21, 0), (None, 0)])
def test_what_is_fetched_is_measured_first(
    size: int | None,
    fetched: int,
    entry: dict[str, Any],
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []

    def snapshot(name: str, **options: Any) -> Any:
        assert name == "ours/tiny"
        if options["local_files_only"]:
            raise OSError("not cached")
        if options.get("dry_run"):
            return [Offered(1 << 10), Offered(size), Offered(1 << 40, will_download=False)]
        calls.append(name)
        return shutil.copytree(tiny_base, tmp_path / "cache")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    del entry["folder"]
    quiet = BaseModelPin(**entry | {"name": "ours/tiny"})
    with pytest.raises(ModelError, match="no base model here"):
        quiet.here()
    asking = quiet.model_copy(update={"fetch": True, "max_bytes": 1 << 20})
    if fetched:
        with asking.placed():
            pass
    else:
        with pytest.raises(ModelError, match="larger than the policy"):
            asking.here()
    assert len(calls) == fetched
