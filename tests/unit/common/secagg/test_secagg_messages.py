"""One form in bytes for each message, and nothing of what it carries on a screen."""

from __future__ import annotations

import hashlib

import pytest

from presspool.common.base.errors import EvidenceError
from presspool.common.secagg.secagg_messages import (
    Consent,
    Delivery,
    KeyAdvert,
    MaskedInput,
    Reveal,
    Roster,
    SecaggMessage,
    ShareBundle,
    SurvivorSet,
)
from presspool.common.secagg.secagg_outlet import OutletRecord

C, PARTS = bytes(range(32)), (("a", b"secret"), ("ä", b""))
ALL: list[SecaggMessage] = [
    KeyAdvert(C, b"key", b"signature"),
    Roster(C, PARTS),
    ShareBundle(C, 1, 2, b"check", b"secret", PARTS),
    Delivery(C, 1, 2, PARTS),
    MaskedInput(C, 1, 2, b"secret"),
    SurvivorSet(C, 1, 2, PARTS),
    Consent(C, 1, 2, b"signature"),
    Reveal(C, 1, 2, PARTS, ()),
    OutletRecord(C, b"secret", PARTS, 1, 2, b"secret", PARTS, b"m", b"s", 1),
]
# Of all bytes above: what an outlet of an older version wrote must still be read.
GOLDEN = "aeadddd7dec80e2c093233806f44823e03f607d41bb0ddf47ddc5495331ab22c"


def test_bytes_stay_what_they_were() -> None:
    everything = b"".join(message.to_bytes() for message in ALL)
    assert hashlib.sha256(everything).hexdigest() == GOLDEN


@pytest.mark.parametrize("message", ALL, ids=lambda m: type(m).__name__)
def test_a_message_has_one_form(message: SecaggMessage) -> None:
    data = message.to_bytes()
    assert type(message).from_bytes(data, most=len(data)) == message
    for other in (data + b"\0", data[:-1], b"", data.replace(b"/v1", b"/v2"), b"\xff" * len(data)):
        with pytest.raises(EvidenceError, match=r"malformed|too long"):
            type(message).from_bytes(other, most=1000)
    for kind in {type(m) for m in ALL} - {type(message)}:
        with pytest.raises(EvidenceError, match="malformed"):
            kind.from_bytes(data, most=1000)


@pytest.mark.parametrize("message", ALL, ids=lambda m: type(m).__name__)
def test_what_a_message_carries_is_not_printed(message: SecaggMessage) -> None:
    assert "secret" not in f"{message} {message!r}"


def test_a_long_message_is_not_read() -> None:
    data = MaskedInput(C, 1, 2, bytes(5000)).to_bytes()
    with pytest.raises(EvidenceError, match=r"too long:\n.*4096 bytes or fewer"):
        MaskedInput.from_bytes(data, most=4096)


@pytest.mark.parametrize("parts", [(("b", b""), ("a", b"")), (("a", b""), ("a", b""))])
def test_names_come_once_and_in_order(parts: tuple[tuple[str, bytes], ...]) -> None:
    with pytest.raises(EvidenceError, match="malformed"):
        Delivery.from_bytes(Delivery(C, 1, 2, parts).to_bytes(), most=1000)


def test_a_count_without_names_behind_it_is_refused_at_once() -> None:
    data = Delivery(C, 1, 2, ()).to_bytes()[:-4] + b"\xff" * 4
    with pytest.raises(EvidenceError, match="malformed"):
        Delivery.from_bytes(data, most=1000)
