"""An outlet's `contradiction.json`: what convicts a log before everybody, and nothing else does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.made_logs import LOG, History
from tests.fakes.made_witnesses import adapter, entry

from presspool.client.witnessing.log_copy import ContradictionError, LogCopy
from presspool.client.witnessing.witness_folder import WitnessFolder
from presspool.common.base.errors import EvidenceError
from presspool.common.transparency import merkle, notes
from presspool.common.transparency.checkpoints import Proof
from presspool.common.transparency.contradictions import (
    LARGEST,
    contradiction,
    is_contradiction,
    verify_contradiction,
)

START, FIRST, AGAIN = entry(0), entry(1), entry(1, state="told to others")
OTHER = entry(0, contract="sha256:" + "d" * 64)
Body = dict[str, Any]


def caught(folder: Path, told: Sequence[bytes], *, before: History | None = None) -> bytes:
    """The file that an outlet writes which reads these entries, after cosigning a head before."""
    held = before.head() if before else None
    copy = LogCopy(LOG.key)
    with pytest.raises(ContradictionError) as found:
        copy.follow(History(told).head(), held=held, fetch=lambda start: told[start:])
    kept = WitnessFolder.at(folder)
    kept.contradicted(found.value.what, **found.value.evidence)
    return kept.contradiction.read_bytes()


def bodies(*said: Any) -> list[bytes]:
    return [one.canonical() for one in said]


def rewritten(folder: Path) -> bytes:
    return caught(folder, bodies(START, AGAIN, OTHER), before=History(bodies(START, FIRST)))


def twice(folder: Path) -> bytes:
    return caught(folder, bodies(START, FIRST, OTHER, AGAIN))


def no_entry(folder: Path) -> bytes:
    return caught(folder, [START.canonical(), b"not an entry"])


def other_task(_: Path) -> bytes:
    body = START.canonical()
    proof = Proof(index=0, hashes=(), checkpoint=History([body]).head(), extra=body)
    return contradiction(
        "x", contract=START.contract, round=0, task=adapter("else"), proof=proof.encode().decode()
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (rewritten, "signed a head of 2 entries and a head of 3 entries that does not continue it"),
        (twice, f"tells of round 1 of {START.contract} in entry 3, after round 1 in entry 1"),
        (no_entry, "signed a log whose entry 1 is no entry"),
    ],
)
def test_what_an_outlet_wrote_convicts_the_log(
    tmp_path: Path, make: Callable[[Path], bytes], said: str
) -> None:
    data = make(tmp_path)
    assert is_contradiction(data)
    sentence = verify_contradiction(data, log=LOG.key)
    assert sentence.startswith("example.org/pool ")
    assert said in sentence
    told = {**json.loads(data), "what": "the outlet did it"}  # nobody signed this text
    assert verify_contradiction(json.dumps(told).encode(), log=LOG.key) == sentence
    impostor = notes.Signer.generate(LOG.key.name, kind=notes.NOTE)
    with pytest.raises(EvidenceError):
        verify_contradiction(data, log=impostor.key)


def test_what_only_the_finder_says_convicts_nobody(tmp_path: Path) -> None:
    """Anybody can write such a file about an honest log."""
    data = other_task(tmp_path)
    with pytest.raises(EvidenceError, match="this file alone convicts nobody"):
        verify_contradiction(data, log=LOG.key)
    body = json.loads(data)
    for key, value in (("round", 1), ("contract", "sha256:" + "e" * 64), ("round", None)):
        with pytest.raises(EvidenceError, match="another round"):
            verify_contradiction(
                contradiction(**{**without(body, "format"), key: value}), log=LOG.key
            )


def without(body: Body, *keys: str) -> Body:
    return {key: value for key, value in body.items() if key not in keys}


def edits(body: Body) -> list[Body]:
    """The document with each of its parts exchanged, shortened, doubled or of another type."""
    found = []
    for key in body.keys() - {"what", "format"}:
        value = body[key]
        found += [without(body, key), {**body, key: None}, {**body, key: 7}, {**body, key: [7, 7]}]
        if isinstance(value, list):
            found += [
                {**body, key: value[:-1]},
                {**body, key: value[::-1]},
                {**body, key: [*value, value[-1]]},
                {**body, key: [value[0]] * len(value)},
            ]
            found += [
                {**body, key: [*value[:at], flipped(text), *value[at + 1 :]]}
                for at, text in enumerate(value)
            ]
    return found


def flipped(text: str) -> str:
    """The text with one character in its middle changed."""
    middle = len(text) // 2
    return text[:middle] + ("1" if text[middle] != "1" else "2") + text[middle + 1 :]


@pytest.mark.parametrize("make", [rewritten, twice])
def test_an_edited_file_convicts_nobody(tmp_path: Path, make: Callable[[Path], bytes]) -> None:
    changed = edits(json.loads(make(tmp_path)))
    assert len(changed) >= 10
    for body in changed:
        with pytest.raises(EvidenceError):
            verify_contradiction(json.dumps(body).encode(), log=LOG.key)


def test_honest_heads_and_honest_entries_convict_nobody() -> None:
    honest = History(bodies(START, FIRST, OTHER))
    leaves = [merkle.leaf_hash(body).hex() for body in honest.entries]
    for sizes in ((2, 3), (3, 3), (0, 3)):
        heads = [honest.head(size).encode().decode() for size in sizes]
        with pytest.raises(EvidenceError, match="do not contradict each other"):
            verify_contradiction(contradiction("", heads=heads, leaves=leaves), log=LOG.key)
    proofs = [proven(honest, index) for index in range(3)]
    for chosen in ([0], [0, 1], [1, 2], [1, 0], [1, 1], [0, 1, 2], []):
        data = contradiction("", proofs=[proofs[index] for index in chosen])
        with pytest.raises(EvidenceError, match="do not contradict each other"):
            verify_contradiction(data, log=LOG.key)


def proven(history: History, index: int) -> str:
    size = len(history.entries)
    hashes = merkle.inclusion_proof(index, size, history._read)
    proof = Proof(
        index=index, hashes=hashes, checkpoint=history.head(), extra=history.entries[index]
    )
    return proof.encode().decode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"[" * 100_000,
        b"\xff",
        b'{"format":"presspool-contradiction/1"}',
        b" " * (LARGEST + 1),
    ],
)
def test_what_is_no_such_document_convicts_nobody(data: bytes) -> None:
    with pytest.raises(EvidenceError, match="one document of presspool-contradiction/1"):
        verify_contradiction(data, log=LOG.key)
