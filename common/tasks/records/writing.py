"""How a model goes on from what is given: greedily, or with beams; nothing is drawn by lot.

Invariant: the same model, machine and table write the same of the same list.

Example: `Writer(loaded, wording, table).answers([[1, 5, 7]])`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from presspool.common.tasks.records.wording import Wording
from presspool.common.tasks.records.writing_table import GenerationTable

if TYPE_CHECKING:
    from torch import Tensor

Watch = Callable[[list[list[int]]], list[bool]]
"""From what every row has so far to whether it is done."""
AT_ONCE = 16
"""Texts that are written together, all beams of them counted."""


class Writer:
    """A language model that writes after a table's rules.

    Args:
        loaded: the model, with its output words.
        wording: gives what ends, and the tokenizer.
        table: the contract's [task].
    """

    def __init__(self, loaded: Any, wording: Wording, table: GenerationTable) -> None:
        self._loaded, self._wording, self._table = loaded, wording, table

    def answers(self, given: Sequence[Sequence[int]]) -> list[str]:
        """What the model writes after each row of ids; equal ones are asked once."""
        asked = [tuple(ids) for ids in given]
        different = sorted(set(asked), key=lambda ids: (len(ids), ids))
        known, rows = dict[tuple[int, ...], str](), max(1, AT_ONCE // self._table.beams)
        for start in range(0, len(different), rows):
            some = different[start : start + rows]
            known |= zip(some, self._written(list(map(list, some))), strict=True)
        return [known[ids] for ids in asked]

    def _written(self, given: list[list[int]]) -> list[str]:
        said: list[str] = self._wording.tokenizer.batch_decode(
            self.continued(given, self.rules()), skip_special_tokens=True
        )
        return [text.strip() for text in said]

    def continued(self, given: list[list[int]], rules: Any, watch: Watch | None = None) -> Tensor:
        """What comes after each row, (rows, tokens) int64; behind a row's end is padding.

        Args:
            given: ids, of `AT_ONCE` rows at most.
            rules: of `rules`.
            watch: told after each token; with one beam only.
        """
        import torch

        apart = self._wording.paired  # then what is written begins with the decoder's own token
        batch = self._wording.padded(given, left=not apart)
        width = 1 if apart else batch["input_ids"].shape[1]
        more = {} if watch is None else {"stopping_criteria": [_watching(watch, width)]}
        with torch.no_grad():
            on = {name: values.to(self._loaded.device) for name, values in batch.items()}
            found: Tensor = self._loaded.generate(**on, generation_config=rules, **more)
        return found[:, width:]

    def rules(self, **changes: Any) -> Any:
        """The table's, as transformers has them, but for some changes."""
        from transformers import GenerationConfig

        table = self._table
        more: dict[str, Any] = (
            {"min_new_tokens": table.answer_at_least} if table.answer_at_least else {}
        )
        if table.beams > 1:
            more |= {"num_beams": table.beams, "length_penalty": table.length_penalty}
        if self._wording.paired:
            more |= {"decoder_start_token_id": self._loaded.config.decoder_start_token_id}
        known = {
            "max_new_tokens": table.answer_length,
            "do_sample": False,
            "eos_token_id": self._wording.ends,
            "pad_token_id": self._wording.tokenizer.pad_token_id,
        }
        return GenerationConfig(**known | more | changes)


def _watching(watch: Watch, width: int) -> Any:
    """The watch as transformers asks it."""
    import torch
    from transformers import StoppingCriteria

    class Watching(StoppingCriteria):  # type: ignore[misc]
        def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
            done = watch(input_ids[:, width:].tolist())
            return torch.tensor(done, device=input_ids.device)

    return Watching()
