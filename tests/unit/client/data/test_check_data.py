"""What `check-data` tells an outlet's operator, in numbers and on the screen."""

import csv
import gzip
import io
import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from tokenizers import Tokenizer, models, pre_tokenizers

from presspool.client.data import check_data as module
from presspool.client.data.care.text_health import TextHealth
from presspool.client.data.check_data import DataReport, Spread, check, guessed
from presspool.client.data.check_tables import ACROSS, FOOTER, LABEL_ROWS, render
from presspool.common.base.errors import DataError, InputError
from presspool.common.data.tables import Columns
from presspool.common.tasks.classification import Classification, ClassificationTable

DATA = Path(
    os.environ.get("PRESSPOOL_DATA", Path(__file__).resolve().parents[5] / "shared" / "data")
)
ROWS = [
    ("ann", "Cup final tonight", "sport"),
    ("bob", "Cup final tonight", "sport"),
    ("ann", "Cup final tonight", "sport"),
    ("ann", "Vote\u00a0today", "news"),
    ("cat", "Élection", "news"),
    ("dan", "", "news"),
    ("eve", "no label", ""),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("reader", "text", "label"), *ROWS])
    (tmp_path / "data.csv").write_bytes(text.getvalue().encode())
    return tmp_path / "data.csv"


def word_lengths(texts: list[str]) -> NDArray[np.int64]:
    """Lengths by a real tokenizer whose tokens are the words between white space."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return np.array([len(encoding) for encoding in tokenizer.encode_batch(texts)])


def task_for(labels: list[str]) -> Classification:
    return Classification(ClassificationTable(labels=tuple(labels)))


def report_on(
    path: Path,
    *,
    task: str = "classification",
    labels: list[str] | None = None,
    records_per_reader: int = 2,
    max_length: int | None = None,
    tokens: bool = False,
    population: int | None = None,
) -> DataReport:
    return check(
        path,
        columns=Columns(),
        task=guessed(path, task, Columns()) if labels is None else task_for(labels),
        records_per_reader=records_per_reader,
        max_length=max_length,
        token_lengths=word_lengths if tokens else None,
        population=population,
    )


def screen(report: DataReport, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    render(report, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_whole_report(path: Path) -> None:
    assert report_on(path, max_length=2, tokens=True, population=3) == DataReport(
        readers=3,
        records=5,
        records_a_reader=Spread(
            minimum=1, median=1.0, p95=float(np.quantile([3, 1, 1], 0.95)), maximum=3
        ),
        labels={"news": 2, "sport": 3},
        characters=Spread(minimum=8, median=17.0, p95=17.0, maximum=17),
        words=Spread(minimum=1, median=3.0, p95=3.0, maximum=3),
        tokens=Spread(minimum=1, median=3.0, p95=3.0, maximum=3),
        duplicates_within=1,
        duplicates_across=1,
        similar_within=1,
        texts=TextHealth(scripts={"Latin": 5}, other=0, garbled=0, replaced=0),
        records_per_reader=2,
        readers_capped=1,
        records_cut=1,
        max_length=2,
        records_truncated=3,
        dropped={"null or empty text": 1, "null or empty label": 1},
        first={"null or empty text": 6, "null or empty label": 7},
        lines={"null or empty text": [7], "null or empty label": [8]},
        cut="a text counts with its first 2 tokens",
    )


@pytest.mark.parametrize(
    ("cap", "readers", "records"), [(1, 1, 2), (2, 1, 1), (3, 0, 0), (99, 0, 0)]
)
def test_what_a_cap_on_records_cuts(path: Path, cap: int, readers: int, records: int) -> None:
    report = report_on(path, records_per_reader=cap)
    assert (report.readers_capped, report.records_cut) == (readers, records)


@pytest.mark.parametrize(("cap", "truncated"), [(1, 4), (2, 3), (3, 0)])
def test_what_a_cap_on_tokens_truncates(
    path: Path, cap: int, truncated: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOKEN_BATCH", 2)
    assert report_on(path, max_length=cap, tokens=True).records_truncated == truncated


def test_without_a_tokenizer_nothing_is_said_of_tokens(path: Path) -> None:
    report = report_on(path, max_length=1)
    assert report.tokens is None
    assert report.records_truncated is None
    assert "tokens" not in screen(report)


def test_duplicates_within_and_across_add_up_to_all(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [(f"r{rng.integers(20)}", f"t{rng.integers(40)}", "x") for _ in range(300)]
    lines = [dict(zip(("reader", "text", "label"), row, strict=True)) for row in rows]
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    report = report_on(path)
    assert report.duplicates_within == len(rows) - len({row[:2] for row in rows})
    assert report.duplicates_within + report.duplicates_across == 300 - len({r[1] for r in rows})


def test_given_labels_keep_their_order_and_zeros(path: Path) -> None:
    report = report_on(path, labels=["sport", "arts", "news"])
    assert list(report.labels.items()) == [("sport", 3), ("arts", 0), ("news", 2)]


def test_unknown_labels_are_counted_as_other_faults(path: Path) -> None:
    report = report_on(path, labels=["news", "arts", "sports"])
    assert (report.records, report.dropped["unknown label"]) == (2, 3)
    assert (report.first["unknown label"], report.lines["unknown label"]) == (1, [2, 3, 4])
    assert report.dropped["null or empty text"] == 1
    assert (report.unknown, report.guesses) == ({"label": {"sport": 3}}, {"label": "sports"})
    said = " ".join(screen(report).split())
    assert "dropped: unknown label, first in line 2, 3, 4" in said
    assert "have them: 'sport' (3). Did you mean 'sports'?" in said


def test_texts_with_nul_are_said(tmp_path: Path) -> None:
    """Classification takes them, as readers' oracles hold; whoever made the file should know."""
    path = tmp_path / "nul.csv"
    path.write_bytes(b"reader,text,label\na,go\0al,sport\nb,vote,news\nc,\0,news\n")
    report = report_on(path)
    assert (report.records, report.texts.nul) == (3, 2)
    assert "with NUL, the character 0 (a broken export?)" in screen(report)


def test_labels_of_which_the_run_knows_none_are_refused(path: Path) -> None:
    with pytest.raises(DataError, match="unknown label") as caught:
        report_on(path, labels=["arts", "sports"])
    assert str(caught.value.got).startswith("'sport' (3 times), 'news' (2 times); 5 of 7 records")


def test_fewer_readers_than_declared(path: Path) -> None:
    with pytest.raises(DataError) as caught:
        report_on(path, population=4)
    assert caught.value.expected == "at least 4 readers"
    assert caught.value.got == "3"
    assert "population" in caught.value.advice
    assert caught.value.exit_code == 2


def test_an_unknown_task_lists_the_tasks(path: Path) -> None:
    with pytest.raises(InputError, match=r"one of ad-response, classification") as caught:
        report_on(path, task="summarisation")
    assert caught.value.got == "summarisation"


@pytest.mark.parametrize("cap", [0, -1])
def test_caps_below_one_are_refused(path: Path, cap: int) -> None:
    with pytest.raises(InputError, match="records_per_reader"):
        report_on(path, records_per_reader=cap)
    with pytest.raises(InputError, match="max_length"):
        report_on(path, max_length=cap)


def test_json_is_plain_and_whole(path: Path) -> None:
    report = report_on(path, max_length=2, tokens=True)
    copy = json.loads(json.dumps(report.to_json()))
    assert copy == report.to_json()
    assert copy["labels"] == {"news": 2, "sport": 3}
    assert copy["records_a_reader"]["maximum"] == 3


def test_of_what_a_record_may_have_several_no_share_is_shown(path: Path) -> None:
    said = screen(replace(report_on(path), labels={"candidates": 25, "clicks": 5}))
    assert "500" not in said
    assert "100.0%" in said


def test_the_screen_shows_every_figure_and_for_whom_it_is(path: Path) -> None:
    lines = screen(report_on(path, max_length=2, tokens=True)).splitlines()

    def figures(name: str) -> list[str]:
        (line,) = (line for line in lines if name in line)
        return [cell.strip() for cell in line.split("│")[2:-1]]

    assert figures("│ readers  ") == ["3"]
    assert figures("│ records  ") == ["5"]
    assert figures("records a reader  ") == ["1", "1", "2.8", "3"]
    assert figures("characters a text") == ["8", "17", "17", "17"]
    assert figures("tokens a text") == ["1", "3", "3", "3"]
    assert figures("sport") == ["3", "60.0%"]
    assert figures("a reader has twice") == ["1"]
    assert figures("beyond 2 records a reader") == ["1", "20.0%"]
    assert figures("longer: a text counts with its first 2 tokens") == ["3", "60.0%"]
    assert figures("dropped: null or empty label") == ["1", "14.3%"]
    assert FOOTER in " ".join(" ".join(lines).split())
    assert ACROSS in " ".join(" ".join(lines).split())


def test_labels_cannot_steer_the_terminal(tmp_path: Path) -> None:
    label = "[bold]a[/bold]\x1b[2J"
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"reader": "a", "text": "x", "label": label}))
    shown = screen(report_on(path))
    assert "\x1b" not in shown
    assert "[bold]a[/bold]" in shown


def test_many_labels_are_summed_up(tmp_path: Path) -> None:
    lines = ["reader,text,label", *(f"r,t{i},label {i:03}" for i in range(100))]
    (tmp_path / "data.csv").write_text("\n".join(lines))
    shown = screen(report_on(tmp_path / "data.csv"))
    assert f"{100 - LABEL_ROWS} more" in shown
    assert "label 099" not in shown


def test_real_comments_counted_twice() -> None:
    """12,264 comments of 1,453 readers, against Python's own csv module and counters."""
    path = DATA / "stackexchange_comments" / "all.csv.gz"
    if not path.exists():
        pytest.skip(f"real data are absent: {path}")
    columns = Columns(reader="user_id", text="text", label="site")
    report = check(
        path,
        columns=columns,
        task=guessed(path, "classification", columns),
        records_per_reader=16,
        max_length=None,
        population=1000,
    )
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["text"].strip()]
    a_reader = Counter(row["user_id"] for row in rows)
    assert (report.readers, report.records) == (len(a_reader), len(rows))
    assert report.labels == dict(sorted(Counter(row["site"] for row in rows).items()))
    assert report.records_a_reader.maximum == max(a_reader.values())
    assert report.records_cut == sum(max(n - 16, 0) for n in a_reader.values())
    assert report.characters.maximum == max(len(row["text"]) for row in rows)
    assert report.words.median == np.median([len(row["text"].split()) for row in rows])
