"""Every parser of what others send, on inputs nobody thought of: refused or read, never a crash.

`make fuzz` runs 100,000 inputs a parser, `make test` a sample. Inputs are made from valid ones by
small damage, from a seed, so that a failure names what brings it back. A hang is the test's time
limit.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from tests.fakes.made_ledgers import DIGEST, JOB, RUN, SIGNER, WITNESSES, identity
from tests.fakes.made_logs import LOG, History, peer

from presspool.common.accounting.filter import Caps
from presspool.common.base.errors import ContractError, EvidenceError, InputError
from presspool.common.contract.contract import EXAMPLE, parse_contract, read_canonical
from presspool.common.ledger import entries
from presspool.common.ledger.export import export
from presspool.common.ledger.store import Ledger
from presspool.common.ledger.verification import verify
from presspool.common.pki import certificates
from presspool.common.transparency import consortium_entries, merkle, notes
from presspool.common.transparency.checkpoints import Checkpoint, Proof, parse_proof
from presspool.common.transparency.contradictions import contradiction, verify_contradiction
from presspool.common.transparency.forks import fork_proof, verify_fork
from presspool.common.transparency.witness import parse_request
from presspool.common.wire.token import PREFIX, Token
from presspool.common.wire.update import ENCODINGS, AdapterUpdate, pack_update, unpack_update

INPUTS, SAMPLE = 100_000, 300
TOKENS = (
    b"\n",
    b"\n\n",
    b"\r\n",
    b"\x00",
    b"\xff",
    b"\xe2\x80\x94 ",
    b"\xed\xa0\x80",
    b" ",
    b"+",
    b"=",
    b"==",
    b"0",
    b"00",
    b"-1",
    b"9" * 40,
    b"9" * 5000,
    b"1e999",
    b"NaN",
    b"-Infinity",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"[" * 3000,
    b'{"a":' * 3000,
    b'"',
    b"\\",
    b'"\\ud800"',
    b"\\u0000",
    "١".encode(),
    "é".encode(),
    "é".encode(),
    b"A" * 44 + b"\n",
    b"old 1\n",
    b"index 0\n",
    b',"seq":1',
    b'"kind":"reserve"',
    b"sha256:",
    b"1.0",
    b"1e400",
    b"2147483648",
    b"-0.0",
)
Make = Callable[[random.Random], Any]


@dataclass(frozen=True, kw_only=True)
class Parser:
    """One parser under test.

    Attributes:
        make: an input from a random generator.
        read: parses, and checks that what was accepted says what the input says.
        refusals: the errors that it may raise.
    """

    make: Make
    read: Callable[[Any], None]
    refusals: tuple[type[Exception], ...]


def damaged(*valid: bytes) -> Make:
    """Inputs that differ in a few places from valid ones."""

    def make(chosen: random.Random) -> bytes:
        if chosen.random() < 0.02:
            return chosen.randbytes(chosen.randrange(200))
        data = chosen.choice(valid)
        for _ in range(chosen.choice((1, 1, 1, 2, 4))):
            data = damage(data, chosen, valid)
        return data

    return make


def damage(data: bytes, chosen: random.Random, valid: tuple[bytes, ...]) -> bytes:
    """One place of the input changed, in one of the ways in which inputs go wrong."""
    at = chosen.randrange(len(data) + 1)
    end = min(len(data), at + chosen.choice((0, 1, 1, 2, 8, 60)))
    other = chosen.choice(valid)
    cut = chosen.randrange(len(other) + 1)
    put = chosen.choice(
        (
            b"",
            chosen.randbytes(1),
            chosen.randbytes(4),
            chosen.choice(TOKENS),
            chosen.choice(TOKENS),
            data[at:end] * 2,
            data[at:end].swapcase(),
            other[cut : cut + chosen.choice((1, 20, 200))],
        )
    )
    return data[:at] + put + data[end:] if chosen.random() < 0.95 else data[:at]


def read_note(data: bytes) -> None:
    note = notes.parse_note(data)
    assert note.encode() == data
    notes.verified(note, [LOG.key, peer(1).key])


def read_key(data: bytes) -> None:
    text = notes.decode_text(data, what="key")
    assert notes.parse_key(text).text == text


def read_checkpoint(data: bytes) -> None:
    text = notes.decode_text(data, what="checkpoint")
    assert Checkpoint.parse(text).text == text


def read_proof(data: bytes) -> None:
    proof = parse_proof(data)
    assert proof.encode() == data
    proof.verify(merkle.leaf_hash(b"b"), log=LOG.key, witnesses=[peer(1).key])


def read_entry(data: bytes) -> None:
    assert entries.parse_entry(data).canonical() == data


def read_export(data: bytes) -> None:
    assert verify(io.BytesIO(data)).head.size in SIGNED_SIZES


def read_contract(data: bytes) -> None:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert read_canonical(data, digest=digest).canonical() == data


def read_token(body: bytes) -> None:
    """The body under a checksum that fits: past the first check, which refuses nearly all."""
    check = hashlib.sha256(body).hexdigest()[:12]
    token = Token.parse(f"{PREFIX}{base64.urlsafe_b64encode(body).decode()}.{check}")
    assert Token.parse(token.encode()) == token


def read_certificate(data: bytes) -> None:
    facts = certificates.read_certificate(certificates.certificate_from_der(data))
    assert facts == certificates.read_certificate(certificates.certificate_from_der(data))


def read_certificate_request(data: bytes) -> None:
    assert certificates.requested_key(data) == certificates.requested_key(REQUEST)


def read_update(content: RecordDict) -> None:
    update = unpack_update(content)
    again = unpack_update(pack_update(update))
    assert (again.outlet, again.round) == (update.outlet, update.round)
    assert {n: a.tobytes() for n, a in again.delta.items()} == {
        n: a.tobytes() for n, a in update.delta.items()
    }


SIGNED_SIZES = (2, 4)


@cache
def exported() -> bytes:
    """A small ledger with two signed heads, one of them cosigned."""
    with TemporaryDirectory() as folder:
        ledger = Ledger.create(
            Path(folder) / "l.db",
            signer=SIGNER,
            unit="reader",
            order=4,
            delta=1e-5,
            caps=Caps(epsilon_max=8.0),
        )
        with ledger:
            run = ledger.reserve(
                run=RUN, unit="reader", period="2026", datasets=[identity(1)], event=JOB, head=None
            )
            note, witness = ledger.checkpoint(SIGNER), WITNESSES[0]
            signed = notes.Note(text=note.text).signed(witness.sign(note.text, time=5))
            ledger.cosign(signed, witnesses=[witness.key])
            ledger.intend(run.reservation, round_number=0, steps=200, digest=DIGEST)
            ledger.settle(run.reservation)
            stream = io.BytesIO()
            export(ledger, stream, signer=SIGNER, witnesses=[witness.key])
    return stream.getvalue()


def made_note() -> bytes:
    head = History([b"a", b"b"]).head()
    return head.signed(peer(1).sign(head.text, time=5)).encode()


def made_proof() -> bytes:
    note = notes.parse_note(made_note())
    return Proof(
        index=1, hashes=(merkle.leaf_hash(b"a"),), checkpoint=note, extra=b"context"
    ).encode()


def made_fork() -> bytes:
    one, other = (History([b"a", end]).head() for end in (b"b", b"c"))
    return fork_proof(one, other, log=LOG.key)


def made_contradiction() -> bytes:
    """Two heads, the later of which changed what the earlier one signed."""
    heads = [History(log).head().encode().decode() for log in ([b"a", b"b"], [b"a", b"c", b"d"])]
    leaves = [merkle.leaf_hash(body).hex() for body in (b"a", b"c", b"d")]
    return contradiction("what was seen", heads=heads, leaves=leaves)


def read_contradiction(data: bytes) -> None:
    """Whatever is damaged, no other story is ever proven."""
    proven = verify_contradiction(made_contradiction(), log=LOG.key)
    assert verify_contradiction(data, log=LOG.key) == proven


def any_update(chosen: random.Random) -> RecordDict:
    """An update's content with some parts replaced by what a peer might send instead."""
    delta = {"w": np.zeros(3, np.float32), "b": np.ones((2, 2), np.float32)}
    content = pack_update(
        AdapterUpdate(outlet="a", round=1, contract=RUN, base=DIGEST, delta=delta)
    )
    for _ in range(chosen.choice((1, 1, 2, 3))):
        chosen.choice((odd_array, odd_field, odd_record))(content, chosen)
    return content


def odd_array(content: RecordDict, chosen: random.Random) -> None:
    if "adapter" not in content.array_records:
        return
    shape = chosen.choice(
        (
            (),
            (0,),
            (3,),
            (-3,),
            (-1, -3),
            (3, 0),
            (2**40,),
            (2**62, 4),
            (1,) * 90,
            (2**31, 2**31, 0),
            (10**9,) * 40,
            (1, 3),
            (True, 3),
        )
    )
    length = chosen.choice((0, 1, 4, 11, 12, 13, 16))
    dtype = chosen.choice(("float32", "float32", "float32", "float64", "object", "", "<f4"))
    stype = chosen.choice(
        (ENCODINGS["float32"], ENCODINGS["float32"], ENCODINGS["float32"], "numpy.ndarray", "")
    )
    array = Array(dtype, shape, stype, chosen.randbytes(length))
    name = chosen.choice(("w", "b", "", "x" * 5000, "\x00", "\ud800", "../w"))
    content["adapter"] = ArrayRecord({**content.array_records["adapter"], name: array})


def odd_field(content: RecordDict, chosen: random.Random) -> None:
    if "update" not in content.config_records:
        return
    name = chosen.choice(("outlet", "round", "contract", "base", "more", ""))
    values: tuple[Any, ...] = (
        "",
        "a",
        "\ud800",
        "x" * 5000,
        0,
        -1,
        2**63 - 1,
        1.0,
        float("nan"),
        True,
        b"",
        [1],
        ["a"],
        [b"a"],
        [1.5],
    )
    fields = dict(content.config_records["update"])
    if chosen.random() < 0.2:
        fields.pop(name, None)
    else:
        fields[name] = chosen.choice(values)
    content["update"] = ConfigRecord(fields)


def odd_record(content: RecordDict, chosen: random.Random) -> None:
    name = chosen.choice(("adapter", "update", "task", "", "more"))
    record: Any = chosen.choice(
        (ArrayRecord(), ConfigRecord(), MetricRecord({"loss": 0.5}), ConfigRecord({"a": 1}))
    )
    if name in content and chosen.random() < 0.3:
        del content[name]
    else:
        content[name] = record


def made_token() -> bytes:
    token = Token(
        pool="press-pool",
        address="localhost:7443",
        outlet="daily-bugle",
        invitation="ab" * 16,
        expires=NOW,
        root=ROOT.certificate,
        contract_key=bytes(32),
        log_key=LOG.key.text,
        credential=certificates.issue_invitation(ROOT, "ab" * 16, now=NOW, until=NOW + 60),
    )
    return base64.urlsafe_b64decode(token.encode().removeprefix(PREFIX).split(".")[0])


def told(number: int = 0) -> consortium_entries.Entry:
    return consortium_entries.Entry(
        run="spring-0a1b2c3d4e5f",
        contract=RUN,
        round=number,
        adapter=DIGEST,
        outlets=("daily-bugle", "evening-star"),
    )


EVIDENCE = (EvidenceError,)
NOW = 1_800_000_000
ROOT = certificates.make_root("press-pool", now=NOW)
REQUEST = certificates.make_request(certificates.make_key())
OUTLET = certificates.certificate_to_der(
    certificates.issue_outlet(ROOT, "daily-bugle", REQUEST, now=NOW)
)
HISTORY = History([b"a", b"b", b"c", b"d", b"e"])
REFUSED = entries.build(
    entries.Refusal, seq=9, day="2026-01-05", run=RUN, reason="policy-noise", charge=0, free=0
)
BODIES = [
    REFUSED.canonical(),
    *(line[45:] for line in exported().splitlines() if not line.startswith(b"{")),
]
FROZEN = parse_contract(json.loads(EXAMPLE)).replace(model={"weights": DIGEST, "tokenizer": DIGEST})
CONTRACTS = [FROZEN.canonical(), EXAMPLE.encode()]
PARSERS = {
    "note": Parser(make=damaged(made_note()), read=read_note, refusals=EVIDENCE),
    "key": Parser(
        make=damaged(LOG.key.text.encode(), peer(1).key.text.encode()),
        read=read_key,
        refusals=EVIDENCE,
    ),
    "checkpoint": Parser(
        make=damaged(HISTORY.head().text.encode()), read=read_checkpoint, refusals=EVIDENCE
    ),
    "proof": Parser(make=damaged(made_proof()), read=read_proof, refusals=EVIDENCE),
    "request": Parser(
        make=damaged(HISTORY.request(2).encode(), HISTORY.request(0).encode()),
        refusals=EVIDENCE,
        read=lambda data: _same(parse_request(data).encode(), data),
    ),
    "fork proof": Parser(
        make=damaged(made_fork()),
        refusals=EVIDENCE,
        read=lambda data: _same(data, made_fork()) if verify_fork(data, log=LOG.key) else None,
    ),
    "contradiction": Parser(
        make=damaged(made_contradiction()), read=read_contradiction, refusals=EVIDENCE
    ),
    "entry": Parser(make=damaged(*BODIES), read=read_entry, refusals=EVIDENCE),
    "consortium entry": Parser(
        make=damaged(told().canonical(), told(3).canonical()),
        refusals=EVIDENCE,
        read=lambda data: _same(consortium_entries.parse_entry(data).canonical(), data),
    ),
    "export": Parser(make=damaged(exported()), read=read_export, refusals=EVIDENCE),
    "contract": Parser(make=damaged(*CONTRACTS), read=read_contract, refusals=(ContractError,)),
    "token": Parser(make=damaged(made_token()), read=read_token, refusals=(InputError,)),
    "certificate": Parser(make=damaged(OUTLET), read=read_certificate, refusals=EVIDENCE),
    "certificate request": Parser(
        make=damaged(REQUEST), read=read_certificate_request, refusals=EVIDENCE
    ),
    "update": Parser(make=any_update, read=read_update, refusals=(ValueError, TypeError)),
}


def _same(one: bytes, other: bytes) -> None:
    assert one == other


def fuzz(name: str, *, inputs: int) -> None:
    parser, seed = PARSERS[name], random.Random(name).getrandbits(32)
    chosen, refused = random.Random(seed), 0
    for number in range(inputs):
        value = parser.make(chosen)
        try:
            parser.read(value)
        except parser.refusals:
            refused += 1
        except BaseException as error:
            error.add_note(f"{name}, seed {seed}, input {number}: {value!r}"[:4000])
            raise
    # Damage is mostly found, and some inputs are whole: the parser was asked everything.
    assert inputs / 2 < refused < inputs


@pytest.mark.parametrize("name", PARSERS)
def test_damaged_inputs_are_refused_or_read(name: str) -> None:
    fuzz(name, inputs=SAMPLE)


@pytest.mark.fuzz
@pytest.mark.parametrize("name", PARSERS)
def test_a_hundred_thousand_damaged_inputs(name: str) -> None:
    fuzz(name, inputs=INPUTS)
