"""From a finished run's folder to an entry: everything is checked before anything is stored.

What is taken is a coordinator's run folder, a simulation's, or what an outlet fetched: `adapter/`
with its card and model card, `contract.json`, `result.json`, and `log.proof` where there is one.

Invariants:
    * All of it is of one run: weights, card, model card, contract and result name each other.
    * A run whose noise could be drawn again is not taken, whatever its card claims.
    * Nothing is taken that is no plain file of a plain name, or more than `LARGEST` bytes; and
      nothing lies beside the weights but what a run and its card put there.

Example: `read_run(Path("runs/first"), language=None, task=None, ledgers={}).entry.id`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from presspool.common.audit.cards.card import Card
from presspool.common.audit.cards.card_reading import card_beside
from presspool.common.audit.cards.model_card import CARD_FILE, README
from presspool.common.audit.evidence.ledger_view import OutletReading
from presspool.common.base.errors import EvidenceError, FolderError, InputError
from presspool.common.base.validation import validate
from presspool.common.contract.contract import Contract
from presspool.common.models.adapters import WEIGHTS
from presspool.common.released.adapter_folder import MANIFEST, AdapterFolder, read_adapter
from presspool.common.released.gate_overrides import OVERRIDES
from presspool.common.runs.result_file import parse_result
from presspool.common.runs.run_folder import RunFolder
from presspool.common.transparency.checkpoints import parse_proof
from presspool.server.registry import registry_lineage
from presspool.server.registry.object_store import LARGEST, sha256
from presspool.server.registry.registry_entry import (
    ADAPTER,
    CONTRACT,
    LINEAGE,
    LOG_PROOF,
    RESULT,
    RegistryEntry,
    StoredFile,
)

_BESIDE = frozenset({WEIGHTS, MANIFEST, CARD_FILE, README, "adapter_config.json"})


@dataclass(frozen=True, kw_only=True)
class FinishedAdapter:
    """A run that was checked.

    Attributes:
        contract: the run's.
        entry: what it is in a registry.
        files: path in the entry's folder to content.
    """

    contract: Contract
    entry: RegistryEntry
    files: Mapping[str, bytes]


@dataclass(frozen=True, kw_only=True)
class Papers:
    """A folder whose papers belong to its adapter."""

    adapter: AdapterFolder
    card: Card


def read_run(
    path: Path, *, language: str | None, task: str | None, ledgers: Mapping[str, OutletReading]
) -> FinishedAdapter:
    """Read and check a run's folder.

    Args:
        path: the folder.
        language: of what the adapter reads; None for what its model card says.
        task: what it is used for; None for the contract's kind of task.
        ledgers: outlets' exports, by outlet.

    Raises:
        FolderError: no complete run, or parts of two.
        CardError: no card of this adapter.
        InputError: no language, or a ledger that says nothing of the run.
        EvidenceError: a ledger that says something else.
    """
    papers = read_papers(path)
    contract = papers.adapter.contract
    lineage = registry_lineage.made(path.resolve().name, contract, papers.card, ledgers)
    files = dict(_files(path))
    files[CONTRACT] = contract.canonical()
    files[LINEAGE] = lineage.canonical()
    body = {
        "task": task or contract.task.kind,
        "language": language or _language(path / ADAPTER / README),
        "adapter": papers.adapter.adapter,
        "contract": contract.digest,
        "base_model": contract.model.weights,
        "files": {
            name: StoredFile(sha256=sha256(content), bytes=len(content))
            for name, content in sorted(files.items())
        },
    }
    entry = validate(RegistryEntry, body, where=str(path), fault=InputError)
    return FinishedAdapter(contract=contract, entry=entry, files=files)


def read_papers(path: Path) -> Papers:
    """See that adapter, contract, result and card of a folder are of one run.

    Raises:
        FolderError: they are not, something is missing, or something else lies there.
        CardError: as of `card_reading`.
    """
    for file in (path / CONTRACT, path / RESULT, *sorted((path / ADAPTER).glob("*"))):
        if file.exists():
            _require_plain(file)  # before anybody opens a pipe, and waits
    contract = RunFolder(path).read_contract()
    adapter = read_adapter(path / ADAPTER)
    _require_nothing_else(path / ADAPTER)
    result = parse_result(_plain(path / RESULT))
    said = (result.contract_digest, f"sha256:{result.adapter_sha256}")
    for what, expected, got in (
        ("an adapter of another run", contract.digest, adapter.contract.digest),
        ("a result of another run", (contract.digest, adapter.adapter), said),
        ("a run that is not complete", "complete", result.status),
        ("a run whose noise can be drawn again", False, result.deterministic),
    ):
        _require(path, what, expected, got)
    card = card_beside(path / ADAPTER, adapter.adapter, contract)
    if card is None:
        raise FolderError(
            "an adapter without a privacy card",
            where=str(path / ADAPTER),
            expected="privacy_card.json beside the weights",
            advice=f"presspool audit card {path} --ledger … writes it",
        )
    claims = [text.partition(", covering")[0] for text in (card.statement, adapter.statement)]
    _require(path / ADAPTER / MANIFEST, "another privacy than the card's", *claims)
    _require_named(path / ADAPTER / README, adapter.adapter)
    if (path / LOG_PROOF).exists():
        _require_proof(path / LOG_PROOF)
    return Papers(adapter=adapter, card=card)


def _require(where: Path, what: str, expected: object, got: object) -> None:
    if expected != got:
        raise FolderError(
            what,
            where=str(where),
            expected=expected,
            got=got,
            advice="bring the whole folder of one finished run",
        )


def _require_nothing_else(adapter: Path) -> None:
    """What nobody wrote for a run is signed by nobody: a module that a loader would run, say."""
    if (adapter / OVERRIDES).exists():
        raise FolderError(
            "an adapter that another registry let into use without its release gate",
            where=str(adapter / OVERRIDES),
            expected="a run's folder, as its coordinator or its outlet has it",
            advice="ask whoever made the run for it; what was overridden there stays said there",
        )
    strange = sorted({file.name for file in adapter.iterdir()} - _BESIDE)
    if strange:
        raise FolderError(
            "a file that belongs to no adapter",
            where=str(adapter),
            expected=", ".join(sorted(_BESIDE)),
            got=ascii(strange[0]),
            advice="take it out of the folder",
        )


def _require_named(readme: Path, adapter: str) -> None:
    """See that a model card, where there is one, is of these weights."""
    if readme.exists() and adapter.encode() not in _plain(readme):
        raise FolderError(
            "another adapter's model card",
            where=str(readme),
            expected=f"one that names {adapter}",
            advice="presspool audit card writes it anew",
        )


def _require_proof(file: Path) -> None:
    try:
        parse_proof(_plain(file))
    except EvidenceError as error:
        raise FolderError(
            "not a proof of a consortium's log",
            where=str(file),
            expected="what `presspool outlet adapters` wrote, or no such file",
            got=error.what,
        ) from None


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """All that an entry keeps of a folder as it is."""
    for file in sorted((path / ADAPTER).iterdir()):
        yield f"{ADAPTER}/{file.name}", _plain(file)
    yield RESULT, _plain(path / RESULT)
    if (path / LOG_PROOF).exists():
        yield LOG_PROOF, _plain(path / LOG_PROOF)


def _plain(file: Path) -> bytes:
    """The content of a file that is one."""
    _require_plain(file)
    return file.read_bytes()


def _require_plain(file: Path) -> None:
    if file.is_symlink() or not file.is_file() or file.stat().st_size > LARGEST:
        raise FolderError(
            "not a file that can be taken",
            where=str(file),
            expected=f"a plain file of at most {LARGEST} bytes",
            got="a link" if file.is_symlink() else "something else, or a larger one",
        )


def _language(readme: Path) -> str:
    """What a model card says its language is."""
    from huggingface_hub import ModelCard

    said: object = None
    if readme.is_file():
        text = readme.read_text(encoding="utf-8", errors="replace")
        try:
            said = getattr(ModelCard(text, ignore_metadata_errors=True).data, "language", None)
        except Exception as error:  # noqa: BLE001  yaml's errors have no base of ours
            said = type(error).__name__
    found = said[0] if isinstance(said, list) and len(said) == 1 else said
    if isinstance(found, str) and re.fullmatch("[a-z]{2}", found):
        return found
    raise InputError(
        "no language",
        where="--language",
        expected="the ISO 639-1 code of what the adapter reads and writes",
        got=f"{readme.name} says {said!r}",
        advice="--language en, say",
    )
