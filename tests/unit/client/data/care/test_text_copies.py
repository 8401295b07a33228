"""Copies of texts: made of the text and the operator's files alone, and files that are none."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from presspool.client.data.care.text_copies import MOST_BYTES, Copied, read_substitutes, text_copies
from presspool.common.base.errors import InputError
from presspool.common.data.csv_lines import RECORD_BYTES

SYNONYMS = {"gold": ("bullion", "metal"), "rises": ("climbs",)}


def typo_of(text: str) -> str | None:
    return next((copy.text for copy in text_copies(text, typos=True)), None)


def test_copies_come_in_order_and_the_same_again() -> None:
    own = {"Gold rises": ("Bullion is up", "Gold is dearer")}
    made = list(text_copies("Gold rises", paraphrases=own, synonyms=SYNONYMS, typos=True))
    assert [copy.how for copy in made] == ["paraphrase", "paraphrase", "synonym", "typo"]
    assert made == list(text_copies("Gold rises", paraphrases=own, synonyms=SYNONYMS, typos=True))
    assert made[2].text in {"Bullion rises", "Metal rises", "Gold climbs"}
    assert not list(text_copies("Silver falls", paraphrases=own, synonyms=SYNONYMS))


@example("1G2bGbb")
@given(st.text(alphabet="abcdé GRÜß12-'", max_size=30))
def test_a_slip_changes_one_word_by_a_letter_or_two(text: str) -> None:
    slip = typo_of(text)
    if slip is None:
        return
    assert slip != text
    assert abs(len(slip) - len(text)) <= 1
    differ = (i for i in range(len(text)) if text[i : i + 1] != slip[i : i + 1])
    start = next(differ, len(text))  # the last letter said twice
    ends = zip(reversed(text[start:]), reversed(slip[start:]), strict=False)
    same = next((i for i, (a, b) in enumerate(ends) if a != b), min(len(text), len(slip)) - start)
    assert len(text) - same - start <= 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "to be or no",
        "金牌金牌金牌",
        "سلام عليكم",
        "<PERSON> <EMAIL_ADDRESS>",
        "😀😀😀😀",
        "12345",
    ],
)
def test_what_has_no_word_for_a_slip_has_none(text: str) -> None:
    assert typo_of(text) is None


def test_a_placeholder_keeps_its_letters() -> None:
    slip = typo_of("<PERSON> won")
    assert slip is None
    assert not list(text_copies("<GOLD>", synonyms=SYNONYMS))


def test_a_file_of_words_is_read_without_case(tmp_path: Path) -> None:
    path = tmp_path / "words.tsv"
    path.write_bytes("Gold\tbullion\t bullion\tmetal\r\n\nGroß\tweit\n".encode())
    assert read_substitutes(path, where="w", words=True) == {
        "gold": ("bullion", "metal"),
        "gross": ("weit",),
    }
    made = list(text_copies("GROSS", synonyms=read_substitutes(path, where="w", words=True)))
    assert made == [Copied("Weit", "synonym")]


def test_a_word_that_is_longer_in_lower_case_is_one(tmp_path: Path) -> None:
    path = tmp_path / "words.tsv"
    path.write_text("İzmir\tSmyrna\n", encoding="utf-8")
    made = list(text_copies("in İzmir", synonyms=read_substitutes(path, where="w", words=True)))
    assert made == [Copied("in Smyrna", "synonym")]


def test_a_mark_at_a_files_beginning_is_no_part_of_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "texts.tsv"
    path.write_text("Gold rises\tUp goes gold\n", encoding="utf-8-sig")
    assert read_substitutes(path, where="w") == {"Gold rises": ("Up goes gold",)}


def test_a_copy_that_is_longer_than_a_record_may_be_is_none() -> None:
    text = "gold ".ljust(RECORD_BYTES, "!")
    others = {"gold": ("bullion",)}
    assert not list(text_copies(text, synonyms=others))
    assert len(list(text_copies(text[:-3], synonyms=others))) == 1
    words = (f"{number} goldé ".ljust(RECORD_BYTES - 1, "!") for number in range(8))
    copies = [copy.text for text in words for copy in text_copies(text, typos=True)]
    assert 0 < len(copies) < 8  # where a letter is doubled there is no room
    assert all(len(copy.encode()) <= RECORD_BYTES for copy in copies)


def test_a_file_of_texts_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "texts.tsv"
    path.write_text("Gold  rises!\tUp goes gold\u2028again\n")
    assert read_substitutes(path, where="w") == {"Gold  rises!": ("Up goes gold\u2028again",)}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"gold\tmetal\nsilver\n", "line 2: nothing behind a tab"),
        (b"gold\t\n", "line 1: an empty part"),
        (b"\tmetal\n", "line 1: an empty part"),
        (b"gold\tme\0tal\n", "line 1: a NUL"),
        (b"gold\t" + b"x" * (10 << 20) + b"\n", "line 1: a NUL, or more than"),
        (b"gold\tmetal\nGOLD\tbullion\n", "line 2: what an earlier line has"),
        (b"gold medal\tprize\n", "line 1: not one word"),
        (b"<PERSON>\tman\n", "line 1: not one word"),
        (b"gold\tm\xe9tal\n", "cannot be read as UTF-8"),
        (None, "cannot be read as UTF-8 \\(FileNotFoundError\\)"),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_line(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "words.tsv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_substitutes(path, where="w", words=True)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "words.tsv"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(InputError, match="more than 268,435,456 bytes"):
        read_substitutes(path, where="w")
