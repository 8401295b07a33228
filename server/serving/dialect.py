"""What may be asked and what is answered, in the shapes that the field's programs know.

`/v1/…` is OpenAI's; `/classify`, `/rerank` and `/tag` are vLLM's and text-embeddings-inference's
where those have such a route. A field that would change the answer and is not known here is an
error, never passed over.

Invariants:
    * Strict: a number is no text, and nothing is guessed.
    * What is refused costs little: a body of many fields is not read field by field.

Example:
    >>> Classify.model_validate({"model": "cup", "input": "Cup final"}).texts
    ['Cup final']
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

MOST_INPUTS, MOST_CHARACTERS, MOST_FIELDS = 256, 20_000, 32
COLDEST = 0.01
_SAYING = ("input", "query", "documents", "prompt", "messages")  # what has a caller's texts

Text = Annotated[str, StringConstraints(max_length=MOST_CHARACTERS)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=MOST_INPUTS)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class Closed(BaseModel):
    """An object of a call, with the fields that are known and no other."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _few(cls, body: object) -> object:
        """An error is made of each field that is not known: seconds and gigabytes for a million."""
        if isinstance(body, dict) and len(body) > MOST_FIELDS:
            raise ValueError(f"at most {MOST_FIELDS} fields")
        return body


class AdapterCall(Closed):
    """A call of one adapter.

    Attributes:
        model: the adapter's name.
        user: the caller's word for whom it asks; it is not kept.
        mask: whether personal data is masked before the adapter sees the texts.
    """

    model: Name
    user: Annotated[str | None, StringConstraints(max_length=500)] = None
    mask: bool = False


C = TypeVar("C", bound=AdapterCall)


class _OfTexts(Closed):
    input: Text | Texts

    @property
    def texts(self) -> list[str]:
        """One or several, as a list."""
        return [self.input] if isinstance(self.input, str) else self.input


class Classify(_OfTexts, AdapterCall):
    """`POST /classify`, as vLLM's."""


class Explain(AdapterCall):
    """`POST /explain`: our own; nobody's dialect has it.

    Attributes:
        label: towards which words are weighed.
    """

    input: Text
    label: Name


class Tag(AdapterCall):
    """`POST /tag`: texts, or lists of tokens where the adapter reads those."""

    input: Text | Annotated[list[Text | Texts], Field(min_length=1, max_length=MOST_INPUTS)]

    @property
    def texts(self) -> list[str | list[str]]:
        """One or several, as a list."""
        return [self.input] if isinstance(self.input, str) else self.input


class Mask(_OfTexts):
    """`POST /mask`: texts alone."""


class Embed(_OfTexts, AdapterCall):
    """`POST /v1/embeddings`, as OpenAI's."""

    encoding_format: Literal["float", "base64"] = "float"


class Advert(Closed):
    """One showing: the advert's text, and the context that the adapter's contract names."""

    text: Text
    section: Text = ""
    device: Text = ""
    hour: Text = ""
    weekday: Text = ""
    region: Text = ""
    placement: Text = ""
    position: Text = ""
    campaign: Text = ""


class AdCall(AdapterCall):
    """`POST /ads`."""

    input: Annotated[list[Advert], Field(min_length=1, max_length=MOST_INPUTS)]


class Rerank(AdapterCall):
    """`POST /rerank`, as vLLM's; an adapter of titles reads what the reader clicked as `query`.

    Attributes:
        query: the titles clicked before, oldest first; may be none.
        documents: the titles that are shown.
        top_n: how many of the best are told; all, if not given.
        return_documents: whether titles are told beside their places.
    """

    query: Text | Annotated[list[Text], Field(max_length=MOST_INPUTS)]
    documents: Texts
    top_n: Annotated[int | None, Field(ge=1)] = None
    return_documents: bool = True

    @property
    def history(self) -> list[str]:
        """The query as a list; an empty text is no title."""
        if isinstance(self.query, str):
            return [self.query] if self.query.strip() else []
        return self.query


def _warm(temperature: float) -> float:
    if 0 < temperature < COLDEST:
        raise ValueError(f"0, or {COLDEST} to 2")
    return temperature


class _Written(AdapterCall):
    """What calls that write have in common.

    Attributes:
        max_tokens: of the answer; what the adapter was trained to, if not given.
        temperature: 0, the default, takes the likeliest token each time; what is colder than
            `COLDEST` would divide by next to nothing, and is refused.
        top_p: of what is drawn by lot.
        stop: where the answer ends.
        n: one answer.
        stream: whether tokens come as they are written.
        stream_options: `include_usage` has the last event tell it.
        without_adapter: the base model writes, to be compared with; our own word.
    """

    max_tokens: Annotated[int | None, Field(ge=1, le=4096)] = None
    temperature: Annotated[float, Field(ge=0, le=2, strict=False), AfterValidator(_warm)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1, strict=False)] = 1.0
    stop: Annotated[
        Annotated[str, StringConstraints(min_length=1, max_length=100)]
        | Annotated[
            list[Annotated[str, StringConstraints(min_length=1, max_length=100)]],
            Field(max_length=4),
        ]
        | None,
        Field(),
    ] = None
    n: Literal[1] = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    without_adapter: bool = False

    @property
    def stops(self) -> tuple[str, ...]:
        """`stop` as several."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class StreamOptions(Closed):
    """Of OpenAI's calls that stream."""

    include_usage: bool = False


class Complete(_Written):
    """`POST /v1/completions`."""

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=16)]

    @property
    def texts(self) -> list[str]:
        """One or several, as a list."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt


class ChatTurn(Closed):
    """Of a chat."""

    role: Literal["system", "user", "assistant"]
    content: Text


class Chat(_Written):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[ChatTurn], Field(min_length=1, max_length=100)]
    max_completion_tokens: Annotated[int | None, Field(ge=1, le=4096)] = None


class LoadCall(Closed):
    """`POST /v1/load_lora_adapter`, as vLLM's."""

    lora_name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    lora_path: Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class UnloadCall(Closed):
    """`POST /v1/unload_lora_adapter`, as vLLM's."""

    lora_name: Annotated[str, StringConstraints(min_length=1, max_length=100)]


def texts_of(call: AdapterCall) -> list[str]:
    """What a call says, in order; tokens as one text, for a name or a number may be of several."""
    if isinstance(call, Tag):
        return [one if isinstance(one, str) else " ".join(one) for one in call.texts]
    found = list[str]()

    def take(text: str) -> str:
        found.append(text)
        return text

    _resaid(call, take)
    return found


def with_texts(call: C, texts: list[str]) -> C:
    """A call that says something else, text by text."""
    left = iter(texts)
    return call.model_copy(update=_resaid(call, lambda _: next(left)))


def _resaid(call: AdapterCall, say: Callable[[str], str]) -> dict[str, Any]:
    def walk(value: Any) -> Any:
        if isinstance(value, str):
            return say(value)
        if isinstance(value, ChatTurn):
            return value.model_copy(update={"content": say(value.content)})
        if isinstance(value, Advert):
            return value.model_copy(update={"text": say(value.text)})
        return [walk(one) for one in value]

    return {name: walk(getattr(call, name)) for name in _SAYING if hasattr(call, name)}


def usage(prompt: int, completion: int = 0) -> dict[str, Any]:
    """Tokens, as the dialect counts them."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
