"""The run contract: data, never code, that says everything a run may do to an outlet's readers.

A contract is written as the body of `run.toml`, *frozen* once by the coordinator (noise solved,
weight and tokenizer hashes filled in) and from then on known by the sha256 of its canonical JSON.
Outlets receive that JSON, check the digest and recompute every number they care about.

Invariants:
    * Unknown keys are errors; the nearest known key is suggested.
    * A frozen contract always carries `noise_multiplier`; ε is what that σ costs, never an input.
    * `seed` drives public initialisation only: noise and sampling never come from it.
    * Equal contracts have equal bytes, so one digest names one contract on every machine.

Example:
    >>> contract = parse_contract(json.loads(EXAMPLE))
    >>> contract.plan.steps, contract.digest[:15]
    (12, 'sha256:924e02db')
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from presspool.common.canonical_json import canonical
from presspool.common.errors import ContractError
from presspool.common.privacy import PrivacyPlan, solve_noise
from presspool.common.schedule import Schedule

SCHEMA = 1
M = TypeVar("M", bound=BaseModel)
GROUPS = ("adapter", "head")

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Sha256 = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1)]


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


Grouped = Annotated[dict[str, Positive], BeforeValidator(_grouped), AfterValidator(_whole_groups)]
Epsilon = Annotated[
    float | None,
    Field(gt=0),
    BeforeValidator(_epsilon_in),
    PlainSerializer(_epsilon_out, when_used="json"),
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, validate_default=True)


class Model(_Part):
    """The frozen base model that every outlet must have.

    Attributes:
        id: hub id or folder.
        weights: sha256 of the weights (see `presspool.common.base_model`).
        tokenizer: sha256 of the tokenizer's files.
    """

    id: str = "sentence-transformers/all-MiniLM-L6-v2"
    weights: Sha256 | None = None
    tokenizer: Sha256 | None = None


class Task(_Part):
    """What is learned.

    Attributes:
        kind: "classification" of one text into one label.
        labels: public label names, in order.
        max_length: tokens a record is truncated to.
        head: where the head starts: "zero", or "names": what the base model makes of the labels'
            names, which costs nothing because they are public.
    """

    kind: Literal["classification"] = "classification"
    labels: Annotated[tuple[str, ...], Field(min_length=2, max_length=10_000)]
    max_length: Annotated[int, Field(ge=4, le=4096)] = 48
    head: Literal["zero", "names"] = "zero"

    @model_validator(mode="after")
    def _distinct(self) -> Task:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must be distinct")
        return self


class Adapter(_Part):
    """The trainable part: LoRA factors (Hu et al. 2021) and a linear head.

    Attributes:
        rank: r.
        alpha: α; the branch is scaled by α/r.
        targets: names of the linear layers that get LoRA.
        layers: LoRA in the last so many layers only, whose frozen part below is then computed
            once a record; None for all layers.
        aggregation: "ffa" freezes A at its public values and averages B (FFA-LoRA, Sun et al.,
            ICLR 2024); "fedit" averages A and B (FedIT, Zhang et al., ICASSP 2024); "head" trains
            and averages the head alone, the branch stays zero.
    """

    rank: Annotated[int, Field(ge=1, le=256)] = 8
    alpha: Positive = 16.0
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("query", "value")
    layers: Annotated[int, Field(ge=1)] | None = None
    aggregation: Literal["ffa", "fedit", "head"] = "ffa"


class Federation(_Part):
    """How outlets work together.

    Attributes:
        trust: "local": each outlet's transcript is private whatever the others do.
        rounds: aggregations.
        local_steps: private steps an outlet takes in a round.
        quorum: fewest admitted updates for a round to count.
        update_norm_cap: L2 norm above which an update is refused (outlets clip to it).
    """

    trust: Literal["local"] = "local"
    rounds: Annotated[int, Field(ge=1, le=10_000)]
    local_steps: Annotated[int, Field(ge=1, le=10_000)]
    quorum: Annotated[int, Field(ge=1)] = 1
    update_norm_cap: Positive = 100.0


class Privacy(_Part):
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
    noise_multiplier: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    clip: Grouped
    records_per_reader: Annotated[int, Field(ge=1, le=10_000)] = 1
    sampling_rate: Fraction

    @model_validator(mode="after")
    def _some_budget(self) -> Privacy:
        if self.epsilon is None and self.noise_multiplier is None:
            raise ValueError("give epsilon (for the whole run) or noise_multiplier")
        return self


class Optimizer(_Part):
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
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    schedule: Schedule = "constant"
    warmup_steps: Annotated[int, Field(ge=0)] = 0


class Server(_Part):
    """What the coordinator makes of a round's averaged update (Reddi et al., ICLR 2021).

    Whatever it does is post-processing of noisy updates and costs no budget.

    Attributes:
        name: "average" adds the update times the rate; "adam" takes it for Adam's gradient.
        learning_rate: one number or one for each parameter group.
        betas: decay of Adam's two moments.
        schedule: "constant" or "cosine" (to zero) over the rounds.
    """

    name: Literal["average", "adam"] = "average"
    learning_rate: Grouped = {"all": 1.0}
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9, 0.99,
    )  # fmt: skip
    schedule: Schedule = "constant"


class Contract(_Part):
    """A validated contract; see the module for its invariants.

    Attributes:
        outlets: outlet name to declared population: readers, or records where
            `privacy.unit = "record"`. Public, nominal, never measured during a run.
    """

    schema_: Literal[1] = Field(default=1, alias="schema")
    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    model: Model = Model()
    task: Task
    adapter: Adapter = Adapter()
    federation: Federation
    outlets: Annotated[dict[Name, Annotated[int, Field(ge=1)]], Field(min_length=1)]
    privacy: Privacy
    optimizer: Optimizer
    server: Server = Server()

    @model_validator(mode="after")
    def _fits_together(self) -> Contract:
        if self.federation.quorum > len(self.outlets):
            raise ValueError(
                f"federation.quorum is {self.federation.quorum}, but [outlets] lists only "
                f"{len(self.outlets)}: lower the quorum or add outlets"
            )
        if self.adapter.aggregation == "head":
            for key, grouped in (
                ("privacy.clip", self.privacy.clip),
                ("optimizer.learning_rate", self.optimizer.learning_rate),
                ("server.learning_rate", self.server.learning_rate),
            ):
                if set(grouped) != {"all"}:
                    raise ValueError(f"{key}: where only the head trains, give one number")
        largest = max(self.outlets, key=self.outlets.__getitem__)
        if self.privacy.delta >= 1 / self.outlets[largest]:
            raise ValueError(
                f"privacy.delta is {self.privacy.delta:g}, but must be below 1/population "
                f"({1 / self.outlets[largest]:.3g} for {largest}): at that size δ would allow "
                "publishing a random reader; lower delta"
            )
        return self

    @property
    def frozen(self) -> bool:
        """Whether σ and both hashes are filled in."""
        return None not in (
            self.privacy.noise_multiplier, self.model.weights, self.model.tokenizer,
        )  # fmt: skip

    @property
    def steps(self) -> int:
        """T: private steps over the whole run."""
        return self.federation.rounds * self.federation.local_steps

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
            unit=p.unit, noise_multiplier=p.noise_multiplier, clip=p.clip, delta=p.delta,
            sampling_rate=p.sampling_rate, records_per_reader=p.records_per_reader,
            steps=self.steps,
        )  # fmt: skip

    def weights(self) -> dict[str, float]:
        """Aggregation weight of each outlet: its declared share of all readers."""
        total = sum(self.outlets.values())
        return {name: population / total for name, population in self.outlets.items()}

    def body(self) -> dict[str, Any]:
        """The contract as JSON values."""
        return self.model_dump(mode="json", by_alias=True)

    def canonical(self) -> bytes:
        """The contract's bytes: canonical JSON."""
        return canonical(self.body())

    @property
    def digest(self) -> str:
        """`sha256:` and the hash of `canonical()`."""
        return "sha256:" + hashlib.sha256(self.canonical()).hexdigest()

    def with_noise(self) -> Contract:
        """This contract with σ solved from ε (or kept where it is given).

        Raises:
            ContractError: ε and σ are both given and σ costs more than ε.
        """
        p = self.privacy
        if p.noise_multiplier is None:
            assert p.epsilon is not None  # Privacy demands one of the two
            sigma = solve_noise(
                epsilon=p.epsilon, delta=p.delta, sampling_rate=p.sampling_rate, steps=self.steps
            )
            return self.replace(privacy={"noise_multiplier": sigma})
        if p.epsilon is not None and self.plan.epsilon() > p.epsilon:
            raise ContractError(
                "epsilon and noise_multiplier contradict each other", where="[privacy]",
                expected=f"a σ that costs ε <= {p.epsilon:g}",
                got=f"σ = {p.noise_multiplier:g}, which costs ε = {self.plan.epsilon():.3f}",
                advice="drop one of the two",
            )  # fmt: skip
        return self

    def replace(self, **changes: Mapping[str, Any] | Any) -> Contract:
        """A validated copy; a mapping changes keys of a table, anything else replaces it."""
        body = self.model_dump(by_alias=True)
        for key, value in changes.items():
            merge = isinstance(value, Mapping) and key != "outlets"
            body[key] = {**body[key], **value} if merge else value
        return parse_contract(body)


def parse_contract(body: Mapping[str, Any], *, where: str = "contract") -> Contract:
    """Validate a contract body (JSON or TOML values).

    Args:
        body: the contract's tables.
        where: the file it came from, for messages.

    Raises:
        ContractError: names table, key, expected and got; for an unknown key the nearest known.
    """
    return validate(Contract, body, where=where)


def read_canonical(text: bytes | str, *, digest: str) -> Contract:
    """The contract that a coordinator sent as canonical JSON, verified against its digest.

    Raises:
        ContractError: not a contract, not frozen, or not the one with this digest.
    """
    try:
        body = json.loads(text)
        json.dumps(body, ensure_ascii=False).encode()  # half a surrogate pair has no bytes
    except (ValueError, RecursionError) as error:
        raise ContractError("not JSON", where="contract", got=str(error)) from None
    if not isinstance(body, dict):
        raise ContractError("contract", expected="a JSON object", got=type(body).__name__)
    contract = parse_contract(body)
    if contract.digest != digest:
        raise ContractError("contract digest", expected=digest, got=contract.digest)
    if not contract.frozen:
        raise ContractError("contract", expected="a frozen contract", got="missing σ or hashes")
    return contract


def validate(model: type[M], body: Mapping[str, Any], *, where: str) -> M:
    """`model.model_validate` with one PressPool error for the first thing that is wrong.

    Raises:
        ContractError: file, key, expected, got and, for an unknown key, the nearest known one.
    """
    try:
        return model.model_validate(dict(body))
    except ValidationError as error:
        # An unknown key often makes a required one missing: report the cause, not the effect.
        found = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise _explain(model, found[0], where) from None


def _explain(model: type[BaseModel], error: Any, where: str) -> ContractError:
    path = [str(part) for part in error["loc"]]
    place = f"{where} [{'.'.join(path[:-1])}] {path[-1]}" if len(path) > 1 else (
        f"{where} {path[0]}" if path else where
    )  # fmt: skip
    if error["type"] == "extra_forbidden":
        known = _known_keys(model, path[:-1])
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return ContractError("unknown key", where=place, got=path[-1], advice=hint)
    if error["type"] == "missing":
        return ContractError("missing key", where=place, advice="add it")
    got = error["input"]
    if isinstance(got, dict | BaseModel):
        got = None  # the whole table would bury the sentence
    return ContractError(error["msg"].removeprefix("Value error, "), where=place, got=got)


def _known_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """Keys that the table at `path` of `model` may have."""
    for part in path:
        if part.isdigit():
            continue  # a place in a list of tables
        annotation = next(
            (f.annotation for n, f in model.model_fields.items() if part in (n, f.alias)), None
        )
        parts = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type)]
        inner = [a for a in parts if issubclass(a, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return [f.alias or n for n, f in model.model_fields.items()]


EXAMPLE = """{
  "name": "example", "task": {"labels": ["world", "sport"]},
  "federation": {"rounds": 3, "local_steps": 4, "quorum": 1}, "outlets": {"daily-bugle": 1000},
  "privacy": {"noise_multiplier": 1.2, "clip": 1.0, "sampling_rate": 0.15},
  "optimizer": {"learning_rate": 1.0}
}"""
