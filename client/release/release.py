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

from dataclasses import replace

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
)
from presspool.common.contract.contract import Contract
from presspool.common.models.adapters import State, digest, norm
from presspool.common.wire.update import FAILURES, AdapterUpdate, TrainTask, pack_update


def release(update: AdapterUpdate, *, contract: Contract, reply_to: Message) -> Message:
    """The reply that carries an update, scaled down to the contract's norm cap if it is above.

    Args:
        update: the privatised update.
        contract: the run's; its trust model seals what is left of the change.
        reply_to: the task's message.
    """
    delta = _capped(update.delta, contract.federation.update_norm_cap)
    sealed = replace(update, delta=contract.trust.seal(contract, delta), said=b"")
    return Message(pack_update(sealed), reply_to=reply_to)


def release_words(
    task: TrainTask, contract: Contract, *, outlet: str, reply_to: Message
) -> Message:
    """The reply in a phase that does not train: the trust model's words, and no array.

    Args:
        task: the phase's; all that the words are made of, with the contract.
        contract: the run's.
        outlet: who answers.
        reply_to: the task's message.
    """
    said = AdapterUpdate(
        outlet=outlet,
        round=task.round,
        phase=task.phase,
        contract=task.digest,
        base=digest(task.state),
        delta={},
        said=contract.trust.answer(contract, task),
    )
    return Message(pack_update(said), reply_to=reply_to)


def release_failure(error: Exception, *, reply_to: Message) -> Message:
    """The reply that says that an outlet could not train: a code, and nothing of the error's text.

    Args:
        error: what happened; it has been shown to the outlet's own operator.
        reply_to: the task's message.
    """
    if isinstance(error, GuardError) and error.code in _NUMBERS:
        code = _NUMBERS[error.code]
    else:
        code = next((code for code, kinds in _CODES.items() if isinstance(error, kinds)), 5)
    return Message(Error(code=code, reason=FAILURES[code]), reply_to=reply_to)


_CODES: dict[int, tuple[type[Exception], ...]] = {
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
