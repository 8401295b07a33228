"""The tables of a run contract, one class each; `contract` beside this file puts them together.

Invariants:
    * A table is frozen, and an unknown key in it is an error.
    * What a table says alone is checked here; what two tables say together, in the contract.

Example:
    >>> Federation(rounds=3, local_steps=4).quorum
    1
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializeAsAny,
    model_validator,
)

from presspool.common.base.errors import ContractError
from presspool.common.base.registry import Registry
from presspool.common.contract.doors import AGGREGATORS, METHODS, ROBUST_RULES, TASKS, TRUST_MODELS
from presspool.common.contract.schedule import Schedule

GROUPS = ("adapter", "head")
DEFAULT_TASK = "classification"
UNSURE = "unsure"  # in place of an answer that a model is not sure enough of
MEAN = "mean"  # the robust rule that stands nobody: updates are averaged by the aggregator

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Sha256 = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
# Strict numbers: neither `true` nor "10" passes for one.
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(strict=True, gt=0, le=1)]
Decay = Annotated[float, Field(strict=True, ge=0, lt=1)]
Some = Annotated[int, Field(strict=True, ge=1)]
_UNSAID = Field(exclude_if=lambda value: value is None)  # such a key is not there


def _grouped(value: object) -> object:
    """A bare number stands for all trainable parameters together."""
    return (
        {"all": value} if isinstance(value, int | float) and not isinstance(value, bool) else value
    )


def _whole_groups(value: dict[str, float]) -> dict[str, float]:
    if set(value) not in ({"all"}, set(GROUPS)):
        raise ValueError("one number, or { adapter = …, head = … }")
    return value


def _epsilon_in(value: object) -> object:
    return math.inf if value == "inf" else value


def _epsilon_out(value: float | None) -> float | str | None:
    return "inf" if value is not None and math.isinf(value) else value


def one_of(doors: Registry[Any]) -> AfterValidator:
    """A name that a closed registry must know."""

    def known(name: str) -> str:
        try:
            return doors.check(name)
        except ContractError as error:
            hint = f" ({error.advice})" if error.advice else ""
            raise ValueError(f"{error.what}: expected {error.expected}{hint}") from None

    return AfterValidator(known)


MethodName = Annotated[str, one_of(METHODS)]
Grouped = Annotated[dict[str, Positive], BeforeValidator(_grouped), AfterValidator(_whole_groups)]
Epsilon = Annotated[
    Annotated[float, Field(strict=True, gt=0)] | None,
    BeforeValidator(_epsilon_in),
    PlainSerializer(_epsilon_out, when_used="json"),
]
Kind = Annotated[str, one_of(TASKS)]
TrustName = Annotated[str, one_of(TRUST_MODELS)]


class Table(BaseModel):
    """A table that knows all its keys and never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, validate_default=True)


class Model(Table):
    """The frozen base model that every outlet must have.

    Attributes:
        id: hub id or folder; at an outlet a name alone.
        weights: sha256 of the weights (see `presspool.common.models.base_model`).
        tokenizer: sha256 of the tokenizer's files.
        manifest: sha256 over every file that is loaded; a contract that was frozen before there
            were manifests has none, nor the key.
    """

    id: str = "sentence-transformers/all-MiniLM-L6-v2"
    weights: Sha256 | None = None
    tokenizer: Sha256 | None = None
    manifest: Annotated[Sha256 | None, Field(exclude_if=lambda value: value is None)] = None


class TaskTable(Table):
    """What is learned; what else it says hangs on the kind (`presspool.common.tasks`).

    Attributes:
        kind: a name in `doors.TASKS`.
        max_length: tokens a record is truncated to.
    """

    kind: str
    if TYPE_CHECKING:  # a field of each task's own table, which has its own order of keys

        @property
        def max_length(self) -> int:
            """As above."""

    @property
    def needs_public(self) -> str:
        """The key that asks for public rows at the coordinator, or ""."""
        return ""

    @property
    def longest(self) -> tuple[str, int]:
        """The key that says how many tokens the base model reads in one go, and how many."""
        return "max_length", self.max_length

    @classmethod
    def narrowed(cls, body: Any) -> type[TaskTable]:
        """The table that a body's kind asks for; the default one without.

        Raises:
            ValidationError: there is no such kind, or the body is no table.
        """
        return TASKS[TaskKind.model_validate(body).kind].Table


class TaskKind(Table, extra="ignore"):
    """The one key of [task] that says what the others are."""

    kind: Kind = DEFAULT_TASK


def _of_its_kind(value: object) -> object:
    """The table of the task that is named, validated."""
    if isinstance(value, TaskTable):
        return value
    return TaskTable.narrowed(value).model_validate(value)


AnyTask = Annotated[SerializeAsAny[TaskTable], BeforeValidator(_of_its_kind)]


class Adapter(Table):
    """The trainable part: what the method adds to the base model, and a head.

    Attributes:
        rank: r.
        alpha: α; the branch is scaled by α/r, or as the method has it (`Method.scale`).
        targets: names of the linear layers that get LoRA.
        layers: LoRA in the last so many layers only, whose frozen part below is then computed
            once a record; None for all layers.
        method: what trains, a name of `doors.METHODS` (`presspool.common.methods`). The other keys
            are LoRA's, and mean nothing to a method that has no use for them.
    """

    rank: Annotated[int, Field(strict=True, ge=1, le=256)] = 8
    alpha: Positive = 16.0
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("query", "value")
    layers: Annotated[int, Field(strict=True, ge=1)] | None = None
    method: MethodName = "ffa"


class Federation(Table):
    """How outlets work together.

    Attributes:
        trust: whom ε holds against (`presspool.common.trust`); "local": whatever the others do.
        rounds: aggregations.
        local_steps: private steps an outlet takes in a round.
        quorum: fewest admitted updates for a round to count.
        update_norm_cap: L2 norm above which an update is refused (outlets clip to it).
        robust: how updates are combined where some outlets may lie
            (`presspool.server.rounds.aggregators.robust`).
        attackers: f, how many of the outlets that stands.
        cohort: outlets that train in a round (`presspool.common.contract.cohorts`); None for all.
        buffer: answers of an aggregation where outlets do not wait (`contract.buffers`), or None.
        staleness: with a buffer, how many aggregations ago an answer may have begun.
    """

    trust: TrustName = "local"
    rounds: Annotated[int, Field(strict=True, ge=1, le=10_000)]
    local_steps: Annotated[int, Field(strict=True, ge=1, le=10_000)]
    quorum: Annotated[int, Field(strict=True, ge=1)] = 1
    update_norm_cap: Positive = 100.0
    robust: Annotated[str, one_of(ROBUST_RULES), Field(exclude_if=lambda rule: rule == MEAN)] = MEAN
    attackers: Annotated[int, Field(strict=True, ge=0, exclude_if=lambda count: count == 0)] = 0
    cohort: Annotated[Some | None, _UNSAID] = None
    buffer: Annotated[Some | None, _UNSAID] = None
    staleness: Annotated[Annotated[int, Field(strict=True, ge=0, le=64)] | None, _UNSAID] = None

    def turns(self, outlets: int) -> int:
        """Rounds in which an outlet trains at most, of so many: cohorts take turns."""
        return self.rounds if self.cohort is None else -(-self.rounds * self.cohort // outlets)

    @property
    def fewest(self) -> int:
        """So many updates at least does the rule need to stand its attackers."""
        return 2 * self.attackers + (3 if self.robust == "krum" else 1)

    @model_validator(mode="after")
    def _stands_attackers(self) -> Federation:
        if (self.robust == MEAN) != (self.attackers == 0):
            raise ValueError(
                f"robust = {self.robust!r} and attackers = {self.attackers} do not go together: "
                "a mean stands no attacker, and every other rule has to know how many it must; "
                "give both keys or neither"
            )
        if self.quorum < self.fewest:
            raise ValueError(
                f"quorum is {self.quorum}, but {self.robust!r} needs {self.fewest} updates to "
                f"stand {self.attackers} attackers: raise the quorum to {self.fewest}, or count on "
                "fewer attackers"
            )
        if self.cohort is not None and self.quorum > self.cohort:
            raise ValueError(
                f"quorum is {self.quorum}, but a round has only the {self.cohort} outlets of its "
                "cohort: lower the quorum or raise the cohort"
            )
        return self


ALONE: Mapping[str, Any] = MappingProxyType(
    {"trust": "local", "quorum": 1, "robust": MEAN, "attackers": 0}
    | dict.fromkeys(("cohort", "buffer", "staleness"))
)
"""[federation] of one outlet alone: nobody is there to wait for, to lie, or to share noise."""


class PooledTable(Table):
    """Whose noise is counted on where the pool shares it; only with `trust = "pooled"`.

    Attributes:
        colluders: c, outlets that may work together with the coordinator, at most.
        dropouts: d, outlets that may be missing from a step's sum, at most.
        grid: binary places by which the whole numbers' grid is finer than the sensitivity.
        ring_bits: sums are taken modulo 2^ring_bits; filled in when the contract is frozen.
        parameters: D, trained numbers; filled in when the contract is frozen.
    """

    colluders: Annotated[int, Field(strict=True, ge=0)]
    dropouts: Annotated[int, Field(strict=True, ge=0)]
    grid: Annotated[int, Field(strict=True, ge=8, le=40)] = 16
    ring_bits: Literal[32, 64] | None = None
    parameters: Annotated[int, Field(strict=True, ge=1, le=2**40)] | None = None


class Privacy(Table):
    """What a run may cost a reader: give `epsilon` for the whole run, or `noise_multiplier`.

    Attributes:
        unit: "reader" (default), or "record", which is weaker and for comparison only.
        epsilon: the run's target ε; "inf" for an unprotected run.
        noise_multiplier: σ; filled in when the contract is frozen.
        delta: δ, smaller than 1/population of every outlet.
        clip: clip norm C, one number or one for each parameter group.
        records_per_reader: k.
        sampling_rate: q.
    """

    unit: Literal["reader", "record"] = "reader"
    epsilon: Epsilon = None
    noise_multiplier: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] | None = None
    delta: Annotated[float, Field(strict=True, gt=0, lt=1)] = 1e-5
    clip: Grouped
    records_per_reader: Annotated[int, Field(strict=True, ge=1, le=10_000)] = 1
    sampling_rate: Fraction

    @model_validator(mode="after")
    def _some_budget(self) -> Privacy:
        if self.epsilon is None and self.noise_multiplier is None:
            raise ValueError("give epsilon (for the whole run) or noise_multiplier")
        return self


class Optimizer(Table):
    """The local optimiser and its schedule over all steps of the run.

    Attributes:
        name: "sgd" or "adamw".
        learning_rate: one number or one for each parameter group.
        momentum: of SGD.
        weight_decay: decoupled, of AdamW.
        schedule: "constant" or "cosine" (to zero), after the warm-up.
        warmup_steps: steps of linear warm-up.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Grouped
    momentum: Decay = 0.0
    weight_decay: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = 0.0
    schedule: Schedule = "constant"
    warmup_steps: Annotated[int, Field(strict=True, ge=0)] = 0


FORGETFUL = "average"


class Server(Table):
    """What the coordinator makes of a round's averaged update (Reddi et al., ICLR 2021).

    Whatever it does is post-processing of noisy updates and costs no budget.

    Attributes:
        name: "average" adds the update times the rate; "adam" takes it for Adam's gradient.
        learning_rate: one number or one for each parameter group.
        betas: decay of Adam's two moments.
        schedule: "constant" or "cosine" (to zero) over the rounds.
        tail: the run's adapter is the mean over so large a share of the rounds, the last ones
            (Polyak & Juditsky, SIAM 1992); 0, where the key is not written, takes the last as it
            is. Outlets always go on from the last.
    """

    name: Annotated[str, one_of(AGGREGATORS)] = FORGETFUL
    learning_rate: Grouped = {"all": 1.0}
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    schedule: Schedule = "constant"
    tail: Annotated[float, Field(ge=0, le=1, strict=True, exclude_if=lambda share: share == 0)] = (
        0.0
    )

    @property
    def remembers(self) -> bool:
        """Whether a step hangs on earlier ones, so that what did not change may move."""
        return self.name != FORGETFUL
