"""`presspool models`: what can be had offline, and made ready with one command."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from tests.fakes.instruments.typed import Command, typed

from presspool.common.contract.contract_schema import Model
from presspool.common.models.catalogue import CATALOGUE, DEFAULT_ID

SMOLLM2 = "smollm2-135m-instruct"


@pytest.fixture
def models(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """`presspool models …` where nothing has been converted yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return typed(monkeypatch, capsys, "models", width=160)


def test_the_list_says_what_is_here_and_how_to_get_the_rest(models: Command) -> None:
    said = models("list").out
    assert "Apache-2.0" in said
    assert f"presspool models fetch {SMOLLM2}" in said
    listed = {model["name"]: model for model in json.loads(models("list", "--json").out)}
    assert listed[DEFAULT_ID]["folder"]
    assert listed[SMOLLM2]["folder"] is None


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_what_is_shown_can_be_pasted_into_a_run_file(models: Command, name: str) -> None:
    pasted = Model(**tomllib.loads(models("show", name).out)["model"])
    assert pasted.id == name
    shown = json.loads(models("show", name, "--json").out)
    assert [shown[key] for key in ("weights", "tokenizer", "manifest")] == [
        pasted.weights,
        pasted.tokenizer,
        pasted.manifest,
    ]


@pytest.mark.parametrize("command", ["show", "fetch"])
def test_an_unknown_name_is_refused_with_the_nearest(models: Command, command: str) -> None:
    answer = models(command, "smolm2-135m-instruct")
    assert answer.code == 2
    assert f"did you mean '{SMOLLM2}'?" in answer.err


def test_what_needs_no_conversion_is_only_found(models: Command) -> None:
    answer = models("fetch", DEFAULT_ID, "--json")
    assert (answer.code, json.loads(answer.out)["weights"]) == (0, CATALOGUE[DEFAULT_ID].weights)


def test_a_converted_model_is_found_and_proved(
    models: Command, smollm2_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(smollm2_cache))
    answer = models("fetch", SMOLLM2, "--json")
    made = json.loads(answer.out)
    assert (answer.code, made["manifest"]) == (0, CATALOGUE[SMOLLM2].manifest)
    assert Path(made["folder"]).is_relative_to(smollm2_cache)
