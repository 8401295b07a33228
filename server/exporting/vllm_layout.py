"""The folder in which vLLM's filesystem resolver finds adapters, checked, and the command for it.

vLLM asks its resolver for a model that it does not know, and the resolver looks for a folder of
that name in one folder: with an `adapter_config.json` that says LORA and names the very base model
that `vllm serve` was given, and beside it `adapter_model.safetensors`. Nothing of vLLM is imported.

Invariants:
    * A folder that the resolver would pass by in silence is refused here, and so is an adapter that
      vLLM cannot load: DoRA, modules beside the matrices, a rank above its largest.
    * The command names no adapter: whoever asks for a folder's name gets it.

Source: vLLM's guide "LoRA Resolver Plugins" and `vllm.plugins.lora_resolvers.filesystem_resolver`;
the ranks are those of `vllm.config.lora`.

Example: `vllm_layout([Path("loras/headlines")]).lines("127.0.0.1", 8000)`.
"""

from __future__ import annotations

import json
import re
import reprlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from presspool.common.base.errors import FolderError, InputError
from presspool.common.base.files import read_most
from presspool.common.models.adapters import WEIGHTS
from presspool.common.models.catalogue import CATALOGUE

CONFIG = "adapter_config.json"
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
_FACTOR = re.compile(r"base_model\.model\.(?!encoder\.).+\.lora_[AB]\.weight\Z")
_LARGEST = 1 << 20


@dataclass(frozen=True, kw_only=True)
class VllmLayout:
    """What vLLM needs to be told.

    Attributes:
        folder: the one that has the adapters.
        base: what `vllm serve` must be given, to the letter.
        rank: largest that it must take.
        models: the names by which adapters are asked for.
    """

    folder: Path
    base: str
    rank: int
    models: tuple[str, ...]

    @property
    def environment(self) -> dict[str, str]:
        """Variables of vLLM's process."""
        return {
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "true",
            "VLLM_PLUGINS": "lora_filesystem_resolver",
            "VLLM_LORA_RESOLVER_CACHE_DIR": str(self.folder.resolve()),
        }

    def command(self, host: str, port: int) -> list[str]:
        """Its words."""
        where = ["--host", host, "--port", str(port)]
        rank = ["--max-lora-rank", str(self.rank)]
        return ["vllm", "serve", self.base, "--enable-lora", *rank, *where]

    def said(self, host: str, port: int) -> dict[str, Any]:
        """For machines."""
        return {
            "environment": self.environment,
            "command": self.command(host, port),
            "models": list(self.models),
            "base": self.base,
            "base_folder": self._placed,
        }

    def lines(self, host: str, port: int) -> list[str]:
        """For a shell."""
        link = [f"ln -s {shlex.quote(self._placed)} {self.base}"] if self._placed else []
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return [*link, " ".join([*variables, shlex.join(self.command(host, port))])]

    @property
    def _placed(self) -> str | None:
        """Where a base lies that no hub has: vLLM looks for its name in the working folder."""
        known = CATALOGUE.get(self.base)
        return str(known.place) if known is not None and known.gguf is not None else None


def vllm_layout(adapters: Sequence[Path]) -> VllmLayout:
    """Check folders of adapters.

    Args:
        adapters: each a `presspool export --format peft` of one base model, all in one folder.

    Raises:
        FolderError: one that the resolver or vLLM would not take.
        InputError: none, or folders of several places or base models.
    """
    if not adapters:
        raise InputError("no adapter", where="--engine vllm", expected="folders of adapters")
    read = [_config(path) for path in adapters]
    parents = sorted({str(path.resolve().parent) for path in adapters})
    bases = sorted({str(config["base_model_name_or_path"]) for config in read})
    for what, found in (("folder", parents), ("base model", bases)):
        if len(found) > 1:
            raise InputError(
                f"vLLM's resolver knows one {what}",
                where="--engine vllm",
                expected=f"adapters of one {what}",
                got=", ".join(found),
            )
    rank = max(int(config["r"]) for config in read)
    return VllmLayout(
        folder=Path(parents[0]),
        base=bases[0],
        rank=next(one for one in RANKS if one >= rank),
        models=tuple(path.resolve().name for path in adapters),
    )


def _config(folder: Path) -> dict[str, Any]:
    """An adapter's configuration, once all of its folder was looked at."""
    try:
        config = json.loads(read_most(folder / CONFIG, _LARGEST))
        kind, rank, base = config["peft_type"], int(config["r"]), config["base_model_name_or_path"]
        names = _names(folder / WEIGHTS)
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise _refused(folder, f"{CONFIG} and {WEIGHTS} of PEFT", error) from None
    for expected, right, got in (
        ("peft_type LORA", kind == "LORA", kind),
        ("a model that writes", config.get("task_type") == "CAUSAL_LM", config.get("task_type")),
        ("no DoRA, which vLLM does not know", not config.get("use_dora"), "use_dora"),
        ("no modules_to_save", not config.get("modules_to_save"), config.get("modules_to_save")),
        ("a base model's name", _is_name(base), base),
        (f"a rank of at most {RANKS[-1]}", 1 <= rank <= RANKS[-1], rank),
        ("lora_A and lora_B of a plain model's layers", all(map(_FACTOR.match, names)), names[:1]),
    ):
        if not right:
            raise _refused(folder, expected, reprlib.repr(got))
    found: dict[str, Any] = config
    return found


def _is_name(base: object) -> bool:
    """Whether it is a text on one line that `vllm serve` does not take for an option."""
    return isinstance(base, str) and base.isprintable() and base[:1] not in ("", "-")


def _names(weights: Path) -> list[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, "np") as arrays:
            names = sorted(arrays.keys())
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    return names


def _refused(folder: Path, expected: str, got: object) -> FolderError:
    return FolderError(
        "not an adapter that vLLM takes from a folder",
        where=str(folder),
        expected=expected,
        got=got,
        advice="presspool export ADAPTER --format peft --to LORAS/NAME makes one",
    )
