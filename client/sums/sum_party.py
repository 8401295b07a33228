"""What an outlet says, phase by phase, so that of its answer nothing but the pool's sum is seen.

::

    keys      the coordinator names the cohort's keys; back goes a key for this run, signed
    shares    everybody's keys; back go shares of this round's masks, sealed for each other outlet
    train     what the others sealed; back go the whole numbers, masked
    consent   who is in the sum; back goes a signature on it
    reveal    enough signatures; back goes, for each outlet, a share of one of its two masks

The protocol is `presspool.common.secagg`. Here its messages are taken from tasks, and its record is
kept: `sums/<contract>` at the outlet's home, for this user alone, gone when the last round's words
are kept, or when its operator ends the run.

Invariants:
    * One program at a time has part in the sums of a home: a second one would not know what the
      first has signed.
    * A peer that this outlet's operator approved signs with the approved key, or nothing is said.
    * A round has one attempt: its masks, once used, are used for no other numbers, also after a
      kill. Asked again, the same bytes are said, or none.
    * What is said is a function of contract, keys and randomness; readers have part in the masked
      numbers alone.

Example: ``SumParty(home=home, name="a", peers={}).say(asked)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from presspool.client.identity.identity import identity_folder
from presspool.client.round import Round
from presspool.common.base.errors import (
    BusyError,
    EvidenceError,
    GuardError,
    PlanError,
    QuorumError,
    StorageError,
)
from presspool.common.base.files import draft_of, private_folder
from presspool.common.base.locks import locked
from presspool.common.models.adapters import State
from presspool.common.pki.keys import SigningKey, read_secret, write_secret
from presspool.common.secagg.masks import arrays_in
from presspool.common.secagg.secagg_messages import (
    Bundles,
    CohortKeys,
    Delivery,
    Roster,
    SurvivorSet,
    TurnMessage,
)
from presspool.common.secagg.secagg_outlet import OutletRecord, SecaggOutlet
from presspool.common.secagg.secagg_plan import (
    ATTEMPT,
    MOST_OUTLETS,
    SecaggPlan,
    contract_context,
    plan_of,
)

FOLDER = "sums"
_COHORT_BYTES = 256 * MOST_OUTLETS


@dataclass(frozen=True, kw_only=True)
class SumParty:
    """One outlet in the sums of all its runs.

    Attributes:
        home: the outlet's.
        name: the outlet's.
        peers: those that its operator approved, and their public keys.
    """

    home: Path
    name: str
    peers: Mapping[str, bytes]

    @cached_property
    def signer(self) -> SigningKey:
        """The key by which other outlets know this one: it cosigns their heads, and signs here."""
        return SigningKey.read(identity_folder(self.home) / "witness.key")

    def say(self, asked: Round) -> bytes:
        """The words of a phase that does not train.

        Raises:
            GuardError: an approved peer's key is another one; or what the coordinator passes on is
                not what the protocol asks for, of fewer outlets than a sum may have, or of a round
                that is over here.
            BusyError: another program has part in this home's sums at this moment.
            InputError: the record, or the key, is open to others.
            StorageError: the disk refuses.
        """
        phases: dict[str, Callable[[Round], bytes]] = {
            "keys": self._keys,
            "shares": self._shares,
            "consent": self._consent,
            "reveal": self._reveal,
        }
        with _alone(self.home), _refused(asked):
            return phases[asked.phases[asked.phase - 1]](asked)

    def require(self, asked: Round) -> None:
        """Return if this outlet's numbers of a round can be masked; before anything is paid for it.

        Raises:
            As `say`; `GuardError` also where numbers were masked in this round before.
        """
        with _alone(self.home), _refused(asked):
            plan, outlet = self._known(asked)
            outlet.received(self._delivery(asked, plan))
        if outlet.has_masked:
            raise GuardError(
                "round-released",
                "numbers were masked in this round, and then the program was killed",
                where=f"round {asked.number} of {asked.contract.digest}",
                expected="one training a round",
                advice="nothing: the others go on, and the next round asks again",
            )

    def seal(self, asked: Round, delta: State) -> State:
        """Whole numbers under masks, in the ring.

        Args:
            asked: the phase that trains; `require` has returned for it.
            delta: name to int64 array.

        Raises:
            As `say`; also where another program has masked numbers in the meantime.
        """
        flat = np.concatenate([delta[name].ravel() for name in sorted(delta)])
        with _alone(self.home), _refused(asked):
            plan, outlet = self._known(asked)
            masked = outlet.mask(self._delivery(asked, plan), flat)
        whole = np.frombuffer(masked.values, dtype=f"<i{plan.ring_bits // 8}")
        return arrays_in(whole, {name: array.shape for name, array in delta.items()})

    def _keys(self, asked: Round) -> bytes:
        cohort = CohortKeys.from_bytes(asked.task.said, most=_COHORT_BYTES)
        plan = self._plan(asked, cohort)
        if _file(self.home, asked.contract.digest).exists():
            known, outlet = self._known(asked)
            if known.context != plan.context:
                raise EvidenceError("another cohort than before", where="keys of a run's outlets")
        else:
            private_folder(self.home / FOLDER)
            outlet = SecaggOutlet.begin(plan, self.name, self.signer, self._save(asked, cohort))
        return outlet.advertise().to_bytes()

    def _shares(self, asked: Round) -> bytes:
        plan, outlet = self._known(asked)
        outlet.join(Roster.from_bytes(asked.task.said, most=plan.message_bytes))
        return outlet.share(asked.number, ATTEMPT).to_bytes()

    def _consent(self, asked: Round) -> bytes:
        plan, outlet = self._known(asked)
        return outlet.consent(self._survivors(asked, plan)).to_bytes()

    def _reveal(self, asked: Round) -> bytes:
        plan, outlet = self._known(asked)
        return outlet.reveal(self._survivors(asked, plan)).to_bytes()

    def _delivery(self, asked: Round, plan: SecaggPlan) -> Delivery:
        most = plan.message_bytes
        bundles = Bundles.from_bytes(asked.task.said, most=most * (len(plan.cohort) + 1))
        _require_round(asked, bundles)
        return bundles.delivery(self.name, most=most)

    def _survivors(self, asked: Round, plan: SecaggPlan) -> SurvivorSet:
        survivors = SurvivorSet.from_bytes(asked.task.said, most=plan.message_bytes)
        _require_round(asked, survivors)
        return survivors

    def _plan(self, asked: Round, cohort: CohortKeys) -> SecaggPlan:
        """The run's sums, if the cohort is the contract's, with the keys that are known here."""
        contract, keys = asked.contract, dict(cohort.keys)
        if cohort.context != contract_context(contract):
            raise EvidenceError("of another contract", where="keys of a run's outlets")
        if keys.keys() != contract.outlets.keys():
            raise EvidenceError(
                "not the contract's outlets",
                where="keys of a run's outlets",
                expected=", ".join(sorted(contract.outlets)),
                got=len(keys),
            )
        for name, key in {**self.peers, self.name: self.signer.public}.items():
            if keys.get(name, key) != key:
                raise GuardError(
                    "policy-peers",
                    "another key than the one that you approved",
                    where=f"keys of a run's outlets: {name}",
                    expected="the key of presspool outlet peers",
                    got="another",
                    advice="ask the peer's operator; if its key has changed, approve it anew",
                )
        return plan_of(contract, keys)

    def _known(self, asked: Round) -> tuple[SecaggPlan, SecaggOutlet]:
        """The run's sums as they were begun here."""
        if not _file(self.home, asked.contract.digest).exists():
            raise GuardError(
                "round-not-agreed",
                "no keys of this run were exchanged here, or its sums are over",
                where=f"round {asked.number} of {asked.contract.digest}",
                expected="a run in whose first phase this outlet took part",
                advice="nothing: the outlets that did go on without this one",
            )
        cohort, rest = CohortKeys.apart(read_secret(_file(self.home, asked.contract.digest)))
        record = OutletRecord.from_bytes(rest, most=len(rest))
        plan, save = self._plan(asked, cohort), self._save(asked, cohort)
        return plan, SecaggOutlet(plan, self.name, self.signer, record, save)

    def _save(self, asked: Round, cohort: CohortKeys) -> Callable[[bytes], None]:
        file = _file(self.home, asked.contract.digest)
        return lambda record: write_secret(file, cohort.before(record))


def forget(home: Path, contract: str) -> None:
    """Erase what could open an outlet's part in a run's sums: the run is over here.

    Args:
        home: the outlet's.
        contract: the run's digest.

    Raises:
        BusyError: another program has part in this home's sums, and would write it again.
        StorageError: the disk refuses.
    """
    file = _file(home, contract)
    if not file.exists():
        return
    with _alone(home):
        try:
            # What a kill left half written goes first: the record is what it is found by.
            for path in (draft_of(file), file):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError("cannot erase", where=str(file), got=error.strerror) from None


def remembered(home: Path) -> set[str]:
    """Digests of the runs in whose sums an outlet has part."""
    return {f"sha256:{path.name}" for path in (home / FOLDER).glob("[0-9a-f]*")}


def _alone(home: Path) -> AbstractContextManager[object]:
    """A home's sums, for this program alone."""
    busy = BusyError(
        "another program has part in this outlet's sums",
        where=str(home),
        expected="one program an outlet",
        advice="stop the other one first",
    )
    return locked(home / "sums.lock", busy=busy)


def _file(home: Path, contract: str) -> Path:
    return home / FOLDER / contract.removeprefix("sha256:")


def _require_round(asked: Round, said: TurnMessage) -> None:
    """What ledger and policy allowed is the task's round: no words of another count in it."""
    if said.round != asked.number:
        raise EvidenceError(
            "of another round than its task",
            where=type(said).__name__,
            expected=asked.number,
            got=said.round,
        )


@contextmanager
def _refused(asked: Round) -> Iterator[None]:
    """What opens no sum is refused in one word; what was wrong stays with the operator."""
    try:
        yield
    except (EvidenceError, QuorumError, PlanError) as error:
        raise GuardError(
            "sum-refused",
            f"the coordinator passed on what opens no sum: {error.what}",
            where=f"round {asked.number}, {asked.phases[asked.phase - 1]}: {error.where}",
            expected=error.expected,
            got=error.got,
            advice="ask the coordinator; nothing of this round was revealed by this message",
        ) from None
