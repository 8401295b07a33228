"""Records of the three formats as tokens: what counts, what is cut, and what no record can do."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presspool.common.base.errors import ContractError, ModelError
from presspool.common.tasks.records import chat_template
from presspool.common.tasks.records.turns import CHARACTERS, MARK, Tokens, fault_of_chat, marked
from presspool.common.tasks.records.wording import Wording

USER, ANSWER = "Who won the cup?", "The coach says: nobody."
TURNS = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": USER},
    {"role": "assistant", "content": ANSWER},
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "Rain \u2614, \u0645\u0637\u0631, \u4e0b\u96e8."},
]


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_llama)


def wording(tokenizer: Any, name: str, most: int = 512, prompt: str = "") -> Wording:
    return Wording(name, most, lambda: tokenizer, prompt=prompt)


def tokens(made: Wording, **columns: str) -> Tokens:
    texts = made.texts(pa.table({name: [value] for name, value in columns.items()}))
    return made.tokens(texts.to_pylist())[0]


def counted(tokenizer: Any, found: Tokens) -> str:
    ids = [one for one, counts in zip(found.ids, found.counted, strict=True) if counts]
    text: str = tokenizer.decode(ids)
    return text


def test_a_text_counts_to_its_end_and_the_public_words_do_not(tokenizer: Any) -> None:
    found = tokens(wording(tokenizer, "text", prompt="News headline:"), text="Cup final \U0001f3c6")
    assert tokenizer.decode(found.ids) == "News headline: Cup final \U0001f3c6<|im_end|>"
    assert counted(tokenizer, found) == " Cup final \U0001f3c6<|im_end|>"


def test_without_public_words_the_first_token_of_a_text_counts_too(tokenizer: Any) -> None:
    found = tokens(wording(tokenizer, "text"), text="Vote")
    assert tokenizer.decode(found.ids) == "<|im_start|>Vote<|im_end|>"
    assert found.counted == [False] + [True] * (len(found.ids) - 1)


def test_of_a_prompt_and_its_answer_the_answer_counts(tokenizer: Any) -> None:
    found = tokens(wording(tokenizer, "prompt"), prompt=USER, answer=ANSWER)
    assert tokenizer.decode(found.ids) == f"{USER}\n{ANSWER}<|im_end|>"
    assert counted(tokenizer, found) == f"{ANSWER}<|im_end|>"


def test_of_a_chat_the_assistants_turns_count_and_nothing_is_lost(tokenizer: Any) -> None:
    found = tokens(wording(tokenizer, "chat"), messages=json.dumps(TURNS))
    whole = tokenizer.apply_chat_template(TURNS, tokenize=False)
    assert found.ids == tokenizer(whole.rstrip(), add_special_tokens=False)["input_ids"]
    assert counted(tokenizer, found) == f"{ANSWER}<|im_end|>{TURNS[-1]['content']}<|im_end|>"


def test_smollm2s_own_template_gives_what_the_pieces_give(smollm2: Path) -> None:
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(smollm2)
    for turns in (TURNS, TURNS[1:], TURNS[1:3]):  # with its own system turn where there is none
        found = tokens(wording(own, "chat"), messages=json.dumps(turns))
        whole = own.apply_chat_template(turns, tokenize=False)
        assert found.ids == own(whole.rstrip(), add_special_tokens=False)["input_ids"]
        said = [turn["content"] for turn in turns if turn["role"] == "assistant"]
        assert counted(own, found) == "".join(f"{text}<|im_end|>" for text in said)


def test_truncation_cuts_the_prompt_from_the_left_and_keeps_the_answer(tokenizer: Any) -> None:
    found = tokens(wording(tokenizer, "prompt", 24), prompt="x" * 90 + "z", answer="goal")
    assert len(found.ids) == 24
    assert tokenizer.decode(found.ids).endswith("xz\ngoal<|im_end|>")
    assert counted(tokenizer, found) == "goal<|im_end|>"


def test_a_longer_answer_keeps_its_first_tokens_and_no_end(tokenizer: Any) -> None:
    found = tokens(wording(tokenizer, "prompt", 8), prompt="Why?", answer="abcdefghijklmnop")
    assert len(found.ids) == 8
    assert tokenizer.decode(found.ids).startswith("\n")  # one that is given stays
    assert found.counted == [False] + [True] * 7
    assert "abcdefghijklmnop".startswith(counted(tokenizer, found))


def test_public_words_are_never_cut(tokenizer: Any) -> None:
    made = wording(tokenizer, "text", 12, prompt="the new:")
    found = tokens(made, text="zqzqzqzqzqzqzqzqzqzq")
    assert len(found.ids) == 12
    assert tokenizer.decode(found.ids).startswith("the new: zq")
    assert made.has_room
    assert not wording(tokenizer, "text", 4, prompt="Zqjx wvk").has_room


def test_of_a_long_chat_the_last_answer_stays(tokenizer: Any) -> None:
    found = tokens(wording(tokenizer, "chat", 40), messages=json.dumps(TURNS[:3]))
    assert len(found.ids) == 40
    assert tokenizer.decode(found.ids).endswith(f"{ANSWER}<|im_end|>")
    many = [{"role": r, "content": "goal"} for _ in range(500) for r in ("user", "assistant")]
    found = tokens(wording(tokenizer, "chat", 40), messages=json.dumps(many))
    assert tokenizer.decode(found.ids).endswith("<|im_start|>assistant\ngoal<|im_end|>")


def test_readers_cannot_write_special_tokens_in_texts(tokenizer: Any) -> None:
    found = tokens(wording(tokenizer, "prompt"), prompt="a <|im_end|>", answer="b <|im_start|>")
    assert [one for one in found.ids if one < 3] == [2]  # the end, which we put there
    assert tokenizer.decode(found.ids[:-1]) == "a <|im_end|>\nb <|im_start|>"


def test_megabytes_of_one_line_cost_as_much_as_a_page(tokenizer: Any) -> None:
    made, long = wording(tokenizer, "prompt", 16), "\U0001f5de\ufe0f " * 3_000_000
    texts = made.texts(pa.table({"prompt": [long], "answer": [long]})).to_pylist()
    assert len(texts[0]) <= 2 * 16 * CHARACTERS + 2
    assert len(made.tokens(texts)[0].ids) == 16
    assert made.whole(texts)[0].ids[-1] != tokenizer.eos_token_id  # its end is not in sight
    chat = [TURNS[1] | {"content": long}, TURNS[2] | {"content": long}]
    assert len(wording(tokenizer, "chat", 16).marked(chat)) < 3 * 16 * CHARACTERS


CLOSING = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
TURN = "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
EACH = "{% for m in messages %}" + TURN + "{% endfor %}"


def with_template(tokenizer: Any, template: str | None) -> Any:
    other = copy.deepcopy(tokenizer)
    other.chat_template = template
    return other


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (None, "without a chat template"),
        ("{% for m %}", "fails on a made chat"),
        ("{{ raise_exception('no\x1b[2J') }}", r"no\\u001b"),
        ("{% if false %}{{ strftime_now('%Y') }}{% endif %}" + EACH + CLOSING, "strftime_now"),
        ("{{ ['a', 'b'] | random }}" + EACH + CLOSING, "got +random"),
        ("{{ ['ab'] | map('random') | join }}" + EACH + CLOSING, "got +random"),
        ("{{ lipsum() }}" + EACH + CLOSING, "lipsum"),
        ("{% for i in range(99999) %}{{ 'x' * 99 }}{% endfor %}" + EACH + CLOSING, "far more"),
        ("{% for i in range(99999) %}{% set x = i %}{% endfor %}" * 50 + EACH, "not done after"),
    ],
)
def test_a_template_that_no_run_can_use_is_refused_before_any_chat(
    tokenizer: Any, template: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it would only ever do so of somebody's chat."""
    if said.startswith("not done"):
        monkeypatch.setattr(chat_template, "SECONDS", 0.01)
    made = wording(with_template(tokenizer, template), "chat")
    with pytest.raises(ModelError, match=said):
        made.require_room()
    with pytest.raises(ModelError, match=said):
        made.marked(TURNS)


def test_a_templates_answer_to_one_chat_is_bounded_too(tokenizer: Any) -> None:
    loud = "{% if 'loud' in messages[0]['content'] %}{{ 'x' * 999999 }}{% endif %}"
    made = wording(with_template(tokenizer, loud + EACH + CLOSING), "chat")
    made.marked(TURNS)
    with pytest.raises(ValueError, match="far more"):
        made.marked([{"role": "user", "content": "loud"}, TURNS[2]])


@pytest.mark.parametrize("before", ["", "<think>\n\n</think>\n\n"])
def test_max_length_must_reach_beyond_what_a_template_always_says(
    tokenizer: Any, before: str
) -> None:
    own = f"{{% if m['role'] == 'assistant' %}}{{{{ {before!r} }}}}{{% endif %}}"
    template = EACH.replace("'\n' + m", f"'\n' }}}}{own}{{{{ m")
    for closing in (CLOSING, ""):  # some do not ask: then all of it stands before the answer
        strange = with_template(tokenizer, template + closing)
        always = wording(strange, "chat").always
        found = tokens(wording(strange, "chat", always + 1), messages=json.dumps(TURNS[1:3]))
        assert tokenizer.decode(found.ids[-1:]) == ANSWER[: len(tokenizer.decode(found.ids[-1:]))]
        assert tokenizer.decode(found.ids[:-1]).lstrip() == f"<|im_start|>assistant\n{before}"
        with pytest.raises(ContractError, match=f"more than the {always} tokens"):
            wording(strange, "chat", always).require_room()


@given(st.lists(st.text(st.characters(exclude_characters=MARK), min_size=1), min_size=1))
def test_every_cut_keeps_the_last_answers_beginning(pieces: list[str]) -> None:
    ids = [[ord(letter) for letter in piece] for piece in [*pieces, "answer"]]
    ids = ids if len(ids) % 2 == 0 else [[0], *ids]
    whole = Tokens.of(ids)
    for most in (4, 5, 9, 30):
        cut = whole.cut(most, kept=1)
        assert len(cut.ids) == min(most, len(whole.ids))
        assert cut.ids[cut.last :] == list(map(ord, "answer"))[: len(cut.ids) - cut.last]
        assert cut.counted[cut.last] or not cut.last
        assert not cut.counted[0]
        assert cut.last >= 1


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Cup final", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"role": "user"}', "no list of turns"),
        ('[{"role": "user", "content": "a", "name": "ann"}]', "no list of turns"),
        ('[{"role": "user", "content": 3}]', "no list of turns"),
        ('[{"role": "bot", "content": "a"}]', "a role other than system, user, assistant"),
        ('[{"role": "user", "content": "a"}]', "without an assistant's turn"),
        ("[]", "without an assistant's turn"),
        (json.dumps([TURNS[0], TURNS[2], *TURNS[1:3]]), "begins with an assistant's turn"),
        ('[{"role": "assistant", "content": " "}]', "empty turn of messages"),
        ('[{"role": "assistant", "content": "a\\u0000b"}]', "NUL in turn of messages"),
        ('[{"role": "assistant", "content": "\\ud800"}]', "no JSON"),
    ],
)
def test_what_is_no_chat_is_named(said: str, reason: str) -> None:
    assert reason in (fault_of_chat(said) or "")


def test_a_template_that_rewrites_earlier_turns_is_refused() -> None:
    with pytest.raises(ValueError, match="rewrites"):
        marked(TURNS, lambda said, asks: f"{len(said)}, {asks}")
