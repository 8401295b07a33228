r"""Records of the task `generation` as tokens: what is given, what should be said, and the end.

Invariants:
    * A piece is tokenised apart from the one before it.
    * No text of a reader can write one of the tokenizer's special tokens, but for a chat's, which
      is what the model's own template makes of it.

Example:
    >>> class Letters:
    ...     bos_token_id, eos_token_id, unk_token_id, all_special_ids = None, 0, None, [0]
    ...     def __call__(self, texts, **_):
    ...         return {"input_ids": [[*map(ord, text)] for text in texts]}
    >>> Wording("text", 4, Letters, prompt="ab").tokens(["ab\0cdef"])[0].ids
    [97, 98, 99, 100]
    >>> Wording("text", 9, Letters).tokens(["ab\0c"])[0].ids
    [97, 98, 99, 0]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

from presspool.common.base.errors import ContractError, ModelError
from presspool.common.tasks.records import turns
from presspool.common.tasks.records.chat_template import ChatTemplate
from presspool.common.tasks.records.turns import MARK, Tokens, Turn

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor


class Wording:
    """What a model reads of the records of one format.

    Args:
        format_: "text", "prompt", "chat" or "summary".
        max_length: tokens of a record, at most.
        tokenizer: gives the base model's; only asked once there is something to tokenise.
        prompt: public words before each text of format "text", or behind each article.
        paired: whether an encoder reads what is given, up to a token that ends it, and a decoder
            says the rest.
    """

    def __init__(
        self,
        format_: str,
        max_length: int,
        tokenizer: Callable[[], Any],
        prompt: str = "",
        paired: Callable[[], bool] = lambda: False,
    ) -> None:
        self._is_paired = paired
        self._format, self._max_length, self._prompt = format_, max_length, prompt
        self._most, self._tokenizer = turns.CHARACTERS * max_length, tokenizer
        self._template = ChatTemplate(lambda: self.tokenizer)

    @cached_property
    def tokenizer(self) -> Any:
        """The base model's."""
        return self._tokenizer()

    @cached_property
    def paired(self) -> bool:
        """As given."""
        return self._is_paired()

    # --- Text ------------------------------------------------------------------------------------

    def texts(self, records: pa.Table) -> pa.Array:
        """Of each record what is given and what should be said, `MARK` between, `large_string`."""
        import pyarrow as pa
        import pyarrow.compute as pc

        def column(name: str) -> pa.Array:
            return records[name].combine_chunks().cast(pa.large_string())

        if self._format == "chat":
            chats = map(turns.turns_of, column("messages").to_pylist())
            return pa.array(map(self.marked, chats), pa.large_string())
        if self._format == "text":
            apart = " " if self._prompt and not self._prompt[-1].isspace() else ""
            given, said = pa.scalar(self._prompt + MARK + apart), column("text")
        else:
            known = self._format == "summary"
            asked, wanted = ("article", "summary") if known else ("prompt", "answer")
            some = (0, self._most) if known else (-self._most, None)
            given = pc.utf8_slice_codeunits(column(asked), *some)
            # Behind an article nothing is said yet: the public words are a piece of their own.
            behind = f"{MARK}{MARK}{self._behind}" if known else "\n"
            given = pc.binary_join_element_wise(given, *_large("", behind + MARK))
            there = wanted in records.schema.names  # not where the model is to write it
            said = column(wanted) if there else pa.array([""] * len(given), pa.large_string())
        said = pc.utf8_slice_codeunits(said, 0, self._most)
        return pc.binary_join_element_wise(given.cast(pa.large_string()), said, *_large(""))

    @property
    def _behind(self) -> str:
        return f"\n{self._prompt}\n" if self._prompt else "\n"

    def marked(self, said: list[Turn]) -> str:
        """A chat, marked as `turns.marked` does.

        Raises:
            Exception: whatever the model's template raises at a chat that it does not take.
        """
        return turns.marked(self._shortened(said), self._template)

    def unasked(self, said: str, name: str) -> str | None:
        """Why what a column holds is nothing to go on from, or None."""
        if self._format != "chat":
            return turns.fault_of_text(said, name)
        return self.refusal(said, asks=True)

    def refusal(self, said: str, *, asks: bool = False) -> str | None:
        """Why a column's value is no chat to learn from, or to answer, that the template takes."""
        fault, chat = turns.judged_chat(said, asks=asks)
        if fault is None:
            try:
                self._asking(chat) if asks else self.marked(chat)
            except Exception:  # noqa: BLE001  whatever a model's template raises
                return "chat that the model's template refuses"
        return fault

    def _asking(self, chat: list[Turn]) -> str:
        """What the model is to go on from: a chat up to the assistant's last turn."""
        asked = chat[:-1] if chat[-1]["role"] == "assistant" else chat
        return self._template(self._shortened(asked), True)

    def _shortened(self, said: list[Turn]) -> list[Turn]:
        return turns.shortened(said, self._most)

    # --- Tokens ----------------------------------------------------------------------------------

    def tokens(self, texts: list[str]) -> list[Tokens]:
        """Of each of the `texts`, at most `max_length` of them, what should be said first."""
        lead = self._format == "summary"
        whole = self.whole(texts)
        return [each.cut(self._max_length, kept=self.kept, from_right=lead) for each in whole]

    def whole(self, texts: list[str]) -> list[Tokens]:
        """Of each of the `texts`, however many they are."""
        pieces = [text.split(MARK) for text in texts]
        found = iter(self._ids([piece for each in pieces for piece in each]))
        return [Tokens.of(self._framed(each, [*islice(found, len(each))])) for each in pieces]

    def given(self, records: pa.Table) -> list[list[int]]:
        """What the model goes on from, of each record: the last `max_length` tokens of it."""
        if self._format == "text":  # all of it; only what is whole ends
            texts, end = self.whole(self.texts(records).to_pylist()), self.tokenizer.eos_token_id
            found = [each.ids[:-1] if each.ids[-1] == end else each.ids for each in texts]
        elif self._format == "prompt":
            found = [each.given for each in self.whole(self.texts(records).to_pylist())]
        elif self._format == "summary":  # a long article leaves room for the public words
            found = [each.given for each in self._open(records)]
        else:
            chats = map(turns.turns_of, records["messages"].to_pylist())
            found = self._ids([self._asking(each) for each in chats])
        return [ids[-self._max_length :] for ids in found]

    def _open(self, records: pa.Table) -> list[Tokens]:
        """Articles with the public words behind them, and nothing said yet."""
        return self.tokens(self.texts(records.select(["article"])).to_pylist())

    def padded(self, rows: list[list[int]], *, left: bool = False) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask`, (rows, longest) int64; the mask follows lengths."""
        import torch

        width = max(map(len, rows), default=0)
        ids = torch.full((len(rows), width), self.tokenizer.pad_token_id, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, known in enumerate(rows):
            some = slice(width - len(known), None) if left else slice(len(known))
            ids[row, some], mask[row, some] = torch.tensor(known, dtype=torch.int64), 1
        return {"input_ids": ids, "attention_mask": mask}

    @cached_property
    def kept(self) -> int:
        """Given tokens that are never cut: the public words, a prompt's last, a template's ask."""
        if self._format == "prompt":
            return 1
        if self._format == "text":
            return self.whole([self._prompt + MARK])[0].last
        if self._format == "summary":
            return len(self._ids([self._behind])[0]) + self.paired
        asking = [Turn(role="user", content="news")]
        asked, without = (self._template(asking, asks) for asks in (True, False))
        return max(1, len(self._ids([asked.removeprefix(without)])[0]))

    @cached_property
    def always(self) -> int:
        """Tokens that stand before all of what should be said: `kept`, and a template's own."""
        if self._format != "chat":
            return self.kept
        chats = (turns.exchange("news", answer) for answer in ("talks", "goal"))
        one, other = self.whole([turns.marked(chat, self._template) for chat in chats])
        pairs = zip(one.ids[one.last :], other.ids[other.last :], strict=False)
        return self.kept + sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    @property
    def has_room(self) -> bool:
        """Whether anything of what should be said is left."""
        return self.always < self._max_length

    def require_room(self) -> None:
        """Raises `ContractError` where no token of any record would ever count."""
        if not self.has_room:
            raise ContractError(
                "nothing of what should be said is left",
                where="[task] max_length",
                expected=f"more than the {self.always} tokens that stand before it in every record",
                got=self._max_length,
                advice="a greater max_length",
            )

    def check_ends(self) -> None:
        """Raises `ModelError` for a tokenizer that has no token for the end of a text."""
        if self.tokenizer.eos_token_id is None or self.tokenizer.pad_token_id is None:
            raise ModelError(
                "a tokenizer without a token that ends a text",
                where="[model] tokenizer_config.json",
                expected="eos_token",
                got="none",
                advice="use another base model, or its tokenizer with an end",
            )

    @cached_property
    def ends(self) -> list[int]:
        """Tokens after which nothing more is said: the last of all text, and that of a turn."""
        end = int(self.tokenizer.eos_token_id)
        if self._format != "chat":
            return [end]
        said = turns.marked(turns.exchange("news", "news"), self._template)
        return sorted({end, self.whole([said])[0].ids[-1]})

    def _framed(self, pieces: list[str], ids: list[list[int]]) -> list[list[int]]:
        """With the token before all text, and the one after it if the text is there to its end."""
        if self._format != "chat":
            ids[0] = self._lead + ids[0]
            if self.paired:
                ids[-2] = [*ids[-2], self.tokenizer.eos_token_id]
            ids[0] = ids[0] or [self._begin]
            if len(pieces[-1]) < self._most:
                ids[-1] = [*ids[-1], self.tokenizer.eos_token_id]
        return ids

    def _ids(self, pieces: list[str]) -> list[list[int]]:
        if not pieces:
            return []
        plain = self._format != "chat"
        ids: list[list[int]] = self.tokenizer(
            pieces, add_special_tokens=False, split_special_tokens=plain, verbose=False
        )["input_ids"]
        if not plain:
            return ids
        return [[one for one in each if one not in self._never] for each in ids]

    @cached_property
    def _never(self) -> frozenset[int]:
        return turns.never_written(self.tokenizer)

    @property
    def _begin(self) -> int:
        begin = self.tokenizer.bos_token_id
        return int(self.tokenizer.eos_token_id if begin is None else begin)

    @cached_property
    def _lead(self) -> list[int]:
        """The token that the tokenizer itself puts before every text, if it does."""
        (own,) = self.tokenizer([""], verbose=False)["input_ids"]
        return [one for one in own[:1] if one == self.tokenizer.bos_token_id]


def _large(*texts: str) -> list[pa.Scalar]:
    import pyarrow as pa

    return [pa.scalar(text, pa.large_string()) for text in texts]
