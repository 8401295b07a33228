"""Scripts, garbled texts, and what a base model's tokenizer does not know."""

import pyarrow as pa
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from presspool.client.data.care.text_health import text_health, unknown_of


def known(*words: str) -> PreTrainedTokenizerFast:
    vocabulary = {word: place for place, word in enumerate(["[UNK]", *words])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]")


def test_texts_count_in_each_script_that_they_hold() -> None:
    found = text_health(
        pa.array(["Gold", "金牌 Gold", "ذهب", "Золото", "زر", "🏅 42", "ߞߏ"], pa.large_string())
    )
    assert found.scripts == {"Latin": 2, "Arabic": 2, "Han": 1, "Cyrillic": 1}
    assert found.other == 1  # N'Ko
    assert (found.garbled, found.replaced) == (0, 0)


@pytest.mark.parametrize("text", ["é", "ü", "ß", "“quoted”", "naïve €5", "Ж", "日本", "🏅", "ح"])
def test_utf_8_read_as_windows_1252_is_seen(text: str) -> None:
    read = "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in text.encode())
    assert text_health(pa.array([read], pa.large_string())).garbled == 1
    assert text_health(pa.array([text], pa.large_string())).garbled == 0


@pytest.mark.parametrize("text", ["CAFÉ…", "Ânia", "Ação", "“É”", "Ï est là", "À «Paris»", "ÐÑ"])
def test_real_texts_are_not_garbled(text: str) -> None:
    assert text_health(pa.array([text], pa.large_string())).garbled == 0


def test_a_replacement_character_is_something_lost() -> None:
    assert text_health(pa.array(["a\ufffdb", "ab"], pa.large_string())).replaced == 1


def test_unknown_tokens_are_named_where_they_are_most() -> None:
    unknown = unknown_of(known("gold"))
    found = text_health(pa.array(["gold medal", "金牌 银牌"], pa.large_string()), unknown)
    assert (found.unknown, found.tokens, found.unknown_share) == (3, 4, 0.75)
    assert found.strange
    assert not text_health(pa.array(["gold gold 金牌"], pa.large_string()), unknown).strange


def test_a_tokenizer_that_knows_every_byte_has_no_unknown_token() -> None:
    tokenizer = known("gold")
    tokenizer.eos_token = "[UNK]"
    assert unknown_of(tokenizer) is None
