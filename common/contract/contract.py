"""The run contract: data, never code, that says everything a run may do to an outlet's readers.

A contract is written as the body of `run.toml`, *frozen* once by the coordinator (noise solved,
weight and tokenizer hashes filled in) and from then on known by the sha256 of its canonical JSON,
whose form its schema says (`presspool.common.contract.schema_versions`).
Outlets receive that JSON, check the digest and recompute every number they care about.

Invariants:
    * Unknown keys are errors; the nearest known key is suggested.
    * A frozen contract always carries `noise_multiplier`; ε is what that σ costs, never an input.
    * `seed` drives public initialisation and cohorts only: noise and the sampling of readers never
      come from it.
    * Equal contracts have equal bytes, so one digest names one contract on every machine.

Example:
    >>> contract = parse_contract(json.loads(EXAMPLE))
    >>> contract.plan.steps, contract.digest[:15]
    (12, 'sha256:38073223')
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from presspool import __version__
from presspool.common.base.errors import ContractError, VersionError
from presspool.common.base.validation import unknown_keys, validate
from presspool.common.contract import schema_versions
from presspool.common.contract.buffers import check_buffer
from presspool.common.contract.cohorts import check_cohort
from presspool.common.contract.contract_schema import (
    Adapter,
    AnyTask,
    Federation,
    Model,
    Name,
    Optimizer,
    PooledTable,
    Privacy,
    Server,
    Table,
)
from presspool.common.contract.doors import METHODS, TASKS, TRUST_MODELS
from presspool.common.contract.privacy_plan import PrivacyPlan

if TYPE_CHECKING:
    from presspool.common.methods.method import Method
    from presspool.common.trust.trust_model import TrustModel


class Contract(Table):
    """A validated contract; see the module for its invariants.

    Attributes:
        outlets: outlet name to declared population: readers, or records where
            `privacy.unit = "record"`. Public, nominal, never measured during a run.
        pooled: of a run whose trust model is "pooled"; others have no such key.
    """

    schema_: Literal[1, 2] = Field(default=schema_versions.CURRENT, alias="schema")
    name: Name
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 0
    model: Model = Model()
    task: AnyTask
    adapter: Adapter = Adapter()
    federation: Federation
    outlets: Annotated[dict[Name, Annotated[int, Field(strict=True, ge=1)]], Field(min_length=1)]
    privacy: Privacy
    pooled: Annotated[PooledTable | None, Field(exclude_if=lambda table: table is None)] = None
    optimizer: Optimizer
    server: Server = Server()

    @model_validator(mode="before")
    @classmethod
    def _read(cls, body: Any) -> Any:
        return schema_versions.current(body) if isinstance(body, Mapping) else body

    @model_validator(mode="after")
    def _fits_together(self) -> Contract:
        if self.federation.quorum > len(self.outlets):
            raise ValueError(
                f"federation.quorum is {self.federation.quorum}, but [outlets] lists only "
                f"{len(self.outlets)}: lower the quorum or add outlets"
            )
        check_cohort(self)
        check_buffer(self)
        if self.trust.adds_up and self.federation.attackers:
            raise ValueError(
                f"federation.robust is {self.federation.robust!r}, but under trust = "
                f"{self.federation.trust!r} only the sum of all updates is seen, and none can be "
                "told from the others: take trust = 'local', or leave robust and attackers out"
            )
        trained = self.groups
        if not trained:
            raise ValueError(
                f"adapter.method: {self.adapter.method!r} trains the head alone, which "
                f"{self.task.kind!r} does not have: take a method that trains an adapter, as 'ffa'"
            )
        if len(trained) == 1:
            for key, grouped in (
                ("privacy.clip", self.privacy.clip),
                ("optimizer.learning_rate", self.optimizer.learning_rate),
                ("server.learning_rate", self.server.learning_rate),
            ):
                if set(grouped) != {"all"}:
                    raise ValueError(f"{key}: where only the {trained[0]} trains, give one number")
        largest = max(self.outlets, key=self.outlets.__getitem__)
        if self.privacy.delta >= 1 / self.outlets[largest]:
            raise ValueError(
                f"privacy.delta is {self.privacy.delta:g}, but must be below 1/population "
                f"({1 / self.outlets[largest]:.3g} for {largest}): at that size δ would allow "
                "publishing a random reader; lower delta"
            )
        schema_versions.check_numbers(self.body())
        try:
            self.trust.check(self)
            self.method.check(self)
        except ContractError as error:
            said = f"{error.where}: {error.what}: expected {error.expected}, got {error.got}"
            raise ValueError(f"{said}: {error.advice}" if error.advice else said) from None
        return self

    @property
    def groups(self) -> tuple[str, ...]:
        """The parameter groups in which something trains: the method's, as far as the task's."""
        tasks = TASKS[self.task.kind].groups
        return tuple(group for group in self.method.groups if group in tasks)

    @property
    def frozen(self) -> bool:
        """Whether σ, both hashes and all that a trust model needs are filled in."""
        table = self.pooled
        return None not in (
            self.privacy.noise_multiplier,
            self.model.weights,
            self.model.tokenizer,
            *((table.ring_bits, table.parameters) if table is not None else ()),
        )

    @property
    def steps(self) -> int:
        """Private steps over the whole run, which learning rates are scheduled over."""
        return self.federation.rounds * self.federation.local_steps

    @property
    def outlet_steps(self) -> int:
        """T: private steps that an outlet takes at most; fewer than the run's with cohorts."""
        return self.federation.turns(len(self.outlets)) * self.federation.local_steps

    @property
    def crowd(self) -> int:
        """Outlets that are asked in a round."""
        return self.federation.cohort or self.federation.buffer or len(self.outlets)

    @property
    def plan(self) -> PrivacyPlan:
        """The privacy plan of this contract.

        Raises:
            ContractError: σ is not filled in yet.
        """
        p = self.privacy
        if p.noise_multiplier is None:
            raise ContractError("the contract is not frozen: noise_multiplier is missing")
        return PrivacyPlan(
            unit=p.unit,
            noise_multiplier=p.noise_multiplier,
            clip=p.clip,
            delta=p.delta,
            sampling_rate=p.sampling_rate,
            records_per_reader=p.records_per_reader,
            steps=self.outlet_steps,
        )

    @property
    def method(self) -> Method:
        """How its model is trained."""
        return METHODS[self.adapter.method]()

    @property
    def trust(self) -> TrustModel:
        """What its trust model makes of a round."""
        return TRUST_MODELS[self.federation.trust]()

    def weights(self) -> dict[str, float]:
        """Aggregation weight of each outlet: its declared share of all readers."""
        total = sum(self.outlets.values())
        return {name: population / total for name, population in self.outlets.items()}

    def body(self) -> dict[str, Any]:
        """The contract as JSON values, with the keys of its own schema."""
        return schema_versions.written(self.model_dump(mode="json", by_alias=True))

    def canonical(self) -> bytes:
        """The contract's bytes: canonical JSON in the form of its schema."""
        return schema_versions.canonical(self.body())

    @property
    def digest(self) -> str:
        """`sha256:` and the hash of `canonical()`."""
        return "sha256:" + hashlib.sha256(self.canonical()).hexdigest()

    def with_noise(self) -> Contract:
        """This contract with σ solved from ε (or kept where it is given), as its trust model does.

        Raises:
            ContractError: ε and σ are both given and σ costs more than ε.
        """
        p, changes = self.privacy, self.trust.filled(self)
        filled = self.replace(**changes) if changes else self
        if p.epsilon is None or p.noise_multiplier is None:
            return filled
        if (costs := self.trust.epsilon(filled)) > p.epsilon:
            raise ContractError(
                "epsilon and noise_multiplier contradict each other",
                where="[privacy]",
                expected=f"a σ that costs ε <= {p.epsilon:g}",
                got=f"σ = {p.noise_multiplier:g}, which costs ε = {costs:.3f}",
                advice="drop one of the two",
            )
        return filled

    def replace(self, **changes: Mapping[str, Any] | Any) -> Contract:
        """A validated copy; a mapping changes keys of a table, anything else replaces it."""
        body = self.model_dump(by_alias=True)
        for key, value in changes.items():
            merge = isinstance(value, Mapping) and key != "outlets"
            body[key] = {**body.get(key, {}), **value} if merge else value
        return parse_contract(body)


def parse_contract(
    body: Mapping[str, Any], *, where: str = "contract", beside: Sequence[str] = ()
) -> Contract:
    """Validate a contract body (JSON or TOML values).

    Args:
        body: the contract's tables.
        where: the file it came from, for messages.
        beside: tables of that file that stand outside the contract.

    Raises:
        ContractError: names table, key, expected and got; for an unknown key the nearest known.
    """
    return validate(Contract, body, where=where, beside=beside)


def read_canonical(text: bytes | str, *, digest: str) -> Contract:
    """The contract that was stored or sent as canonical JSON, verified against its digest.

    The digest is taken over the bytes as they came, before anything is made of them; and they must
    be the bytes that this version writes, so that nothing in them is passed over.

    Raises:
        ContractError: not a contract, not frozen, or not the one with this digest.
        VersionError: a newer PressPool made it.
    """
    try:
        stored = text if isinstance(text, bytes) else text.encode()
        got = "sha256:" + hashlib.sha256(stored).hexdigest()
        if got != digest:
            raise ContractError("contract digest", expected=digest, got=got)
        body = json.loads(stored)
        json.dumps(body, ensure_ascii=False).encode()  # half a surrogate pair has no bytes
    except (ValueError, RecursionError) as error:
        raise ContractError("not JSON", where="contract", got=str(error)) from None
    if not isinstance(body, dict):
        raise ContractError("contract", expected="a JSON object", got=type(body).__name__)
    _check_version(body)
    contract = parse_contract(body)
    if contract.canonical() != stored:
        raise ContractError(
            "not the bytes of a contract",
            where="contract",
            expected="canonical JSON with every key",
            advice="let the coordinator freeze the run anew",
        )
    if not contract.frozen:
        raise ContractError("contract", expected="a frozen contract", got="missing σ or hashes")
    return contract


def _check_version(body: Mapping[str, Any]) -> None:
    """Name what only another version can have written: a coordinator sends no misspelt keys."""
    strange = unknown_keys(Contract, body)
    schema = body.get("schema")
    if type(schema) is int and schema > schema_versions.CURRENT:
        strange.insert(0, f"schema {schema}")
    if strange:
        raise VersionError(
            "a newer PressPool made this contract",
            where="contract",
            expected=f"schema {schema_versions.CURRENT} as PressPool {__version__} has it",
            got=", ".join(strange),
            advice="update PressPool here, or ask for the run from a coordinator of this version",
        )


EXAMPLE = """{
  "name": "example", "task": {"labels": ["world", "sport"]},
  "federation": {"rounds": 3, "local_steps": 4, "quorum": 1}, "outlets": {"daily-bugle": 1000},
  "privacy": {"noise_multiplier": 1.2, "clip": 1.0, "sampling_rate": 0.15},
  "optimizer": {"learning_rate": 1.0}
}"""
