"""A finished adapter in use: `presspool predict`, `presspool.load`, and its folder's own words."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tests.conftest import LABELS, REPOSITORY
from tests.fakes.instruments.typed import Command, typed
from tests.fakes.served.made_adapters import made_adapter

import presspool
from presspool.common.base.errors import DataError, FolderError, ModelError
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.contract.doors import task_of
from presspool.common.models import adapters
from presspool.common.models.adapted_outputs import Prediction
from presspool.common.models.base_model import resolve
from presspool.common.released.adapter_folder import MANIFEST, read_adapter
from presspool.common.released.answer_sink import answer_sink
from presspool.common.tasks.scores.answer_figures import Abstention, AnswerFigures

TEXTS = ["minister says treaty", "goal in final", "the bank", "", 'shares, "rates" and\nprofit']


@pytest.fixture
def adapter(tmp_path: Path, contract: Contract) -> Path:
    return made_adapter(tmp_path / "adapter", contract)


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return typed(monkeypatch, capsys, "predict")


def slow_chances(contract: Contract, folder: Path, texts: list[str]) -> np.ndarray[Any, Any]:
    """(texts, labels) by PEFT's own loader, one text at a time."""
    from peft import PeftModel

    from presspool.common.models.models import base

    model = PeftModel.from_pretrained(base(contract), str(folder)).eval()
    with torch.inference_mode():
        logits = [model(**task_of(contract).encode([text])) for text in texts]
    found: np.ndarray[Any, Any] = torch.cat(logits).double().softmax(1).numpy()
    return found


def test_answers_are_those_of_pefts_own_loader(contract: Contract, adapter: Path) -> None:
    model = presspool.load(adapter)
    said = model.predict(TEXTS)
    expected = slow_chances(contract, adapter, TEXTS)
    got = np.array([[one.probabilities[label] for label in LABELS] for one in said])
    assert got == pytest.approx(expected, abs=1e-5)
    assert [one.answer for one in said] == [LABELS[i] for i in expected.argmax(1)]
    assert expected.std(axis=0).max() > 0.01  # a constant answer would prove little
    assert model.predict([]) == []


def write_texts(path: Path) -> Path:
    table = pa.table({"title": TEXTS, "other": [str(i) for i in range(len(TEXTS))]})
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerows([["title", "other"], *([t, "x"] for t in TEXTS)])
    else:
        path.write_text("".join(json.dumps({"title": text}) + "\n" for text in TEXTS))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_file_is_labelled_row_by_row(
    adapter: Path, predict: Command, tmp_path: Path, suffix: str
) -> None:
    file = write_texts(tmp_path / f"news{suffix}")
    expected = presspool.load(adapter).predict(TEXTS)
    done = predict(adapter, file, "--column", "title")
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [line["row"] for line in lines] == [1, 2, 3, 4, 5]
    assert [line["label"] for line in lines] == [one.answer for one in expected]
    assert lines[0]["probabilities"] == pytest.approx(dict(expected[0].probabilities))
    assert "reader level" in done.err  # its privacy, for the person at the keyboard

    out = tmp_path / "labels.csv"
    assert predict(adapter, file, "--column", "text=title", "--out", out).code == 0
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [row["label"] for row in rows] == [one.answer for one in expected]
    assert float(rows[1][f"probability of {LABELS[2]}"]) == pytest.approx(
        expected[1].probabilities[LABELS[2]]
    )
    assert out.stat().st_mode & 0o077 == 0


def test_json_names_the_adapter_and_its_privacy(
    adapter: Path, predict: Command, tmp_path: Path
) -> None:
    file = write_texts(tmp_path / "news.jsonl")
    said = json.loads(predict(adapter, file, "--column", "title", "--json").out)
    assert said["adapter"] in said["statement"]
    assert said["adapter"] == read_adapter(adapter).adapter
    assert "-DP at reader level" in said["statement"]
    assert said["rows"] == len(said["answers"]) == len(TEXTS)
    out = tmp_path / "answers.jsonl"
    said = json.loads(predict(adapter, file, "--column", "title", "--json", "--out", out).out)
    assert said["out"] == str(out)
    assert len(out.read_text().splitlines()) == len(TEXTS)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("jsonl", b'{"text": "goal in final"}\n{"text": "the bank"}\n'),
        ("csv", b"text,n\ngoal in final,1\nthe bank,2\n"),
        ("lines", b"goal in final\r\nthe bank"),
    ],
)
def test_standard_input(
    adapter: Path, predict: Command, monkeypatch: pytest.MonkeyPatch, kind: str, data: bytes
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    done = predict(adapter, "-", "--stdin-format", kind)
    assert done.code == 0, done.err
    expected = presspool.load(adapter).predict(["goal in final", "the bank"])
    said = [json.loads(line)["label"] for line in done.out.splitlines()]
    assert said == [one.answer for one in expected]


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("n.jsonl", b'{"text": "a"}\n{"text": null}\n', "record 2"),
        ("n.jsonl", b'{"text": "a"}\n[1]\n{"text": "b"}\n', "record 2 (line 2)"),
        ("n.csv", b"text\ngoal\n\xff\xfe\n", "record 2 (line 3)"),
        ("n.csv", b"title\ngoal\n", "missing column 'text'"),
        ("n.csv", b"section\ngoal\n", "say which it is: --column text=COLUMN"),
        ("n.csv", b"text\n", "no rows"),
        ("n.txt", b"goal\n", "unknown format"),
        ("-jsonl", b'{"text": "a"}\n{"text": null}\n', "record 2"),
        ("-csv", b"title\ngoal\n", "missing column"),
        ("-lines", b"goal\n\xff\n", "record 2"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_half_written(
    adapter: Path,
    predict: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    data: bytes,
    says: str,
) -> None:
    out = tmp_path / "answers.csv"
    if name.startswith("-"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        done = predict(adapter, "-", "--stdin-format", name[1:], "--out", out)
    else:
        file = tmp_path / name
        file.write_bytes(data)
        done = predict(adapter, file, "--out", out)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert "Traceback" not in done.err
    assert not list(tmp_path.glob("*answers*"))


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_what_a_model_writes_does_not_command_the_terminal(
    contract: Contract, capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str
) -> None:
    task = task_of(contract)
    words = "\x1b[2J gone \u202e\x9b für 市议会 🎉"
    said = Prediction(answer=words, probabilities=dict.fromkeys(LABELS, 0.5))
    with answer_sink(None, kind, task) as sink:
        sink.write(1, said)
    shown = capsys.readouterr().out
    assert not {"\x1b", "\u202e", "\x9b"} & set(shown)
    assert "für 市议会 🎉" in shown
    with answer_sink(tmp_path / "a", kind, task) as sink:
        sink.write(1, said)
    kept = (tmp_path / "a").read_text()
    assert words in (kept if kind == "csv" else json.loads(kept)["label"])


def test_adapters_that_are_not_as_they_should_be(
    adapter: Path, predict: Command, tmp_path: Path, contract: Contract
) -> None:
    file = write_texts(tmp_path / "news.csv")
    assert "not an adapter's folder" in predict(tmp_path / "nothing", file).err
    other = made_adapter(tmp_path / "other", contract.replace(task={"labels": ["a", "b"]}))
    theirs = (other / adapters.WEIGHTS).read_bytes()
    said = json.loads((adapter / MANIFEST).read_text())

    ours = (adapter / adapters.WEIGHTS).read_bytes()
    (adapter / adapters.WEIGHTS).write_bytes(theirs)
    with pytest.raises(FolderError, match="not the weights"):
        presspool.load(adapter)
    digest = json.loads((other / MANIFEST).read_text())["adapter"]
    forged = said | {"adapter": digest, "statement": digest}
    (adapter / MANIFEST).write_text(json.dumps(forged))
    with pytest.raises(FolderError, match="do not fit"):
        presspool.load(adapter)
    (adapter / adapters.WEIGHTS).write_bytes(ours)

    more = said["contract"] | {"seed": 9}
    (adapter / MANIFEST).write_text(json.dumps(said | {"contract": more}))
    with pytest.raises(FolderError, match="not the contract"):
        presspool.load(adapter)
    done = predict(adapter, file)
    assert done.code == 2
    assert "not the contract" in done.err


def test_another_base_model_is_refused(adapter: Path, tiny_base: Path, tmp_path: Path) -> None:
    said = json.loads((adapter / MANIFEST).read_text())
    contract = parse_contract(
        said["contract"] | {"model": said["contract"]["model"] | {"weights": "sha256:" + "0" * 64}}
    )
    forged = {"contract": contract.body(), "contract_digest": contract.digest}
    (adapter / MANIFEST).write_text(json.dumps(said | forged))
    with pytest.raises(ModelError):
        presspool.load(adapter)


def test_what_peft_says_beside_the_weights_is_not_asked(adapter: Path) -> None:
    """An adapter from elsewhere names no class and no module that would be loaded here."""
    expected = presspool.load(adapter).predict(TEXTS)
    (adapter / "adapter_config.json").write_text('{"peft_type": "NONE", "auto_mapping": {"x": 1}}')
    assert presspool.load(adapter).predict(TEXTS) == expected


def test_the_readmes_snippet_runs_as_it_stands(adapter: Path) -> None:
    text = (adapter / "README.md").read_text()
    snippet = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    paths = os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY)])
    done = subprocess.run(
        [sys.executable, "-c", snippet],
        cwd=adapter,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second, privacy = done.stdout.splitlines()
    assert first.split()[0] in LABELS
    assert second.split()[0] in LABELS
    assert privacy == presspool.load(adapter).statement
    for said in (*LABELS, "at most 12", "mean of the real tokens", "sha256"):
        assert said in text


def test_importing_the_package_stays_light() -> None:
    code = "import sys, presspool; presspool.load; print('torch' in sys.modules, len(sys.modules))"
    paths = os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("False")


# --- Adapters that write -------------------------------------------------------------------------


@pytest.fixture
def writer(
    tmp_path: Path, tiny_llama: Path, contract_body: dict[str, Any]
) -> Callable[[str], Path]:
    def made(form: str) -> Path:
        found = resolve(str(tiny_llama), weights=None, tokenizer=None)
        task = {"kind": "generation", "format": form, "max_length": 48, "answer_length": 6}
        body = contract_body | {
            "model": {"id": str(tiny_llama), **found.pins},
            "task": task,
            "adapter": {"rank": 2, "alpha": 4, "targets": ["q_proj", "v_proj"]},
        }
        return made_adapter(tmp_path / form, parse_contract(body))

    return made


@pytest.mark.parametrize("form", ["text", "prompt", "chat"])
def test_texts_are_written(
    writer: Callable[[str], Path], predict: Command, tmp_path: Path, form: str
) -> None:
    folder = writer(form)
    said = presspool.load(folder).predict(["minister talks", "goal"])
    assert len(said) == 2
    assert all(one.answer and not one.probabilities for one in said)
    name = {"text": "text", "prompt": "prompt", "chat": "messages"}[form]
    texts = ("minister talks", "goal")
    asked = [[{"role": "user", "content": t}] if form == "chat" else t for t in texts]
    file = tmp_path / "asked.jsonl"
    file.write_text("".join(json.dumps({name: one}) + "\n" for one in asked))
    done = predict(folder, file)
    assert done.code == 0, done.err
    assert [json.loads(line)["text"] for line in done.out.splitlines()] == [o.answer for o in said]
    bad = [{"role": "bot", "content": "x"}] if form == "chat" else "  "
    file.write_text(file.read_text() + json.dumps({name: bad}) + "\n")
    done = predict(folder, file)
    assert (done.code, done.out) == (2, "")
    assert "record 3 (line 3)" in done.err
    with pytest.raises(DataError, match="text 2"):
        presspool.load(folder).predict(["goal", "\0"])


@pytest.mark.parametrize("name", ["adapter_model.safetensors", MANIFEST])
def test_what_is_no_file_is_never_read(adapter: Path, name: str) -> None:
    """A pipe would be waited for, and a device never ends."""
    (adapter / name).unlink()
    (adapter / name).symlink_to("/dev/null")
    with pytest.raises(FolderError, match=r"without its weights|: not a file"):
        read_adapter(adapter)


def figures_with(up_to: float) -> AnswerFigures:
    chosen = Abstention(wanted=0.9, up_to=up_to, records=9, answered=5, right=5)
    return AnswerFigures(labels=(), bins=(), ece=0.0, abstention=chosen)


def test_an_answer_that_is_not_sure_enough_is_unsure_with_its_probabilities(
    contract: Contract, predict: Command, tmp_path: Path
) -> None:
    asked = contract.replace(task={"sure": 0.9})
    every = presspool.load(made_adapter(tmp_path / "every", asked)).predict(TEXTS)
    sure = sorted(max(one.probabilities.values()) for one in every)
    up_to = (sure[1] + sure[2]) / 2
    assert sure[1] < up_to < sure[2]
    folder = made_adapter(tmp_path / "some", asked, figures_with(up_to))
    assert read_adapter(folder).unsure_up_to == up_to
    done = predict(folder, write_texts(tmp_path / "news.jsonl"), "--column", "title")
    lines = [json.loads(line) for line in done.out.splitlines()]
    for line, one in zip(lines, every, strict=True):
        known = max(one.probabilities.values()) > up_to
        assert line["label"] == (one.answer if known else "unsure")
        assert line["probabilities"] == pytest.approx(dict(one.probabilities))
    assert [line["label"] for line in lines].count("unsure") == 2
    assert "unsure" in (folder / "README.md").read_text()
    silent = presspool.load(made_adapter(tmp_path / "silent", asked, figures_with(1.0)))
    assert {one.answer for one in silent.predict(TEXTS)} == {"unsure"}


def test_a_folder_without_a_threshold_has_no_word_of_it(adapter: Path) -> None:
    assert "unsure" not in (adapter / MANIFEST).read_text()
    assert read_adapter(adapter).unsure_up_to is None


@pytest.mark.parametrize("mode", ["multi", "ordinal"])
def test_labels_of_every_mode_are_answered_as_files_have_them(
    contract: Contract, predict: Command, tmp_path: Path, mode: str
) -> None:
    said = contract.replace(task={"mode": mode})
    folder = made_adapter(tmp_path / "adapter", said)
    out = tmp_path / "labels.csv"
    file = write_texts(tmp_path / "news.csv")
    assert predict(folder, file, "--column", "title", "--out", out).code == 0
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    for row in rows:
        chances = {label: float(row[f"probability of {label}"]) for label in LABELS}
        if mode == "multi":
            expected = "|".join(label for label in LABELS if chances[label] > 0.5) or "none"
        else:
            expected = max(LABELS, key=chances.__getitem__)
            assert sum(chances.values()) == pytest.approx(1)
        assert row["label"] == expected
    first = {row[f"probability of {LABELS[0]}"] for row in rows}
    assert len(first) > 1  # a constant answer would prove little
