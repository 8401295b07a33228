"""`presspool outlet check-data` as typed: one clear message and exit code 2, or the report."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.instruments.typed import Answer, Command, typed

ROWS = [(f"r{i}", f"a new goal {i}", "sport" if i % 2 else "world") for i in range(6)]
RUN = """
name = "example"
model = {{ id = "{base}" }}
task = {{ labels = ["world", "sport", "money"], max_length = 5 }}
federation = {{ rounds = 3, local_steps = 4 }}
outlets = {{ daily-bugle = 5, weekly = 7 }}
optimizer = {{ learning_rate = 1.0 }}
[privacy]
unit = "{unit}"
noise_multiplier = 1.2
clip = 1.0
sampling_rate = 0.15
records_per_reader = 2
"""


@pytest.fixture
def check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs the command in an empty folder on 80 columns, as the shell does."""
    monkeypatch.chdir(tmp_path)
    return typed(monkeypatch, capsys, "outlet", "check-data", width=80)


def write(name: str, rows: Sequence[Sequence[str]] = ROWS) -> str:
    with Path(name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("reader", "text", "label"), *rows])
    return name


def write_run(base: Path, unit: str = "reader") -> str:
    Path("run.toml").write_text(RUN.format(base=base, unit=unit))
    return "run.toml"


def refusal(answer: Answer) -> str:
    """The one message, its line breaks undone; nothing else was said and the code is 2."""
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert answer.err.count("error:") == 1
    assert "Traceback" not in answer.err
    return " ".join(answer.err.split())


# --- Bad input ------------------------------------------------------------------------------------


def test_a_missing_file(check: Command) -> None:
    message = refusal(check("readers.csv"))
    assert "readers.csv: missing file" in message
    assert "got no such file" in message


@pytest.mark.parametrize("name", ["folder", "folder.csv"])
def test_a_directory(name: str, check: Command) -> None:
    Path(name).mkdir()
    assert "got a folder" in refusal(check(name))


def test_an_empty_file(check: Command) -> None:
    Path("readers.csv").write_bytes(b"")
    assert "readers.csv: empty file" in refusal(check("readers.csv"))


def test_a_wrong_encoding(check: Command) -> None:
    Path("readers.csv").write_bytes(b"reader,text,label\r\na,caf\xe9,news\r\n")
    message = refusal(check("readers.csv"))
    assert "readers.csv: wrong encoding: expected UTF-8" in message
    assert "0xe9 at offset 24, line 2" in message
    assert "to do save the file as UTF-8" in message


def test_a_column_that_is_not_there(check: Command) -> None:
    message = refusal(check(write("readers.csv"), "--reader", "raeder"))
    assert "missing column 'raeder'" in message
    assert "got the columns 'reader', 'text', 'label'" in message
    assert "did you mean 'reader'?" in message


@pytest.mark.parametrize("options", [("--reader", "text"), ("--label", "")])
def test_columns_that_are_not_three(options: tuple[str, str], check: Command) -> None:
    message = refusal(check(write("readers.csv"), *options))
    assert "--reader, --text, --label: column mapping" in message


def test_null_reader_ids(check: Command) -> None:
    message = refusal(check(write("readers.csv", [*ROWS, ("", "x", "sport")])))
    assert "null reader" in message
    assert "1 of 7 records, the first is record 7" in message


def test_an_unknown_label_of_the_run(check: Command, tiny_base: Path) -> None:
    file = write("readers.csv", [*ROWS, ("r1", "x", "sports")])
    run = write_run(tiny_base)
    answer = check(file, "--run", run)
    assert (answer.code, answer.err) == (0, "")
    assert "dropped: unknown label, first in line 8" in answer.out
    assert "'sports' (1). Did you mean 'sport'?" in " ".join(answer.out.split())
    report = json.loads(check(file, "--run", run, "--json").out)
    assert (report["records"], report["unknown"]) == (6, {"label": {"sports": 1}})
    none = write("none.csv", [("r1", "x", "sports"), ("r2", "y", "")])
    message = refusal(check(none, "--run", run))
    assert "none.csv, column 'label': unknown label" in message
    assert "expected one of 'world', 'sport', 'money'" in message
    assert "got 'sports' (once); 1 of 2 records, the first is record 1" in message
    assert check(file).code == 0  # without a run every label is known


def test_fewer_readers_than_declared(check: Command, tiny_base: Path) -> None:
    file, run = write("readers.csv"), write_run(tiny_base)
    message = refusal(check(file, "--run", run, "--outlet", "weekly"))
    assert "fewer readers than the declared population" in message
    assert "expected at least 7 readers got 6" in message
    assert check(file, "--run", run, "--outlet", "daily-bugle").code == 0
    assert check(file, "--run", run).code == 0  # no outlet named: nothing was declared for it


def test_a_run_that_counts_records_declares_records(check: Command, tiny_base: Path) -> None:
    run = write_run(tiny_base, unit="record")
    message = refusal(check(write("readers.csv"), "--run", run, "--outlet", "weekly"))
    assert "expected at least 7 records got 6" in message
    more = write("more.csv", [*ROWS, ("r1", "another", "sport")])  # still six readers
    assert check(more, "--run", run, "--outlet", "weekly").code == 0


def test_an_unknown_task(check: Command) -> None:
    message = refusal(check(write("readers.csv"), "--task", "translation"))
    assert (
        "--task: unknown task: expected one of ad-response, classification, fill-mask, "
        "generation, recommendation, tagging got translation" in message
    )


def test_an_unknown_outlet(check: Command, tiny_base: Path) -> None:
    arguments = ("--run", write_run(tiny_base), "--outlet", "nobody")
    message = refusal(check(write("readers.csv"), *arguments))
    assert "expected daily-bugle, weekly got nobody" in message


def test_options_that_would_be_ignored_are_refused(check: Command, tiny_base: Path) -> None:
    file = write("readers.csv")
    assert "--outlet without --run" in refusal(check(file, "--outlet", "weekly"))
    run = write_run(tiny_base)
    assert "-k beside --run" in refusal(check(file, "--run", run, "-k", "3"))
    assert "another task than the run's" in refusal(
        check(file, "--run", run, "--task", "generation")
    )


@pytest.mark.parametrize("cap", ["0", "-1"])
def test_a_cap_below_one(cap: str, check: Command) -> None:
    assert "expected 1 or more" in refusal(check(write("readers.csv"), "-k", cap))


def test_a_run_file_that_is_missing_or_not_toml(check: Command) -> None:
    file = write("readers.csv")
    missing = refusal(check(file, "--run", "no.toml"))
    assert "no.toml: cannot read the run's file: got no such file" in missing
    answer = refusal(check(file, "--run", file))
    assert "readers.csv, line 1, column 7: not readable as TOML: expected a line of TOML" in answer


# --- The report -----------------------------------------------------------------------------------


def test_a_run_brings_its_labels_and_caps(check: Command, tiny_base: Path) -> None:
    rows = [*ROWS, ("r1", "goal", "sport"), ("r1", "final medal", "sport")]
    arguments = ("--run", write_run(tiny_base), "--outlet", "daily-bugle", "--json")
    answer = check(write("readers.csv", rows), *arguments)
    report: dict[str, Any] = json.loads(answer.out)
    assert (answer.code, answer.err) == (0, "")
    assert report["labels"] == {"world": 3, "sport": 5, "money": 0}
    assert (report["records_per_reader"], report["records_cut"]) == (2, 1)
    # [CLS] a new goal N [SEP]: six tokens, one more than the run's cap, in six records.
    assert (report["max_length"], report["records_truncated"]) == (5, 6)
    assert report["tokens"]["maximum"] == 6


def test_without_a_run_the_cap_is_the_option_or_one(check: Command) -> None:
    file = write("readers.csv", [*ROWS, *ROWS, *ROWS])
    for options, cap, cut in [((), 1, 12), (("-k", "2"), 2, 6)]:
        report = json.loads(check(file, "--json", *options).out)
        assert (report["records_per_reader"], report["records_cut"]) == (cap, cut)
        assert report["tokens"] is None


def test_the_report_fits_eighty_columns(check: Command) -> None:
    label = "a label that says much about the politics of small towns in the north, and then more"
    long = [("r1", "a" * 20_000, label), ("r2", "b", "x" * 120)]
    answer = check(write("readers.csv", [*ROWS, *long]))
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert max(map(len, lines)) <= 80
    shown = " ".join(line.split("│")[1].strip() for line in lines if "│" in line)
    assert label in shown  # folded, not cut
    assert shown.replace(" ", "").count("x" * 120) == 1
    assert "readers with more than 1 record " in shown
    assert "For your screen only" in answer.out


def test_real_comments(check: Command, data_root: Path) -> None:
    path = data_root / "stackexchange_comments" / "all.csv.gz"
    if not path.exists():
        pytest.skip(f"real data are absent: {path}")
    answer = check(str(path), "--reader", "user_id", "--label", "site", "-k", "16")
    assert (answer.code, answer.err) == (0, "")
    assert max(map(len, answer.out.splitlines())) <= 80
    figures = {
        line.split("│")[1].strip(): line.split("│")[2].strip()
        for line in answer.out.splitlines()
        if line.startswith("│")
    }
    assert (figures["readers"], figures["records"]) == ("1,453", "12,264")
    assert figures["history"] == "4,965"
    assert figures["readers with more than 16 records"] == "116"
