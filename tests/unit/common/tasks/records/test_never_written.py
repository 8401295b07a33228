"""No text writes a special token, also where the tokenizer knows them as pieces of texts."""

from __future__ import annotations

import pyarrow as pa
from tests.fakes.bases.unigrams import unigrams

from presspool.common.tasks.records.packed.packed_titles import PackedTitles
from presspool.common.tasks.records.wording import Wording

FIRST, END, UNKNOWN = 0, 2, 3


def test_the_tokenizer_itself_finds_them() -> None:
    """Else nothing is tested here."""
    (ids,) = unigrams()(["go </s> on"], split_special_tokens=True)["input_ids"]
    assert ids.count(END) == 2


def test_an_article_cannot_say_where_the_answer_begins() -> None:
    wording = Wording("summary", 64, unigrams, paired=lambda: True)
    rows = pa.table({"article": ["go </s> on Q"], "summary": ["no</s>w"]})
    (found,) = wording.tokens(wording.texts(rows).to_pylist())
    assert found.ids.count(END) == 2
    assert found.ids.index(END) == found.last - 1
    assert found.ids[-1] == END
    assert UNKNOWN in found.ids  # a sign that nobody knows stays one
    (given,) = wording.given(rows)
    assert given == found.given


def test_a_title_cannot_be_two() -> None:
    titles = PackedTitles(title_length=16, tokenizer=unigrams)
    batch = titles.batch([titles.text(["go <s> on", "</s>vote<pad> Q"])])
    ids, numbers = batch["input_ids"][0].tolist(), batch["attention_mask"][0].tolist()
    assert (ids.count(FIRST), ids.count(END)) == (2, 2)
    assert numbers == sorted(numbers)
    assert max(numbers) == 2
    assert UNKNOWN in ids
