"""Outlets that lie: what comes from some of them in an experiment is not what they trained.

An attack takes what the honest outlets sent in a round, since the worst liars know it, and what the
liar itself would have sent; all liars send the same attack. Lies stay below the contract's norm
cap, for what is above it is refused.

* `sign flip`: the opposite of what was trained.
* `scaled`: the opposite a thousand times, which is as much as the cap lets through.
* `a little`: the honest mean less 1.5 standard deviations, coordinate by coordinate (Baruch, Baruch
  & Goldberg, NeurIPS 2019, algorithm 3; their z would be 0 for two liars among eight).
* `inner product`: the honest mean ten times, in the opposite direction (Xie, Koyejo & Gupta, UAI
  2019, section 3.2).

Liars that train on wrong labels send what they trained: they are made in the data.

Example: `LyingGrid(grid_settings, workers=0, liars=("outlet-7",), attack="sign flip", cap=100.0)`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from flwr.app import Message
from numpy.typing import NDArray

from presspool.common.models.adapters import State, norm
from presspool.common.wire.flower import stamp
from presspool.common.wire.update import AdapterUpdate, pack_update, unpack_update
from presspool.simulations.grids.local_grid import LocalGrid

LITTLE, AGAINST, LOUD = 1.5, 10.0, 1000.0
_BELOW = 1 - 1e-4  # of the cap: it is compared after rounding to float32
Attack = Callable[[Sequence[State], State], State]


def sign_flip(honest: Sequence[State], own: State) -> State:  # noqa: ARG001
    """The opposite of its own."""
    return {name: -array for name, array in own.items()}


def scaled(honest: Sequence[State], own: State) -> State:  # noqa: ARG001
    """The opposite of its own, as loud as may be."""
    return {name: -LOUD * array for name, array in own.items()}


def a_little(honest: Sequence[State], own: State) -> State:
    """Within the spread of the honest, always on the same side of their mean."""
    spread = {name: np.stack([state[name] for state in honest]) for name in own}
    return {name: rows.mean(0) - LITTLE * rows.std(0) for name, rows in spread.items()}


def inner_product(honest: Sequence[State], own: State) -> State:
    """Against the honest mean."""
    return {name: -AGAINST * np.mean([state[name] for state in honest], axis=0) for name in own}


ATTACKS: Final[Mapping[str, Attack]] = {
    "sign flip": sign_flip,
    "scaled": scaled,
    "a little": a_little,
    "inner product": inner_product,
}


class LyingGrid(LocalGrid):
    """A simulation's grid some of whose outlets lie.

    Args:
        outlets: as for `LocalGrid`, likewise `more`.
        liars: names of those that do.
        attack: one of `ATTACKS`.
        cap: the contract's norm cap.
    """

    def __init__(
        self,
        outlets: Sequence[Path],
        *,
        liars: Collection[str],
        attack: str,
        cap: float,
        **more: Any,
    ) -> None:
        super().__init__(outlets, **more)
        self._liars, self._attack, self._cap = liars, ATTACKS[attack], cap

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """The replies, the liars' changed."""
        asked = list(messages)
        replies = list(super().send_and_receive(asked, timeout=timeout))
        said = [unpack_update(reply.content) for reply in replies]
        honest = [update.delta for update in said if update.outlet not in self._liars]
        return [
            self._lied(message, reply, update, honest) if update.outlet in self._liars else reply
            for message, reply, update in zip(asked, replies, said, strict=True)
        ]

    def _lied(
        self, asked: Message, reply: Message, update: AdapterUpdate, honest: Sequence[State]
    ) -> Message:
        lie = self._attack(honest, update.delta)
        quiet = min(1.0, _BELOW * self._cap / max(norm(lie), 1e-30))
        delta: dict[str, NDArray[np.float32]] = {
            name: (quiet * array).astype(np.float32) for name, array in lie.items()
        }
        told = Message(pack_update(replace(update, delta=delta)), reply_to=asked)
        return stamp(told, reply.metadata.message_id)
