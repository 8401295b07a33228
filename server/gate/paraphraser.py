"""A chat model that says a text in other words, here on this machine.

It is asked by three examples, and writes the likeliest token every time.

Invariants:
    * The same model, machine and texts give the same paraphrases.
    * A paraphrase has room for `ROOM` times the text's tokens; a text that does not fit into
      `LONGEST` and the model's positions with it is not asked.

Example: `Paraphraser(files, "smollm2-135m-instruct").written(["Gold rises"])`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from presspool.common.base.errors import InputError
from presspool.common.contract.contract_schema import Model
from presspool.common.models.base_model import BaseModelFolder, resolve
from presspool.common.models.catalogue import CATALOGUE
from presspool.common.tasks.generation import Generation, GenerationTable
from presspool.common.tasks.records import turns
from presspool.common.tasks.records.writing import AT_ONCE

LONGEST: Final = 1024
"""Tokens of a request and its answer: sixteen at once then fit into memory."""
ROOM: Final = 1.5
_ASKED: Final = "You say a text again in other words. Meaning, names and numbers stay as they are."
_EXAMPLES: Final = (
    (
        "The company said on Monday that profits rose 12 percent.",
        "Earnings went up by 12 percent, the firm announced on Monday.",
    ),
    (
        "Police have arrested two men after a bank was robbed in Leeds.",
        "Two suspects are in custody following a bank robbery in Leeds, officers say.",
    ),
    (
        "Rain stopped play in the second Test between England and India.",
        "The second Test of England against India was halted by bad weather.",
    ),
)


def files_named(name: str, beside: Path, where: str) -> BaseModelFolder:
    """The files of a model, hashed.

    Args:
        name: a folder, or a name of the catalogue.
        beside: where folders count from; the working directory is never looked at.
        where: the policy's key.

    Raises:
        InputError: it is not to be had, or is not whole.
    """
    try:
        known = name in CATALOGUE and not (beside / name).is_dir()
        return resolve(name if known else str(beside / name), weights=None, tokenizer=None)
    except (InputError, OSError) as error:  # the latter of a name that is too long
        advice = error.advice if isinstance(error, InputError) else ""
        raise InputError(
            "not a model that can be had",
            where=f"{where} = {name!a}",
            expected="a folder of a base model, or a name that presspool models knows",
            got=_words(error),
            advice=advice,
        ) from None


def request(text: str) -> list[turns.Turn]:
    """The chat that asks for a paraphrase."""
    shown = [turn for pair in _EXAMPLES for turn in turns.exchange(*pair)]
    return [{"role": "system", "content": _ASKED}, *shown, {"role": "user", "content": text}]


class Paraphraser:
    """A model that was loaded and can be asked.

    Args:
        files: its files.
        name: as the policy calls it.

    Raises:
        InputError: no causal language model, or one that no chat can ask.
    """

    def __init__(self, files: BaseModelFolder, name: str) -> None:
        import torch

        from presspool.common.models.models import loaded_by

        spec = Model(id=str(files.path), **files.pins)
        try:
            self._task = Generation(GenerationTable(format="chat", max_length=LONGEST), spec)
            self._task.wording.require_room()  # has it a chat template? before it is loaded
            self._given("news")  # and takes it such a chat?
            loaded = loaded_by(spec, self._task)
            self._task.take(loaded)
        # Template, tokenizer and weights are somebody else's, and fail in as many ways.
        except Exception as error:  # noqa: BLE001
            raise InputError(
                "not a model that can paraphrase",
                where=f"[robustness.paraphrases] model = {name!a}",
                expected="a causal language model with a chat template",
                got=_words(error),
                advice="name one that answers chats: `make llm` gets one",
            ) from None
        loaded.to("cuda" if torch.cuda.is_available() else "cpu")
        self._most = min(getattr(loaded.config, "max_position_embeddings", LONGEST), LONGEST)

    def written(
        self, texts: Sequence[str], advance: Callable[[], None] = lambda: None
    ) -> list[str | None]:
        """A paraphrase of each text; None where there is no room for one, or it came to no end.

        Args:
            texts: any.
            advance: called after each.
        """
        given, rooms = list(map(self._asked, texts)), self._rooms(texts)
        found: list[str | None] = [None] * len(texts)
        order = sorted(range(len(texts)), key=lambda i: (len(given[i]), i))
        for start in range(0, len(order), AT_ONCE):
            some = order[start : start + AT_ONCE]
            fit = [i for i in some if given[i] and len(given[i]) + rooms[i] <= self._most]
            if fit:
                room = min(max(rooms[i] for i in fit), self._most - len(given[fit[-1]]))
                said = self._said([given[i] for i in fit], room)
                for i, text in zip(fit, said, strict=True):
                    found[i] = text
            for _ in some:
                advance()
        return found

    def _asked(self, text: str) -> list[int]:
        """The request's ids; none of a text that the model's template does not take."""
        with suppress(Exception):
            return self._given(text)
        return []

    def _given(self, text: str) -> list[int]:
        import pyarrow as pa

        messages = pa.array([turns.chat(request(text))], pa.large_string())
        (ids,) = self._task.wording.given(pa.table({"messages": messages}))
        return ids

    def _rooms(self, texts: Sequence[str]) -> list[int]:
        ids = self._task.tokenizer(list(texts), add_special_tokens=False, verbose=False)
        return [int(ROOM * len(each)) + 8 for each in ids["input_ids"]]

    def _said(self, given: list[list[int]], room: int) -> list[str | None]:
        task, found = self._task, list[str | None]()
        rules = task.writer.rules(max_new_tokens=room)
        for ids in task.writer.continued(given, rules).tolist():
            ended = any(one in task.wording.ends for one in ids)
            text = task.tokenizer.decode(ids, skip_special_tokens=True).strip()
            found.append(text if ended and turns.MARK not in text else None)
        return found


def _words(error: Exception) -> str:
    return (error.what if isinstance(error, InputError) else str(error))[:300]
