"""The line to the coordinator: what other threads may do to it while it is used."""

from __future__ import annotations

import grpc
import pytest

from presspool.client.identity.coordinator_client import Line
from presspool.common.base.errors import LinkError

NOBODY = "127.0.0.1:1"


def test_who_is_hung_up_on_just_before_a_call_has_a_broken_link() -> None:
    """As by a signal: another thread closes the channel that the call is about to take."""
    line = Line(NOBODY, lambda: grpc.insecure_channel(NOBODY))

    def call() -> None:
        with line.calling() as channel:
            line.close()
            channel.unary_unary("/pool/call")(b"")

    with pytest.raises(LinkError):
        call()


def test_a_fault_on_a_line_that_nobody_closed_stays_what_it_is() -> None:
    line = Line(NOBODY, lambda: grpc.insecure_channel(NOBODY))
    with pytest.raises(ValueError, match="ours"), line.calling():
        raise ValueError("ours")
