"""`presspool audit attack`: all attacks on one outlet of a contract, each with its control.

Four arms are trained by the outlet's real app, each written after every round:

* `malicious/noise`, `malicious/control`: the coordinator sends an adapter of its choice in every
  round; who stands beside the canaries then adds nothing (`AttackedTask.sent` and `silent`).
  Neighbouring data sets may hold anybody, so this is the case that the claim must stand as well.
* `honest/noise`, `honest/control`: the contract's own averaging, and ordinary readers.

Invariants:
    * The number of guesses follows from public constants alone, before any score.
    * Arms differ in the noise and in nothing else; the canaries and coins are the same.
    * A folder belongs to one contract, outlet and choice of readers; what is there is continued,
      but of real readers nothing ever stays (`workplace`).

Example: `attack(contract, "daily-bugle", Options(out=Path("runs/attack")))`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from presspool.client.engine.randomness import SecureRandom
from presspool.common.base.errors import ContractError, FolderError
from presspool.common.base.files import replace_file
from presspool.common.contract.contract import Contract
from presspool.common.contract.privacy_plan import PrivacyPlan
from presspool.common.tasks.scores.exposure import Exposure, Scores, exposure
from presspool.simulations.attack import plan_tradeoff, scores, spans
from presspool.simulations.attack.attacked_outlet import (
    Audience,
    made_readers,
    own_readers,
    write_outlet,
)
from presspool.simulations.attack.bounds import Guesses, epsilon_lower, refutes, tail
from presspool.simulations.attack.canaries import Canaries, plant
from presspool.simulations.attack.findings import (
    FIRES,
    MOST_OF_DRAWN,
    SIGNIFICANCE,
    Attack,
    Found,
)
from presspool.simulations.attack.roc import separation
from presspool.simulations.attack.tasks.attacked_task import AttackedTask, attacked
from presspool.simulations.attack.transcript import Transcript, listen, scaled_noise
from presspool.simulations.attack.workplace import ABOUT, at_work

CANARIES = 1000
SCORED = 4  # units of progress besides rounds: two attacks, members, spans


@dataclass(frozen=True, kw_only=True)
class Options:
    """How an audit is run.

    Attributes:
        out: its folder.
        canaries: m.
        own: a real outlet's `outlet.toml` to train on; None for made readers.
        deterministic: seed of all coins and noise; None for real ones.
    """

    out: Path
    canaries: int = CANARIES
    own: Path | None = None
    deterministic: int | None = None


def units_of_work(contract: Contract) -> int:
    """How often `attack` calls `on_step`, in a new folder."""
    return 4 * contract.federation.rounds + SCORED


def guesses_made(contract: Contract, canaries: int) -> int:
    """r: half of the canaries that are expected to be in and drawn at least once.

    Who was never drawn cannot be told from who was out, so "out" is never guessed.
    """
    plan = contract.plan
    drawn = 1 - (1 - plan.sampling_rate) ** plan.steps
    return max(1, round(canaries * drawn / 4))


def refuted(guesses: Guesses, plan: PrivacyPlan) -> bool:
    """Whether so many right guesses refute the plan's own claim, by either bound."""
    return tail(guesses, epsilon=plan.epsilon(), delta=plan.delta) < SIGNIFICANCE or refutes(
        guesses, plan_tradeoff.tradeoff(plan), p=SIGNIFICANCE
    )


def attack(
    contract: Contract,
    outlet: str,
    options: Options,
    *,
    on_step: Callable[[], None] = lambda: None,
    _noise_scale: float = 1.0,
) -> Attack:
    """Run, or continue, all attacks on one outlet.

    Args:
        contract: frozen and protected.
        outlet: its name in the contract.
        options: folder, canaries, readers.
        on_step: called for progress.
        _noise_scale: for tests alone: noise that is drawn over noise that is claimed.

    Raises:
        ContractError: nothing is claimed, the contract does not know the outlet, or no attack is
            written for its task.
        FolderError: the folder belongs to another audit, or another attack works in it.
    """
    _require(contract, outlet)
    with at_work(options.out, own=options.own is not None):
        return _attack(_Bench.prepare(contract, outlet, options), on_step, _noise_scale)


def _attack(bench: _Bench, on_step: Callable[[], None], noise_scale: float) -> Attack:
    contract, options = bench.contract, bench.options
    arms = {
        (who, scale): bench.arm(who, scale, on_step)
        for who in ("malicious", "honest")
        for scale in (noise_scale, 0.0)
    }
    malicious, honest = (
        [arms[who, scale] for scale in (noise_scale, 0.0)] for who in ("malicious", "honest")
    )
    updates = bench.found([scores.from_updates(t, bench.canaries) for t in malicious])
    on_step()
    known = [scores.from_losses(t, bench.canaries) for t in honest]
    adapter = bench.found(known)
    exposed, exposed_control = (bench.exposure(one) for one in known)
    on_step()
    members, members_control = (separation(*scores.of_readers(t, bench.audience)) for t in honest)
    on_step()
    tokens_control, tokens = bench.spans()
    on_step()
    return Attack(
        contract=contract.digest,
        outlet=bench.outlet,
        readers=bench.kind,
        claimed=contract.plan.epsilon(),
        delta=contract.plan.delta,
        updates=updates,
        adapter=adapter,
        members=members,
        members_control=members_control,
        tokens=tokens,
        tokens_control=tokens_control,
        tokens_left_out=bench.task.spans_left_out,
        exposure=exposed,
        exposure_control=exposed_control,
        reproducible=options.deterministic is not None,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Bench:
    """What all arms share."""

    contract: Contract
    outlet: str
    options: Options
    canaries: Canaries
    audience: Audience

    @classmethod
    def prepare(cls, contract: Contract, outlet: str, options: Options) -> _Bench:
        random = _coins(contract, outlet, options)
        canaries = plant(contract, options.canaries, random)
        audience = (
            made_readers(contract, outlet, random)
            if options.own is None
            else own_readers(options.own, random, attacked(contract).columns)
        )
        return cls(
            contract=contract, outlet=outlet, options=options, canaries=canaries, audience=audience
        )

    @property
    def kind(self) -> str:
        return "made" if self.options.own is None else "own"

    @cached_property
    def task(self) -> AttackedTask:
        return attacked(self.contract)

    def arm(self, who: str, scale: float, on_round: Callable[[], None]) -> Transcript:
        folder = self.options.out / f"{who}-{'control' if scale == 0 else 'noise'}"
        folder.mkdir(parents=True, exist_ok=True)
        silent, members = who == "malicious", self.audience.members
        beside = self.task.silent(members) if silent else members
        settings = write_outlet(
            folder,
            self.outlet,
            pa.concat_tables([beside, self.task.planted(self.canaries)]),
            deterministic=self.options.deterministic,
        )
        return listen(
            scaled_noise(self.contract, scale),
            settings,
            folder / "rounds.npz",
            sent=self.task.sent() if silent else None,
            on_round=on_round,
        )

    def found(self, by_noise: list[Scores]) -> Found:
        noisy, quiet = by_noise
        inside, plan = self.canaries.included, self.contract.plan
        guesses, bare = self._guesses(noisy), self._guesses(quiet)
        best = dataclasses.replace(guesses, right=guesses.made)
        control = separation(quiet[inside], quiet[~inside])
        drawn = 1 - (1 - plan.sampling_rate) ** plan.steps
        return Found(
            guesses=guesses,
            any_mechanism=epsilon_lower(guesses, delta=plan.delta, p=SIGNIFICANCE),
            this_mechanism=plan_tradeoff.epsilon_lower(guesses, plan, p=SIGNIFICANCE),
            ceiling=max(
                epsilon_lower(best, delta=plan.delta, p=SIGNIFICANCE),
                plan_tradeoff.epsilon_lower(best, plan, p=SIGNIFICANCE),
            ),
            separation=separation(noisy[inside], noisy[~inside]),
            control=control,
            fired=control.tpr >= min(FIRES, MOST_OF_DRAWN * drawn) and refuted(bare, plan),
        )

    def exposure(self, known: Scores) -> Exposure | None:
        inside = self.canaries.included
        return exposure(known[inside], known[~inside]) if self.task.exposes else None

    def _guesses(self, score: Scores) -> Guesses:
        inside = self.canaries.included
        made = guesses_made(self.contract, len(inside))
        guessed = np.argsort(-score, kind="stable")[:made]
        return Guesses(canaries=len(inside), made=made, right=int(inside[guessed].sum()))

    def spans(self) -> tuple[spans.Recovered | None, spans.Recovered | None]:
        """The token check: its positive control, and under the plan; None where it is left out."""
        if self.task.spans_left_out:
            return None, None
        random = SecureRandom()
        if self.options.deterministic is not None:
            random = SecureRandom.deterministic(self.options.deterministic, "spans")
        out, seed = self.options.out, self.options.deterministic
        records = pa.concat_tables([self.audience.members, self.task.planted(self.canaries)])
        return (
            spans.positive_control(
                self.contract, self.canaries, self.outlet, out / "span-control", random
            ),
            spans.under_plan(
                self.contract,
                self.canaries,
                self.outlet,
                records,
                out / "span-plan",
                random,
                deterministic=seed,
            ),
        )


def _coins(contract: Contract, outlet: str, options: Options) -> SecureRandom:
    """The attacker's generator: a seed that is drawn once a folder, so that it can be continued."""
    path, own = options.out / ABOUT, options.own
    body = {
        "contract": contract.digest,
        "outlet": outlet,
        "canaries": options.canaries,
        "own": str(own.resolve()) if own else None,
        "deterministic": options.deterministic,
    }
    if not path.exists():
        secret = options.deterministic
        if secret is None:
            secret = int(SecureRandom().words(1)[0])
        replace_file(path, json.dumps({**body, "coins": secret}).encode())
    kept = json.loads(path.read_bytes())
    secret = kept.pop("coins")
    if kept != body:
        raise FolderError(
            "the folder holds another audit",
            where=str(options.out),
            expected=body,
            got=kept,
            advice="choose another --out",
        )
    return SecureRandom.deterministic("attack", secret)


def _require(contract: Contract, outlet: str) -> None:
    attacked(contract)
    if not contract.plan.protected:
        raise ContractError(
            "nothing to attack",
            where="[privacy] epsilon",
            expected="a finite ε",
            got="inf",
            advice="an unprotected run claims nothing",
        )
    if contract.trust.adds_up:
        raise ContractError(
            "the attacks look at one outlet's updates, and a pooled sum has none",
            where="[federation] trust",
            expected="local",
            got=contract.federation.trust,
            advice="attack the same run with trust = 'local'",
        )
    if contract.federation.cohort is not None:
        raise ContractError(
            "the attacks follow one outlet through every round, and cohorts take turns",
            where="[federation] cohort",
            expected="no cohort",
            got=contract.federation.cohort,
            advice="attack the same run without the key: there an outlet gives away no less",
        )
    if outlet not in contract.outlets:
        raise ContractError(
            "unknown outlet",
            where="--outlet",
            expected=", ".join(sorted(contract.outlets)),
            got=outlet,
        )
