"""How a model goes on from what is given: greedily, or with beams; nothing is drawn by lot.

Invariant: the same model, machine and table write the same of the same list.

Example: `Writer(loaded, wording, table).answers([[1, 5, 7]])`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from presspool.common.tasks.records.wording import Wording
from presspool.common.tasks.records.writing_table import GenerationTable

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
        import torch

        apart = self._wording.paired  # then what is written begins with the decoder's own token
        batch = self._wording.padded(given, left=not apart)
        with torch.no_grad():
            on = {name: values.to(self._loaded.device) for name, values in batch.items()}
            found = self._loaded.generate(**on, generation_config=self._rules())
        width, tokenizer = 1 if apart else batch["input_ids"].shape[1], self._wording.tokenizer
        said: list[str] = tokenizer.batch_decode(found[:, width:], skip_special_tokens=True)
        return [text.strip() for text in said]

    def _rules(self) -> Any:
        from transformers import GenerationConfig

        table = self._table
        more: dict[str, Any] = (
            {"min_new_tokens": table.answer_at_least} if table.answer_at_least else {}
        )
        if table.beams > 1:
            more |= {"num_beams": table.beams, "length_penalty": table.length_penalty}
        if self._wording.paired:
            more |= {"decoder_start_token_id": self._loaded.config.decoder_start_token_id}
        return GenerationConfig(
            max_new_tokens=table.answer_length,
            do_sample=False,
            eos_token_id=self._wording.ends,
            pad_token_id=self._wording.tokenizer.pad_token_id,
            **more,
        )
