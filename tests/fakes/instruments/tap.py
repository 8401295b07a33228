"""Every byte that a process hands to gRPC, before TLS, and words that are looked for in it.

As a program it is `presspool` with the tap on: `python -m tests.fakes.instruments.tap FILE outlet
run --home HOME`.

Example: `with tapped(sent.append): …; assert leaks(b"".join(sent), ["canary"]) == []`.
"""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from grpc._cython import cygrpc

_OUT = ("SendMessageOperation", "SendInitialMetadataOperation")  # all that a client says
_TYPES = ("<f2", "<f4", "<f8", "<i2", "<i4", "<i8", ">f4", ">f8", ">i2", ">i4", ">i8")


@contextmanager
def tapped(keep: Callable[[bytes], object]) -> Iterator[None]:
    """Hand a copy of all that goes to gRPC to `keep`; and of what Python dials by itself."""
    real = {name: getattr(cygrpc, name) for name in _OUT}
    for name in _OUT:
        setattr(cygrpc, name, _copying(real[name], keep))
    try:
        yield
    finally:
        for name in _OUT:
            setattr(cygrpc, name, real[name])


def _copying(real: Callable[..., object], keep: Callable[[bytes], object]) -> Callable[..., object]:
    def operation(content: object, *more: object) -> object:
        keep(content if isinstance(content, bytes) else repr(content).encode())
        return real(content, *more)

    return operation


def leaks(data: bytes, words: Iterable[str]) -> list[str]:
    """Which words are in the data, and in what form: also inside arrays, encodings and digests."""
    folded = data.lower()
    return [
        f"{word} as {form}"
        for word in words
        for form, found in _forms(word)
        if found in (folded if form == "hexadecimal" else data)
    ]


def _forms(word: str) -> Iterator[tuple[str, bytes]]:
    text = word.encode()
    yield "text", text
    yield "text, backwards", text[::-1]
    yield "hexadecimal", text.hex().encode()
    for wide in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        yield wide, word.encode(wide)
    for shift in range(3):  # the whole groups of three bytes, wherever the word begins
        whole = text[(3 - shift) % 3 :]
        whole = whole[: len(whole) // 3 * 3]
        yield "base64", base64.b64encode(whole)
        yield "base64", base64.urlsafe_b64encode(whole)
    for dtype in _TYPES:
        yield f"array of {dtype}", np.frombuffer(text, np.uint8).astype(dtype).tobytes()
    for name in ("sha256", "sha1", "md5"):
        digest = hashlib.new(name, text).digest()
        yield name, digest
        yield "hexadecimal", digest.hex().encode()


if __name__ == "__main__":
    from presspool.cli import main

    with open(sys.argv.pop(1), "ab", buffering=0) as file, tapped(file.write):  # noqa: PTH123
        main()
