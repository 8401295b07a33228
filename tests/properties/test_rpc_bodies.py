"""Damaged gRPC messages become bodies that a route can judge, or are refused; nothing else."""

from __future__ import annotations

import json
import random

import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass
from starlette.exceptions import HTTPException

from presspool.server.serving.dialect import MOST_INPUTS
from presspool.server.serving.rpc.rpc_calls import SERVICE, _body

WHOLE = {
    "Classify": {"model": "desk", "input": ["Cup final", "Чемпіон"], "mask": True},
    "Tag": {"model": "desk", "input": [{"text": "goal"}, {"tokens": ["a", "b"]}]},
    "RateAds": {"model": "desk", "input": [{"text": "a", "device": "phone"}]},
    "Rerank": {"model": "desk", "query": ["a"], "documents": ["b", "c"], "top_n": 1},
    "ChatStream": {
        "model": "desk",
        "messages": [{"role": "user", "content": "a"}],
        "temperature": 0.5,
    },
}


@pytest.mark.parametrize("name", WHOLE)
def test_damaged_messages_are_bodies_or_refused(name: str) -> None:
    method, chosen, ends = SERVICE.methods_by_name[name], random.Random(name), set[str]()
    whole = ParseDict(WHOLE[name], GetMessageClass(method.input_type)()).SerializeToString()
    for _ in range(2000):
        raw = bytearray(whole)
        for _ in range(chosen.randint(0, 3)):
            at = chosen.randrange(len(raw))
            raw[at : at + chosen.randint(0, 2)] = chosen.randbytes(chosen.randint(0, 3))
        try:
            said = json.loads(_body(method, bytes(raw)))
        except HTTPException:  # answered as 400
            ends.add("refused")
            continue
        strange = "a field of a later version" in said
        ends.add("strange" if strange else "read")
        known = {field.name for field in method.input_type.fields} | {"stream", "stream_options"}
        assert strange or set(said) <= known
    assert ends == {"refused", "strange", "read"}


def test_a_field_of_a_later_version_is_seen_wherever_it_is() -> None:
    method = SERVICE.methods_by_name["RateAds"]
    inside = b"\x22\x05\xa2\x06\x02hi"  # an advert whose field 100 nobody here knows
    assert "a field of a later version" in json.loads(_body(method, inside))


def test_more_than_a_call_may_have_is_not_taken_apart() -> None:
    """What is cut is more than a route takes, so that no call is answered with less than it has."""
    method = SERVICE.methods_by_name["Tag"]
    message = GetMessageClass(method.input_type)
    many = ParseDict({"input": [{"text": "a"}] * 1000}, message()).SerializeToString()
    found = json.loads(_body(method, many))
    assert MOST_INPUTS < len(found["input"]) < 1000
    assert "a field of a later version" in found
    inside = ParseDict({"input": [{"tokens": ["a"] * 1000}]}, message()).SerializeToString()
    with pytest.raises(HTTPException):
        _body(method, inside)
