"""The way of a task into training and of its answer out, at a real outlet and in a simulation.

A real outlet has a policy and a ledger (`outlet.toml`): its gate asks decision and budget. A
simulation's outlet has neither: its gate asks only whether round and adapter are the contract's,
and charges nothing, which the results of a simulation say.

Invariants:
    * What a real gate decides hangs on contract, policy, approvals, ledger, witnesses and clock;
      data plays no part.
    * A refusal is written into the ledger before it is told to anybody.

Example: ``with opened(settings) as gate: gate.allow(asked)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from presspool.client.consent import decision, pooled_rules, received_adapter
from presspool.client.consent.approvals import FOLDER, Approvals
from presspool.client.consent.base_models import selected
from presspool.client.consent.budget import Budget
from presspool.client.consent.policy import Policy, read_policy
from presspool.client.engine.alike import prove_alike
from presspool.client.identity.identity import Identity
from presspool.client.identity.settings import OutletSettings
from presspool.client.round import Round
from presspool.client.sums.sum_party import SumParty, forget
from presspool.client.witnessing.trusted_peers import approved
from presspool.client.witnessing.witness_folder import WitnessFolder
from presspool.client.witnessing.witness_rule import WitnessRule
from presspool.common.base.errors import GuardError, StorageError
from presspool.common.contract.cohorts import turn_of
from presspool.common.contract.contract import Contract
from presspool.common.ledger.entries import GUARD_REASONS
from presspool.common.models.adapters import State, trainable
from presspool.common.wire.envelope import body_digest

if TYPE_CHECKING:
    from torch import nn

    from presspool.client.engine.compute import Compute


class Counted(Protocol):
    """A round that is being trained."""

    def step(self, count: int) -> None:
        """Step `count` of the run is about to be taken; raises `PlanError` where it may not."""

    def bind(self, data: bytes) -> str:
        """The round's bytes are about to be handed out."""


class Gate(Protocol):
    """What every task passes."""

    def allow(self, asked: Round) -> None:
        """Return if this phase may be answered now; raises `GuardError`."""

    def words(self, asked: Round) -> bytes:
        """What is said in an allowed phase that does not train."""

    def finish(self, asked: Round) -> None:
        """The run's last words are kept: erase what made them."""

    def seal(self, asked: Round, delta: State) -> State:
        """What leaves of a privatised change; raises where the pool's sums cannot be."""

    def placed(self, asked: Round) -> AbstractContextManager[None]:
        """Know where the base model of an allowed phase lies; raises `ModelError`."""

    def bound(self, asked: Round) -> str:
        """The digest of the round's bytes, if they may be handed out; "" where there are none."""

    def round(
        self, asked: Round, model: nn.Module, compute: Compute
    ) -> AbstractContextManager[Counted]:
        """Check the adapter, pay for the run, and count the round that follows."""


@dataclass(frozen=True, kw_only=True)
class Unmetered:
    """A simulation's gate: no policy is asked and nothing is charged.

    Attributes:
        name: the outlet's.
    """

    name: str

    def allow(self, asked: Round) -> None:
        """Return if this phase was agreed."""
        pooled_rules.check_known(asked)
        _check_round(asked, self.name)
        turn_of(asked.contract, self.name, number=asked.number)

    def words(self, asked: Round) -> bytes:
        """The trust model's."""
        return asked.contract.trust.answer(asked.contract, asked.task)

    def finish(self, asked: Round) -> None:
        """Pass; nothing was kept secret."""

    def seal(self, asked: Round, delta: State) -> State:
        """As the trust model does."""
        return asked.contract.trust.seal(asked.contract, delta)

    def placed(self, asked: Round) -> AbstractContextManager[None]:  # noqa: ARG002
        """It lies where the person who simulates says."""
        return nullcontext()

    def bound(self, asked: Round) -> str:  # noqa: ARG002
        """Nothing is written down."""
        return ""

    def round(
        self, asked: Round, model: nn.Module, compute: Compute
    ) -> AbstractContextManager[Counted]:
        """Check the adapter; nothing is counted."""
        received_adapter.check_adapter(asked.state, shapes=_shapes(model))
        # Once a contract: what a simulation releases is nobody's, and each proof takes batches.
        if compute.proved is None or compute.proved[0] != asked.contract.digest:
            received_adapter.check_frozen(model, asked.contract)
            prove_alike(model, asked.state, asked.contract, compute)
        return nullcontext(self)

    def step(self, count: int) -> None:
        """Pass."""

    def bind(self, data: bytes) -> str:  # noqa: ARG002
        """Pass; nothing is written down."""
        return ""


@dataclass(frozen=True, kw_only=True)
class RealGate:
    """A real outlet's gate.

    Attributes:
        name: the outlet's.
        policy: its rules.
        approvals: what its people approved.
        budget: its ledger.
        witnesses: who must have seen the round before; None where the policy asks for nobody.
        reproducible: noise can be drawn again; the ledger says so before anything is trained.
        clock: gives the time, aware of its zone.
        sums: its part in sums, where the policy lets the pool share noise.
    """

    name: str
    policy: Policy
    approvals: Approvals
    budget: Budget
    witnesses: WitnessRule | None
    reproducible: bool
    clock: Callable[[], datetime]
    sums: SumParty | None = None

    def allow(self, asked: Round) -> None:
        """Policy first, because a refusal is final; then what the ledger knows; then "not now"."""
        contract = asked.contract
        with self._recorded(contract):
            _check_round(asked, self.name)
            decision.check_declined(contract, declined=self.approvals.declined(contract.digest))
            decision.check_policy(contract, self.policy, peers=self.sums.peers if self.sums else ())
            turn_of(contract, self.name, number=asked.number)  # drawn once its rounds are few
        follows = asked.phases.follows(asked.phase)
        with self._recorded(contract):
            (self.budget.check_released if follows else self.budget.check)(
                contract.digest, number=asked.number
            )
        approved = self.approvals.approved(contract.digest)
        if self.policy.manual_approval and not approved:
            with suppress(StorageError):  # the run waits all the same
                self.approvals.ask(contract)
        decision.check_approval(self.policy, contract, approved=approved)
        decision.check_time(self.policy, self.clock())
        if self.witnesses is not None:
            with self._recorded(contract):
                self._check_witnessed(self.witnesses, asked)

    def _check_witnessed(self, witnesses: WitnessRule, asked: Round) -> None:
        """What a phase starts from is in the log: the adapter, or the keys of who masks."""
        contract = asked.contract.digest
        if asked.trains or not asked.masked:
            witnesses.check(contract, number=asked.number, adapter=asked.base)
        elif asked.phase == 1:  # all that follows is bound to what is agreed here
            witnesses.check_keys(contract, keys=body_digest(asked.task.said))

    def words(self, asked: Round) -> bytes:
        """The trust model's, or, of masks, this outlet's own."""
        if not asked.masked:
            return asked.contract.trust.answer(asked.contract, asked.task)
        assert self.sums is not None  # the policy allows them
        with self._recorded(asked.contract):
            return self.sums.say(asked)

    def finish(self, asked: Round) -> None:
        """This outlet's secrets of the run's sums are of no more use."""
        if asked.masked:
            assert self.sums is not None
            forget(self.sums.home, asked.contract.digest)

    def seal(self, asked: Round, delta: State) -> State:
        """As the trust model does, or under masks."""
        if not asked.masked:
            return asked.contract.trust.seal(asked.contract, delta)
        assert self.sums is not None
        with self._recorded(asked.contract):
            return self.sums.seal(asked, delta)

    def placed(self, asked: Round) -> AbstractContextManager[None]:
        """Where the policy says; the name in the contract is no address."""
        return selected(asked.contract.model, self.policy.base_models).placed()

    def bound(self, asked: Round) -> str:
        """As the ledger has it."""
        return self.budget.bound(asked.contract.digest, number=asked.number)

    @contextmanager
    def round(self, asked: Round, model: nn.Module, compute: Compute) -> Iterator[Counted]:
        """The adapter is checked before the run is reserved: a poisoned one costs nothing."""
        contract, state, policy = asked.contract, asked.state, self.policy
        largest, loudest = policy.max_adapter_norm, policy.max_branch_ratio
        with self._recorded(contract):
            received_adapter.check_adapter(state, shapes=_shapes(model), largest=largest)
            received_adapter.check_branches(state, model, contract, largest=loudest)
        received_adapter.check_frozen(model, contract)
        prove_alike(model, state, contract, compute)
        if asked.masked:
            assert self.sums is not None  # the policy allows them
            with self._recorded(contract):
                self.sums.require(asked)
        with self.budget.round(
            contract, number=asked.number, adapter=asked.base, reproducible=self.reproducible
        ) as meter:
            yield meter

    @contextmanager
    def _recorded(self, contract: Contract) -> Iterator[None]:
        try:
            yield
        except GuardError as error:
            if error.code in GUARD_REASONS:
                self.budget.refuse(contract.digest, error.code)
            raise


@contextmanager
def opened(settings: OutletSettings, *, loopback: bool = False) -> Iterator[Gate]:
    """The gate of an outlet; its ledger is open as long as the block runs.

    Args:
        settings: the outlet's.
        loopback: whoever carries the task knows that the coordinator is on this machine.

    Raises:
        InputError: its policy cannot be read, or its noise can be drawn again and the coordinator
            may be anywhere.
        LedgerError: there is no ledger where the settings name one.
    """
    if settings.policy is None or settings.ledger is None:
        yield Unmetered(name=settings.name)
        return
    settings.require_noise(loopback=loopback)
    policy, kept = read_policy(settings.policy), WitnessFolder.at(settings.home)
    with Budget.open(
        settings.ledger,
        policy=policy,
        dataset=settings.dataset,
        head=kept.own_head,
        outlet=settings.name,
    ) as budget:
        yield RealGate(
            name=settings.name,
            policy=policy,
            budget=budget,
            clock=lambda: datetime.now(UTC),
            approvals=Approvals(settings.policy.parent / FOLDER),
            witnesses=_witnesses(settings.home, policy),
            reproducible=settings.deterministic is not None,
            sums=_sums(settings, policy),
        )


def _sums(settings: OutletSettings, policy: Policy) -> SumParty | None:
    """The outlet's part in sums; none where no noise may be shared."""
    if "pooled" not in policy.trust:
        return None
    return SumParty(
        home=settings.home,
        name=settings.name,
        peers={peer.outlet: peer.witness.public for peer in approved(settings.home)},
    )


def _check_round(asked: Round, name: str) -> None:
    number, phase, phases = asked.number, asked.phase, len(asked.phases)
    decision.check_round(asked.contract, name=name, number=number, phase=phase, phases=phases)


@lru_cache(maxsize=1)  # of one model after another, to all outlets that a worker serves
def _shapes(model: nn.Module) -> received_adapter.Shapes:
    return {name: tuple(parameter.shape) for name, parameter in trainable(model).items()}


def _witnesses(home: Path, policy: Policy) -> WitnessRule | None:
    """The rule of the outlet at a home; none where its policy asks for none."""
    if not policy.witnesses.required:
        return None
    return WitnessRule.of(Identity.read(home), liars=policy.witnesses.liars)
