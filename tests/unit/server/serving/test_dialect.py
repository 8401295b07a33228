"""What is refused costs little: one error, however many fields a body has."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from presspool.server.serving import dialect

MANY = {f"field-{number}": 1 for number in range(dialect.MOST_FIELDS + 1)}
CALLS: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (dialect.Classify, MANY),
    (dialect.Tag, MANY),
    (dialect.Embed, MANY),
    (dialect.Rerank, MANY),
    (dialect.Complete, MANY),
    (dialect.Complete, {"model": "cup", "prompt": "x", "stream_options": MANY}),
    (dialect.Chat, MANY),
    (dialect.Chat, {"model": "cup", "messages": [MANY]}),
    (dialect.LoadCall, MANY),
    (dialect.UnloadCall, MANY),
]


@pytest.mark.parametrize(("call", "body"), CALLS)
def test_many_fields_are_one_error(call: type[BaseModel], body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="at most 32 fields") as caught:
        call.model_validate(body)
    assert caught.value.error_count() == 1


def test_every_object_of_a_call_is_closed() -> None:
    models = [one for one in vars(dialect).values() if isinstance(one, type)]
    own = [one for one in models if one.__module__ == dialect.__name__]
    assert len(own) > 10
    assert all(issubclass(one, dialect.Closed) for one in own)
