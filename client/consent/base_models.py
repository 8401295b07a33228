"""The base models that an outlet's policy names: by their digests, and where they lie here.

A contract calls its base model by a name of the coordinator's choice. At a real outlet that name is
never an address: the contract's digests select an entry of the policy, and the entry alone says
where the files come from.

Example:
    >>> given = {name: "sha256:" + "1" * 64 for name in ("weights", "tokenizer", "manifest")}
    >>> pin = BaseModelPin(name="ours", **given)
    >>> pin.admits(Model(id="attacker/model", **given)), pin.admits(Model(id="ours"))
    (True, False)
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from presspool.common.base.errors import ModelError
from presspool.common.contract.contract_schema import Model, Sha256
from presspool.common.models import base_model
from presspool.common.models.base_model_sources import installed
from presspool.common.models.catalogue import CATALOGUE, DEFAULT_ID


class BaseModelPin(BaseModel):
    """One base model that may be trained, known by what it is and not by what it is called.

    Attributes:
        name: for people; without a folder also the hub id under which it is cached here.
        weights: sha256 of its weights.
        tokenizer: sha256 of its tokenizer.
        manifest: sha256 over every file that is loaded.
        folder: where it lies; None for an installed package or the hub's cache.
        fetch: whether the hub is asked for `name` where it is not cached.
        max_bytes: most that is fetched.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=200)]
    weights: Sha256
    tokenizer: Sha256
    manifest: Sha256
    folder: Path | None = None
    fetch: StrictBool = False
    max_bytes: Annotated[int, Field(ge=1, strict=True)] = 1 << 30

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, body: Any) -> Any:
        if (
            isinstance(body, dict)
            and "manifest" not in body
            and {"weights", "tokenizer"} <= {*body}
        ):
            raise ValueError(
                "no manifest, so that its configuration may be any: "
                "presspool outlet policy pin FOLDER prints the whole entry"
            )
        return body

    @model_validator(mode="after")
    def _one_place(self) -> BaseModelPin:
        if self.folder is not None and (self.fetch or not self.folder.is_absolute()):
            raise ValueError("folder is an absolute path, and then nothing is fetched")
        return self

    def admits(self, model: Model) -> bool:
        """Whether a contract's base model is this one, whatever it is called."""
        pinned = (self.weights, self.tokenizer, self.manifest)
        return (model.weights, model.tokenizer, model.manifest) == pinned

    def here(self) -> Path:
        """The folder of its files, found or, where the policy says so, fetched.

        Raises:
            ModelError: they are not to be had, too large to fetch, or others.
        """
        if self.folder is not None:
            return self.folder
        try:
            cached = installed(self.name, fetch=False)
            if base_model.examine(cached).manifest == self.manifest or not self.fetch:
                return cached
        except ModelError:
            if not self.fetch:
                raise
        return installed(self.name, fetch=True, largest=self.max_bytes)

    def placed(self) -> AbstractContextManager[None]:
        """Have it found at its folder while the block runs, and proved to be the one.

        Raises:
            ModelError: it is not to be had, or is another.
        """
        return base_model.placed(self.here(), manifest=self.manifest)


DEFAULT_MODEL = BaseModelPin.model_validate({"name": DEFAULT_ID, **CATALOGUE[DEFAULT_ID].pins})


def selected(model: Model, pins: Iterable[BaseModelPin]) -> BaseModelPin:
    """The entry that holds a contract's base model; by its name only in a run without digests.

    Raises:
        ModelError: the policy has no such entry.
    """
    known = tuple(pins)
    for pin in known:
        if pin.admits(model) or (model.manifest is None and pin.name == model.id):
            return pin
    raise ModelError(
        "not a base model of this outlet's policy",
        where="policy.toml [[base_models]]",
        expected="one of " + ", ".join(pin.name for pin in known),
        got=model.id,
        advice="add it: presspool outlet policy pin FOLDER prints an entry",
    )
