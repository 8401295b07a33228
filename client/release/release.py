"""The one exit: everything that leaves an outlet in any phase of a round passes through here.

The complete list of what may leave is the fields of `AdapterUpdate`: outlet name, round, phase,
contract digest, digest of the adapter it started from, and either the privatised change of the
adapter, sealed by the trust model, or the trust model's own words, made without readers. Reader
counts, losses, accuracies, error texts, file names and timings are not on it. A failure leaves as
one number of the fixed list `presspool.common.wire.update.FAILURES`, and no text.

Invariant: what is done to the change here is a function of the already privatised numbers and of
public constants (post-processing), so it costs no privacy.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from flwr.app import Error, Message
from numpy.typing import NDArray

from presspool.common.base.errors import (
    BudgetError,
    ContractError,
    EngineError,
    EvidenceError,
    GuardError,
    InputError,
    LedgerError,
    ModelError,
    SelfTestError,
    VersionError,
)
from presspool.common.contract.contract import Contract
from presspool.common.models.adapters import State, norm
from presspool.common.wire.flower import to_bytes
from presspool.common.wire.update import FAILURES, AdapterUpdate, TrainTask, pack_update


def release(update: AdapterUpdate, contract: Contract, seal: Callable[[State], State]) -> bytes:
    """The exact bytes of an update; a change is scaled down to the contract's norm cap if above.

    Args:
        update: the privatised update.
        contract: the run's.
        seal: what leaves of a change, by the run's trust model.
    """
    change = update.delta
    if not contract.trust.adds_up:  # a share of a sum has a meaning in it alone
        change = _capped(change, contract.federation.update_norm_cap)
    sealed = AdapterUpdate(
        outlet=update.outlet,
        round=update.round,
        phase=update.phase,
        contract=update.contract,
        base=update.base,
        delta=seal(change),
    )
    return to_bytes(pack_update(sealed))


def release_words(task: TrainTask, said: bytes, *, outlet: str, base: str) -> bytes:
    """The exact bytes of an answer in a phase that does not train: words, and no array.

    Args:
        task: the phase's.
        said: the words, made of it, of contract and keys.
        outlet: who answers.
        base: digest of the adapter that the round starts from.
    """
    answer = AdapterUpdate(
        outlet=outlet,
        round=task.round,
        phase=task.phase,
        contract=task.digest,
        base=base,
        delta={},
        said=said,
    )
    return to_bytes(pack_update(answer))


def release_failure(error: Exception, *, reply_to: Message) -> Message:
    """The reply that says that an outlet could not train: a code, and nothing of the error's text.

    Args:
        error: what happened; it has been shown to the outlet's own operator.
        reply_to: the task's message.
    """
    code = failure_code(error)
    return Message(Error(code=code, reason=FAILURES[code]), reply_to=reply_to)


def failure_code(error: Exception) -> int:
    """All that leaves of an error: its number in `FAILURES`."""
    if isinstance(error, GuardError) and error.code in _NUMBERS:
        return _NUMBERS[error.code]
    return next((code for code, kinds in _CODES.items() if isinstance(error, kinds)), INTERNAL)


INTERNAL = 5
_CODES: dict[int, tuple[type[Exception], ...]] = {
    13: (VersionError,),  # a `ContractError` too
    1: (ContractError,),
    2: (ModelError,),
    3: (EngineError, SelfTestError),
    4: (InputError,),
    8: (BudgetError,),
    11: (LedgerError, EvidenceError),
}
_NUMBERS = {word: number for number, word in FAILURES.items()}


def _capped(delta: State, cap: float) -> dict[str, NDArray[np.float32]]:
    # Room for the float32 rounding of the scaled values.
    factor = min(1.0, cap * (1 - 1e-6) / max(norm(delta), 1e-30))
    return {name: (array * np.float32(factor)).astype(np.float32) for name, array in delta.items()}
