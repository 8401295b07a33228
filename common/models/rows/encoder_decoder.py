"""An encoder and a decoder that read a record's tokens in one row: source, its end, what is said.

The rest of PressPool knows rows of tokens and a state for each place. Here a row is parted at its
first token that ends a text: the encoder reads up to it, the decoder says what stands behind it,
and its states go back to the places of the tokens before those that they foretell. So a model of
the T5 or BART family is trained, judged and proved as any other that writes.

Invariants:
    * Encoder and decoder run at the row's whole width, which is public; what is not a row's own
      source is masked, and the decoder sees no place after its own. Where a row is parted depends
      on that row alone.
    * No mask is ever full: a source leaves room for what is said. Transformers leaves full ones
      out, which would be another computation.
    * The state at a place foretells the next token, as with a model that has a decoder alone.

Example: `Paired(T5ForConditionalGeneration(config))(ids, mask).last_hidden_state`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from presspool.common.base.errors import ModelError


class Paired(nn.Module):
    """Encoder and decoder as one module with `last_hidden_state`.

    Args:
        loaded: a model of transformers for conditional generation.

    Attributes:
        config: its configuration.
        encoder, decoder: its halves.
        spared: names of layers that no adapter bends, as a pattern: what reads is frozen, what says
            and looks back trains.
    """

    supports_gradient_checkpointing = False
    spared = r"encoder\.encoder\..*"

    def __init__(self, loaded: Any) -> None:
        super().__init__()
        self.config: Any = loaded.config
        self.encoder, self.decoder = loaded.get_encoder(), loaded.get_decoder()
        scaled = getattr(self.config, "scale_decoder_outputs", False)
        self._scale = float(self.config.d_model) ** -0.5 if scaled else 1.0

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> BaseModelOutput:
        """States, (records, width, hidden): zero where a record is source.

        Args:
            input_ids: (records, width) int64: source, its end, what is said, padding.
            attention_mask: (records, width) int64, 1 for real tokens.
        """
        width = torch.arange(input_ids.shape[1], device=input_ids.device)
        ends = (input_ids == self.config.eos_token_id) & (attention_mask > 0)
        border = ends.int().argmax(1, keepdim=True)  # 0 where a filled-up row has none
        source = (width <= border).to(attention_mask.dtype)
        read = self.encoder(input_ids=input_ids, attention_mask=source).last_hidden_state
        said = input_ids.gather(1, (border + width).clamp(max=len(width) - 1))
        said[:, 0] = self.config.decoder_start_token_id
        states = self.decoder(
            input_ids=said,
            encoder_hidden_states=read,
            encoder_attention_mask=source,
            use_cache=False,
        ).last_hidden_state
        back = (width - border).clamp(min=0).unsqueeze(-1).expand(-1, -1, states.shape[-1])
        own = (width >= border).unsqueeze(-1)
        return BaseModelOutput(last_hidden_state=states.gather(1, back) * own * self._scale)


@torch.no_grad()
def check_pairs(loaded: Any, paired: Paired) -> None:
    """Try on a made record that the model's own logits are products of these states and words.

    Raises:
        ModelError: a bias, a scale or a cap is put on them, or a row's padding counts.
    """
    end = loaded.config.eos_token_id
    first, second = [i for i in range(4) if i not in (end, loaded.config.pad_token_id)][:2]
    row = torch.tensor([[first, end, second, end, end]], device=loaded.device)
    start = torch.tensor([[loaded.config.decoder_start_token_id, second]], device=loaded.device)
    own = loaded(input_ids=row[:, :2], decoder_input_ids=start).logits
    mask = torch.tensor([[1, 1, 1, 1, 0]], device=loaded.device)
    states = paired(row, mask).last_hidden_state[:, 1:3]
    if not torch.allclose(
        states @ loaded.get_output_embeddings().weight.T, own, rtol=1e-3, atol=1e-3
    ):
        raise ModelError(
            "an encoder-decoder whose loss cannot be computed here",
            where=f"[model] {loaded.config.model_type}",
            expected="logits that are plain products of states and words",
            got="others",
            advice="use another base model: a T5, mT5 or BART, say",
        )
