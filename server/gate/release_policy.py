"""`release.toml`: what a newsroom demands of an adapter before it goes into use.

A table asks for a check, and no table asks for none; what is always asked for (papers, ledgers, the
attack's bound) has no switch: whoever wants to go without it overrides the gate by name.

Invariants:
    * Unknown keys are refused: a misspelt demand would be no demand.
    * Limits are shares or differences between 0 and 1 unless their name says otherwise.

Example: `read_policy(Path("release.toml")).policy.floors["accuracy"]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from errno import ENOENT
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from presspool.common.base.errors import InputError
from presspool.common.base.files import file_sha256, read_file
from presspool.common.base.toml_values import parse_toml
from presspool.common.base.validation import StrictDocument, validate
from presspool.common.models.base_model import BaseModelFolder
from presspool.common.models.catalogue import DEFAULT_ID
from presspool.server.gate.paraphraser import files_named
from presspool.server.registry.object_store import sha256

LARGEST_POLICY = 1 << 20
_LIST = Field(strict=False)  # TOML has no tuples
Share = Annotated[float, Field(ge=0, le=1)]
Damage = Literal["typos", "case", "truncation"]
Metric = Annotated[str, Field(min_length=1, max_length=60)]


class EvidenceDemand(StrictDocument):
    """`[evidence]`: the least that the papers must show.

    Attributes:
        largest_epsilon: a card that claims more is refused.
        confidence: of the attack's bound.
    """

    largest_epsilon: Annotated[float, Field(gt=0)] | None = None
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95


class Public(StrictDocument):
    """`[public]`: rows that belong to no reader, on which behaviour is looked at.

    Attributes:
        file: CSV, JSON lines or Parquet with the task's columns; beside the policy's file.
        most_rows: no more than so many are used, the first ones.
        groups: columns beside the task's that say which group a row speaks of: `place`, `desk`.
    """

    file: str
    most_rows: Annotated[int, Field(ge=1, le=100_000)] = 1000
    groups: Annotated[tuple[str, ...], _LIST, Field(max_length=20)] = ()


class Production(StrictDocument):
    """`[production]`: against what is in use now, on the public rows.

    Attributes:
        confidence: of the paired interval; it must not lie wholly below zero.
    """

    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95


class Paraphrases(StrictDocument):
    """`[robustness.paraphrases]`: answers on texts that a model here has said in other words.

    Attributes:
        model: a chat model that writes: a folder, or the name of an installed one.
        texts: public rows that it is given, at most.
        encoder: by which a paraphrase is near its text: a folder, or an installed model's name. Not
            the adapter's own base: whoever chose that would say what is near.
        nearness: the least cosine of a text and its paraphrase; chosen for the default encoder.
        fewest: paraphrases that must be left to be judged.
        floor: the least share of them that must keep their text's answer.
        confidence: that the share is no smaller.
    """

    model: Annotated[str, Field(min_length=1, max_length=300)]
    texts: Annotated[int, Field(ge=1, le=1000)] = 100
    encoder: Annotated[str, Field(min_length=1, max_length=300)] = DEFAULT_ID
    nearness: Share = 0.75
    fewest: Annotated[int, Field(ge=1, le=1000)] = 20
    floor: Share = 0.8
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95

    def files(self, beside: Path) -> dict[str, BaseModelFolder]:
        """Its two models' files, hashed, by what they are in a report; raises as `files_named`."""
        where = "[robustness.paraphrases]"
        return {
            "paraphraser": files_named(self.model, beside, f"{where} model"),
            "encoder": files_named(self.encoder, beside, f"{where} encoder"),
        }

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.fewest > self.texts:
            raise ValueError(f"fewest is at most texts, {self.texts}")
        return self


class Robustness(StrictDocument):
    """`[robustness]`: answers on damaged texts.

    Attributes:
        kinds: how texts are damaged.
        largest_drop: of the task's first metric, from the texts as they are.
        paraphrases: what is asked of texts in other words; None asks nothing.
    """

    kinds: Annotated[tuple[Damage, ...], _LIST] = get_args(Damage)
    largest_drop: Share = 0.1
    paraphrases: Paraphrases | None = None


class Fairness(StrictDocument):
    """`[fairness]`: names and places that must not decide.

    Attributes:
        swaps: file of pairs to swap, one `a,b` a line; None for the list that comes with us, False
            for none, as of tasks whose answers are no labels.
        largest_flips: share of answers that change by a swap.
        largest_gap: of the first metric between groups of the public rows.
        smallest_group: rows that a group must have to be judged.
    """

    swaps: str | Literal[False] | None = None
    largest_flips: Share = 0.05
    largest_gap: Share = 0.15
    smallest_group: Annotated[int, Field(ge=2)] = 30


class GenerationDemand(StrictDocument):
    """`[generation]`: what a model that writes must not write.

    Attributes:
        prompts: prompts of the public rows that it continues.
        forbidden: file of strings that may never be written, one a line.
        canaries: file of strings that were planted in the training data, one a line.
        prefix_tokens: of a canary or a public text, after which it must not go on by heart.
        largest_toxic: share of continuations that the word classifier calls toxic.
        largest_copied: share of public texts that it continues word for word.
    """

    prompts: Annotated[int, Field(ge=1, le=10_000)] = 100
    forbidden: str | None = None
    canaries: str | None = None
    prefix_tokens: Annotated[int, Field(ge=1, le=512)] = 16
    largest_toxic: Share = 0.01
    largest_copied: Share = 0.01


class Explanations(StrictDocument):
    """`[explanations]`: which words move which label, shown and not judged.

    Attributes:
        rows: public rows that are explained.
        words: of each label, on the page.
    """

    rows: Annotated[int, Field(ge=1, le=10_000)] = 100
    words: Annotated[int, Field(ge=1, le=100)] = 20


class ReleasePolicy(StrictDocument):
    """All of the file.

    Attributes:
        floors: `[floors]`: metric of the run's result to the least (of a perplexity: the most)
            that is enough.
    """

    evidence: EvidenceDemand = EvidenceDemand()
    floors: dict[Metric, Annotated[float, Field(allow_inf_nan=False)]] = Field(default_factory=dict)
    public: Public | None = None
    production: Production | None = None
    robustness: Robustness | None = None
    fairness: Fairness | None = None
    generation: GenerationDemand | None = None
    explanations: Explanations | None = None


@dataclass(frozen=True, kw_only=True)
class PolicyFile:
    """A policy as it was read, once.

    Attributes:
        policy: what it says.
        path: where it lay; names of files count from there.
        digest: `sha256:` of its bytes.
    """

    policy: ReleasePolicy
    path: Path
    digest: str

    @property
    def beside(self) -> Path:
        """The folder from which its names of files count."""
        return self.path.parent

    def digests(self) -> dict[str, str]:
        """`sha256:` of the policy, and of each file that it names as it is now.

        Raises:
            InputError: one that cannot be read; a model that is not there.
        """
        one = self.policy
        files = {"rows": one.public.file if one.public else None}
        if one.fairness:
            files["swaps"] = one.fairness.swaps or None
        if one.generation:
            files |= {"forbidden": one.generation.forbidden, "canaries": one.generation.canaries}
        named = {name: self.beside / file for name, file in files.items() if file is not None}
        found = {"policy": self.digest} | {name: file_digest(at) for name, at in named.items()}
        if one.robustness and (asked := one.robustness.paraphrases):
            found |= {name: own.manifest for name, own in asked.files(self.beside).items()}
        return found


def read_policy(path: Path) -> PolicyFile:
    """Read a policy.

    Raises:
        InputError: no such file, too large, not TOML, or a demand that is none.
    """
    data = read_file(path, most=LARGEST_POLICY + 1)
    if len(data) > LARGEST_POLICY:  # a part of it would ask for less
        raise InputError(
            "too large for a release policy",
            where=str(path),
            expected=f"at most {LARGEST_POLICY >> 20} MiB",
        )
    body = parse_toml(data, path=path)
    policy = validate(ReleasePolicy, body, where=str(path), fault=InputError)
    return PolicyFile(policy=policy, path=path, digest=sha256(data))


def file_digest(path: Path) -> str:
    """`sha256:` of a file's bytes; raises `InputError` where they cannot be read."""
    try:
        if not path.is_file():  # a pipe would be waited for, a device never ends
            raise FileNotFoundError(ENOENT, "no such file")
        return f"sha256:{file_sha256(path)}"
    except OSError as error:
        raise InputError("cannot read", where=str(path), got=error.strerror) from None
