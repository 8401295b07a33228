"""What a coordinator would know, for tests that need no coordinator."""

from __future__ import annotations

from presspool.common.audit.dashboard.snapshot import (
    Answer,
    CertificateLook,
    OutletLook,
    PoolLook,
    PoolRun,
    Refused,
)

NOW = 1_800_000_000.0


def made_pool(**changes: object) -> PoolLook:
    """A pool of two members with a failed run, a running one, refusals and a fork."""
    fields: dict[str, object] = {
        "name": "press-pool",
        "address": "pool.example.org:7443",
        "members": {"member": 2, "waiting": 1},
        "certificates": (
            CertificateLook(kind="authority", name="press-pool", ends=2_100_000_000),
            CertificateLook(kind="outlet", name="north-post", ends=2_000_000_000),
        ),
        "runs": (
            PoolRun(
                id="winter-1",
                contract="sha256:" + "8" * 64,
                name="winter",
                state="failed",
                note="too few admitted updates",
                done=1,
                rounds=4,
                answers=(),
            ),
            PoolRun(
                id="summer-1",
                contract="sha256:" + "9" * 64,
                name="summer",
                state="running",
                note="waiting for outlets",
                done=0,
                rounds=4,
                answers=(
                    Answer(outlet="north-post", state="answered", refused=None),
                    Answer(outlet="south-echo", state="no answer yet", refused="late"),
                ),
                phase="shares, phase 2 of 5",
            ),
        ),
        "refused": (Refused(outlet="south-echo", run="summer-1", code="late", count=7, last=NOW),),
        "failures": 1,
        "forks": ("presspool/evil",),
        "fleet": (
            OutletLook(
                name="north-post",
                since=NOW - 9e6,
                ends=2_000_000_000,
                seen=NOW - 60,
                version="0.1.0",
                skew=0,
            ),
            OutletLook(
                name="south-echo",
                since=NOW - 9e6,
                ends=2_000_000_000,
                seen=None,
                version="",
                skew=None,
            ),
        ),
    }
    return PoolLook(**{**fields, **changes})  # type: ignore[arg-type]
