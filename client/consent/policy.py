"""`policy.toml`: what this outlet takes part in, decided by its own people before anybody asks.

Every key has a safe default, so an empty file is a policy: the default base model, at most ε = 3 a
run, two outlets or more, and a person's approval of every run. `EXAMPLE` is the whole file with a
comment for each key.

Invariants:
    * Unknown keys and impossible values are errors that name file, key, expected and got.
    * No key speaks of readers' data: whether a run is refused never depends on it.
    * The policy can only refuse. What a run costs is still charged to the ledger, whose caps hold
      whatever this file says.

Example:
    >>> policy = parse_policy({"max_epsilon_per_run": 1.0})
    >>> policy.max_epsilon_per_run, policy.manual_approval
    (1.0, True)
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, time
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from presspool.client.consent.base_models import DEFAULT_MODEL, BaseModelPin
from presspool.common.base.errors import InputError
from presspool.common.base.toml_values import read_toml, toml_value
from presspool.common.base.validation import validate
from presspool.common.contract.contract_schema import (
    DEFAULT_TASK,
    Kind,
    MethodName,
    TrustName,
)
from presspool.common.contract.doors import METHODS
from presspool.common.models.spectral import USUAL_RATIO

PeriodRule = Literal["year", "quarter", "month"]
LARGEST_POLICY = 1 << 20  # bytes
# Strict, so that neither `true` nor "10" passes for a number.
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Fraction = Annotated[float, Field(gt=0, le=1, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class QuietHours(_Part):
    """Hours of the day in which nothing is trained; from the evening to the morning is fine.

    Attributes:
        start: first quiet minute.
        end: first minute after them.
        zone: whose clock: this machine's local time, or UTC.
    """

    start: time
    end: time
    zone: Literal["local", "utc"]

    @model_validator(mode="after")
    def _some_time(self) -> QuietHours:
        if self.start == self.end:
            raise ValueError("start and end are the same: no hour, or all of them?")
        if self.start.tzinfo or self.end.tzinfo:
            raise ValueError("times of day without an offset; zone says whose clock")
        return self

    def hold(self, clock: time) -> bool:
        """Whether this time of day is quiet."""
        if self.start < self.end:
            return self.start <= clock < self.end
        return clock >= self.start or clock < self.end


class Witnesses(_Part):
    """Who must have seen a round's end before the next is trained.

    Attributes:
        required: train no round whose start was not cosigned by enough approved peers.
        liars: how many of the approved peers may lie.
    """

    required: StrictBool = True
    liars: Annotated[int, Field(ge=0, strict=True)] = 0


class PooledRules(_Part):
    """What a run whose noise the pool shares must assume, where `trust` allows one at all.

    Attributes:
        min_colluders_share: share of the outlets that must be reckoned to work with the
            coordinator, at least: the more are, the more noise each outlet adds.
        max_dropouts_share: share of the outlets that may be missing from a step, at most.
        min_own_peers: fewest outlets of the contract whose keys this outlet's operator approved;
            None for all others but as many as are reckoned to collude, by which invented outlets
            cannot break the claim.
        max_epsilon_alone: largest ε of one run if everybody else works together.
    """

    min_colluders_share: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.1
    max_dropouts_share: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.25
    min_own_peers: Annotated[int, Field(ge=0, strict=True)] | None = None
    max_epsilon_alone: Positive = 10.0


class CountRules(_Part):
    """Whether readers are counted for public opinion, and what a count may cost.

    Attributes:
        allowed: whether at all.
        max_share: largest part of the lifetime budget that one query may take.
    """

    allowed: StrictBool = False
    max_share: Fraction = 0.05


class Policy(_Part):
    """An outlet's rules; a run is refused by the first that it breaks.

    Attributes:
        tasks: kinds of task that may be trained.
        base_models: base models that may be trained.
        max_epsilon_per_run: largest ε of one run, at the run's own δ.
        max_epsilon_per_period: cap of the ledger on one period; None for the ledger's cap alone.
        period: what a period is: a calendar year, quarter or month (UTC).
        max_delta: largest δ of a run.
        min_noise_multiplier: smallest σ.
        max_sampling_rate: largest q.
        max_steps: most private steps of one run.
        max_rounds: most rounds of one run.
        methods: what may train (`presspool.common.methods`); all that this version knows.
        lora_targets: layers that may get LoRA.
        max_adapter_scale: largest α/r, by which a branch is multiplied.
        max_records_per_reader: largest k, records of one reader in a step.
        max_record_length: most tokens of a record.
        min_outlets: fewest outlets in a contract, this one included.
        trust: trust models that may be relied on; a new one needs the operator's own word.
        pooled: what noise that the pool shares must assume, where `trust` names it.
        max_adapter_norm: largest L2 norm of an adapter that comes in.
        max_branch_ratio: largest spectral norm of each of its branches, over its frozen layer's.
        answer_seconds: an answer leaves at a whole multiple of so many seconds after its task
            arrived, so that how long training took tells little; 0 for at once.
        quiet_hours: hours without training; None for none.
        manual_approval: whether a person must approve each run (`presspool outlet approve`).
        witnesses: whether rounds must be witnessed (`presspool outlet peers`).
        counts: whether readers are counted for public opinion (`presspool outlet count`).
    """

    tasks: tuple[Kind, ...] = (DEFAULT_TASK,)
    base_models: Annotated[tuple[BaseModelPin, ...], Field(min_length=1)] = (DEFAULT_MODEL,)
    max_epsilon_per_run: Positive = 3.0
    max_epsilon_per_period: Positive | None = None
    period: PeriodRule = "year"
    max_delta: Annotated[float, Field(gt=0, lt=1, strict=True)] = 1e-5
    min_noise_multiplier: Positive = 1.0
    max_sampling_rate: Fraction = 1.0
    max_steps: Count = 2_000
    max_rounds: Count = 200
    methods: tuple[MethodName, ...] = METHODS.names
    lora_targets: tuple[str, ...] = ("query", "key", "value", "dense")
    max_adapter_scale: Positive = 4.0
    max_records_per_reader: Count = 64
    max_record_length: Count = 512
    min_outlets: Count = 2
    trust: tuple[TrustName, ...] = ("local",)
    pooled: PooledRules = PooledRules()
    max_adapter_norm: Positive = 1_000.0
    max_branch_ratio: Positive = USUAL_RATIO
    answer_seconds: Annotated[float, Field(ge=0, le=3600, strict=True)] = 60.0
    quiet_hours: QuietHours | None = None
    manual_approval: StrictBool = True
    witnesses: Witnesses = Witnesses()
    counts: CountRules = CountRules()


def parse_policy(body: Mapping[str, Any], *, where: str = "policy.toml") -> Policy:
    """Validate a policy's values.

    Raises:
        InputError: names file, key, expected and got; for an unknown key the nearest known.
    """
    return validate(Policy, body, where=where, fault=InputError)


def read_policy(path: Path) -> Policy:
    """Read a `policy.toml`.

    Raises:
        InputError: missing, not TOML, or a wrong or unknown key.
    """
    if path.is_file() and path.stat().st_size > LARGEST_POLICY:
        raise InputError("a policy", where=str(path), expected=f"up to {LARGEST_POLICY} bytes")
    body = read_toml(
        path,
        what="cannot read the outlet's policy",
        advice="write one: presspool outlet policy example --out policy.toml",
    )
    return parse_policy(body, where=str(path))


def period_of(day: date, rule: PeriodRule) -> str:
    """The period of a day, as the ledger names it: "2026", "2026-Q1" or "2026-01"."""
    if rule == "year":
        return f"{day.year:04d}"
    if rule == "quarter":
        return f"{day.year:04d}-Q{(day.month + 2) // 3}"
    return f"{day.year:04d}-{day.month:02d}"


EXAMPLE = f"""\
# What this outlet takes part in. Every key may be left out; the values here are the defaults.
# PressPool's own program reads this file before each round. Nobody else sees it; a coordinator
# whose run is refused is told which rule said no, and no number.

tasks = ["classification"]

# One run may cost a reader at most this much (ε by privacy loss distributions, at the run's δ).
max_epsilon_per_run = 3.0
max_delta = 1e-5

# A cap on all runs of one period, inside the cap that the ledger has for the outlet's lifetime.
# A period is a calendar "year", "quarter" or "month" in UTC. Leave it out for no such cap.
# max_epsilon_per_period = 6.0
period = "year"

# How a run may train.
min_noise_multiplier = 1.0       # σ
max_sampling_rate = 1.0          # q: share of readers in one step; 1 is all of them
max_steps = 2000                 # private steps of one run
max_rounds = 200
methods = {toml_value(METHODS.names)}
lora_targets = ["query", "key", "value", "dense"]
max_adapter_scale = 4.0          # α/r: a large one makes rounding errors large
max_records_per_reader = 64      # k: what one reader's part of a step may need of memory
max_record_length = 512          # tokens

# With whom: fewest outlets in a contract, this one included.
min_outlets = 2

# Whom readers' protection may rest on: "local" is on this outlet alone; "pooled" on the others as
# well: only the sum of all outlets carries enough noise ([pooled] below says what it must assume).
trust = ["local"]

# An adapter that comes in may be no larger (L2 norm over all its numbers), and no branch of it may
# act so many times as strongly as the frozen weights beside it (spectral norms).
max_adapter_norm = 1000.0
max_branch_ratio = {USUAL_RATIO}

# An answer leaves at a whole multiple of so many seconds after its task arrived, not when training
# happens to end, which depends on readers' data. 0 sends it at once. Keep it far below the time
# that the coordinator gives a round (an hour, unless it says otherwise).
answer_seconds = 60.0

# A person approves each run: presspool outlet approve RUN
manual_approval = true

# No round is trained before this outlet's own witness and more than (n + liars) / 2 of the n peers
# whose keys you approved (presspool outlet peers) have cosigned what it starts from. With
# required = false the coordinator may show each outlet another run, and nobody would notice.
[witnesses]
required = true
liars = 0

# Only where trust names "pooled": share of the outlets that must be reckoned to work together with
# the coordinator, and share that may be missing; ε of a run if everybody else does work together.
# min_own_peers: fewest outlets in the contract whose keys you approved; left out, all others but
# those reckoned to collude, so that outlets which the coordinator invents cannot break the claim.
[pooled]
min_colluders_share = 0.1
max_dropouts_share = 0.25
max_epsilon_alone = 10.0
# min_own_peers = 3

# Whether this outlet's own people may publish counts of readers, noised (presspool outlet count),
# and which part of the lifetime budget, shared with training, one such query may take.
[counts]
allowed = false
max_share = 0.05

# Base models that may be trained, by the hashes of their files: presspool outlet policy pin FOLDER
# prints an entry. What a contract calls its base model is never looked up. Without a folder the
# installed package or the hub's cache has it under this name; fetch = true asks the hub for it.
[[base_models]]
name = "{DEFAULT_MODEL.name}"
weights = "{DEFAULT_MODEL.weights}"
tokenizer = "{DEFAULT_MODEL.tokenizer}"
manifest = "{DEFAULT_MODEL.manifest}"
# folder = "/srv/models/minilm"
# fetch = true
# max_bytes = 1073741824

# No training in these hours; the coordinator is told to ask again. The zone says whose clock
# counts: "local" (this machine's) or "utc".
# [quiet_hours]
# start = 18:00:00
# end = 06:00:00
# zone = "local"
"""


def example(*, task: str, max_epsilon_per_run: float) -> str:
    """`EXAMPLE` for another task, and with another cap on one run.

    Example:
        >>> import tomllib
        >>> read = tomllib.loads(example(task="tagging", max_epsilon_per_run=1.5))
        >>> usual = tomllib.loads(EXAMPLE)
        >>> {key: value for key, value in read.items() if usual[key] != value}
        {'tasks': ['tagging'], 'max_epsilon_per_run': 1.5}
    """
    usual = Policy()
    made = EXAMPLE
    for key, was, now in (
        ("tasks", list(usual.tasks), [task]),
        ("max_epsilon_per_run", usual.max_epsilon_per_run, float(max_epsilon_per_run)),
    ):
        made = made.replace(f"\n{key} = {toml_value(was)}\n", f"\n{key} = {toml_value(now)}\n")
    return made
