"""An adapter's folder: weights, and beside them all that is needed to use them.

::

    adapter_model.safetensors   the arrays; `adapter_config.json` too where the method is PEFT's
    presspool.json              the run's contract (base model by its hashes, task, labels, length),
                                pooling, the weights' sha256 and the privacy statement
    README.md                   how to use it, to be run as it stands
    privacy_card.json           the card, once `presspool audit card` has written it
    overrides.json              of a registry's: who let it into use without its release gate

Invariants:
    * The folder appears whole or not at all.
    * `read_adapter` believes nothing before the weights have the sha256 that is written beside
      them, the contract its digest, and the statement speaks of these weights.

Example: `read_adapter(Path("runs/demo/run")).contract.task`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EINVAL
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from presspool.common.base.errors import FolderError, InputError, StorageError
from presspool.common.base.files import file_sha256, read_most, replace_file
from presspool.common.base.validation import validate
from presspool.common.contract.contract import Contract, parse_contract
from presspool.common.contract.doors import task_of
from presspool.common.models import adapters
from presspool.common.models.adapters import WEIGHTS, State
from presspool.common.released.adapter_readme import readme
from presspool.common.released.gate_overrides import read_overrides
from presspool.common.runs.run_folder import RunFolder
from presspool.common.tasks.scores.answer_figures import AnswerFigures, unsure_up_to

if TYPE_CHECKING:
    from torch import nn

MANIFEST = "presspool.json"
_MOST_BYTES = 8 << 20
_Sha256 = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}\z")]


class AdapterManifest(BaseModel):
    """What `presspool.json` says.

    Attributes:
        format: this form.
        adapter: of the weights' file, as statement and card name it.
        contract_digest: the run's.
        pooling: what the head reads of the last hidden states, in words.
        statement: the one-line privacy statement.
        contract: the run's contract in its canonical form.
        unsure_up_to: answers that are no surer are not given; the key is there only with a value.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["presspool-adapter/1"] = "presspool-adapter/1"
    adapter: _Sha256
    contract_digest: _Sha256
    pooling: str
    statement: Annotated[str, Field(max_length=5000)]
    contract: dict[str, Any]
    unsure_up_to: Annotated[
        float | None, Field(ge=0, le=1, exclude_if=lambda value: value is None)
    ] = None


@dataclass(frozen=True, kw_only=True)
class AdapterFolder:
    """A folder that was checked.

    Attributes:
        path: where it is.
        adapter: `sha256:` of its weights.
        statement: its privacy, in one line.
        contract: its run's.
        unsure_up_to: answers that are no surer are not given, if any.
        overrides: who let it into use without its release gate, a sentence each.
    """

    path: Path
    adapter: str
    statement: str
    contract: Contract
    unsure_up_to: float | None = None
    overrides: tuple[str, ...] = ()


def write_adapter(
    folder: Path,
    model: nn.Module,
    state: State,
    contract: Contract,
    say: Callable[[str], str],
    figures: AnswerFigures | None = None,
) -> str:
    """Write an adapter's folder, in place of any that is there.

    Args:
        folder: where.
        model: the contract's; holds `state` afterwards.
        state: the adapter.
        contract: the run's.
        say: from the weights' `sha256:…` to the privacy statement.
        figures: of the run, which say up to where answers are too unsure to be given.

    Returns:
        The weights' sha256, in hexadecimal.

    Raises:
        StorageError: the disk refuses; what was there is unchanged.
    """
    adapters.load(model, state)
    draft = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    with storing(folder):
        digest = adapters.save(model, draft)
        statement = say(f"sha256:{digest}")
        said = AdapterManifest(
            adapter=f"sha256:{digest}",
            contract_digest=contract.digest,
            pooling=task_of(contract).pooling,
            statement=statement,
            contract=contract.body(),
            unsure_up_to=unsure_up_to(figures),
        )
        body = json.dumps(said.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
        replace_file(draft / MANIFEST, body.encode())
        replace_file(draft / "README.md", readme(contract, statement).encode())
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    return digest


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """What other packages write here fails with our error: the checkpoint holds all rounds."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, StorageError) as error:
        got = error.got if isinstance(error, StorageError) else getattr(error, "strerror", None)
        raise StorageError(
            "cannot write",
            where=str(path),
            got=got or error,
            advice="make room or fix the permissions, then continue with --resume",
        ) from None


def read_adapter(path: Path) -> AdapterFolder:
    """What an adapter's folder, or the folder of a complete run, holds.

    Raises:
        FolderError: no such folder, or one that contradicts itself.
        ContractError: a contract that this version cannot read.
    """
    inside = RunFolder(path).adapter
    folder = inside if not (path / MANIFEST).exists() and inside.is_dir() else path
    said = _manifest(folder)
    weights = f"sha256:{_sha256(folder / WEIGHTS)}"
    if weights != said.adapter or weights not in said.statement:
        raise FolderError(
            "not the weights that are described beside them",
            where=str(folder / WEIGHTS),
            expected=said.adapter,
            got=weights,
            advice="copy the whole folder again from where the run was made",
        )
    contract = parse_contract(said.contract, where=str(folder / MANIFEST))
    if contract.digest != said.contract_digest or not contract.frozen:
        raise FolderError(
            "not the contract of this adapter",
            where=str(folder / MANIFEST),
            expected=said.contract_digest,
            got=contract.digest,
        )
    return AdapterFolder(
        path=folder,
        adapter=weights,
        statement=said.statement,
        contract=contract,
        unsure_up_to=said.unsure_up_to,
        overrides=read_overrides(folder),
    )


def _manifest(folder: Path) -> AdapterManifest:
    path = folder / MANIFEST
    try:
        if path.exists() and not path.is_file():
            raise ValueError("not a file")
        body = json.loads(read_most(path, _MOST_BYTES))
        if not isinstance(body, dict):
            raise ValueError("not an object")
    except (OSError, ValueError, RecursionError) as error:
        raise FolderError(
            "not an adapter's folder",
            where=str(folder),
            expected=f"an adapter's folder with its {MANIFEST}, or the folder of a complete run",
            got=getattr(error, "strerror", None) or f"{MANIFEST}: {error}",
            advice="an older PressPool wrote none: continue that run with --resume, which trains "
            "nothing and writes the folder anew",
        ) from None
    return validate(AdapterManifest, body, where=str(path), fault=InputError)


def _sha256(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, a device never ends
            raise OSError(EINVAL, "something else")
        return file_sha256(path)
    except OSError as error:
        raise FolderError(
            "an adapter's folder without its weights",
            where=str(path),
            expected="a file",
            got=error.strerror,
        ) from None
