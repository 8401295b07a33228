"""Made customer service: good chats, the same ones every time, and the example's files."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tests.conftest import REPOSITORY

from presspool.common.runs.run_file import read_run_file
from presspool.common.tasks.records.turns import fault_of_chat
from presspool.simulations.newsroom.grammar import EVERY_VOICE, TOPICS
from presspool.simulations.newsroom.newsroom import make_newsroom
from presspool.simulations.newsroom.service import turns_of, write_chat, write_example

EXAMPLE = REPOSITORY / "examples" / "service.toml"


def chats(count: int) -> list[str]:
    rng = random.Random(3)  # made data
    return [
        write_chat(rng, topic=TOPICS[i % len(TOPICS)], beat=None, voice=EVERY_VOICE)
        for i in range(count)
    ]


def test_each_is_a_chat_to_learn_from_and_some_have_several_turns() -> None:
    made = chats(400)
    assert not any(map(fault_of_chat, made))
    turns = [turns_of(said) for said in made]
    assert {len(each) for each in turns} == {3, 5, 7}
    assert all(each[1]["role"] == "user" and each[-1]["role"] == "assistant" for each in turns)
    assert not any("{" in turn["content"] for each in turns for turn in each)


def test_an_answer_names_only_what_the_reader_has_told() -> None:
    known = {*EVERY_VOICE.places, *(n for of in EVERY_VOICE.surnames.values() for n in of)}
    for said in chats(400):
        turns = turns_of(said)
        told = " ".join(turn["content"] for turn in turns if turn["role"] == "user")
        for turn in (turn for turn in turns if turn["role"] == "assistant"):
            words = turn["content"].replace(".", " ").replace(";", " ").split()
            assert all(word in told for word in words if word in known or word.isdigit())


def test_some_ask_for_insults_and_the_house_writes_none() -> None:
    listed = read_run_file(EXAMPLE).contract.body()["task"]["unwanted"]
    asked = answered = 0
    for turns in map(turns_of, chats(600)):
        for turn in turns:
            found = any(word in turn["content"].split() for word in listed)
            asked += found and turn["role"] == "user"
            answered += found and turn["role"] == "assistant"
    assert 25 <= asked <= 75
    assert answered == 0


def test_no_public_chat_is_at_an_outlet() -> None:
    made = make_newsroom(outlets=2, readers=30, seed=1, write=write_chat)
    public = set(made.held_out["text"].to_pylist())
    assert not any(public & set(table["text"].to_pylist()) for table in made.tables.values())


def test_the_examples_files_are_those_that_the_command_writes(tmp_path: Path) -> None:
    for path in write_example(tmp_path):
        assert path.read_bytes() == (EXAMPLE.parent / path.name).read_bytes()
    rows = [json.loads(line) for line in (tmp_path / "service.jsonl").read_text().splitlines()]
    readers = {(row["outlet"], row["reader"]) for row in rows}
    outlets = read_run_file(EXAMPLE).contract.outlets
    assert {o: sum(name == o for name, _ in readers) for o in outlets} == dict(outlets)
