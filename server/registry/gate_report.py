"""The seam to the release gate: what its report must say before an adapter goes into production.

Whatever judges adapters writes a JSON object with at least these keys, and any others beside them;
the registry keeps it whole, by its digest, in the record of the move.

Example:
    >>> said = '{"format": "presspool-gate/1", "entry": "sha256:%s", "passed": true}' % ("0" * 64)
    >>> read_gate_report(said.encode(), entry="sha256:" + "0" * 64)[:11]
    'sha256:6395'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from presspool.common.base.errors import InputError
from presspool.common.base.files import read_file
from presspool.common.contract.contract_schema import Sha256
from presspool.server.registry.object_store import sha256

LARGEST_REPORT = 16 << 20
_refused = partial(InputError, where="--gate")
_PASSES = ("passed", "not_applicable", None)
ALWAYS = frozenset({"papers", "ledgers", "attack_bound"})
"""Checks that no policy can leave out."""


class GateReport(BaseModel):
    """What every gate says.

    Attributes:
        entry: id of what was judged.
        passed: whether it may be used; not, where a finding says that it failed.
        inputs: `sha256:` of each file that was looked at, by what it is: "policy", "rows"; empty
            where the gate says none.
        production: title of what was in use for the same, where the gate says it.
        findings: what was found, where the gate says it; each has a `verdict`.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    format: Literal["presspool-gate/1"]
    entry: Sha256
    passed: bool
    inputs: dict[str, Sha256] = {}
    production: str | None = None
    findings: tuple[Any, ...] = ()

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.passed and any(_verdict(found) not in _PASSES for found in self.findings):
            raise ValueError("passed, and a finding that failed")
        return self


def _verdict(found: object) -> object:
    return found.get("verdict") if isinstance(found, dict) else getattr(found, "verdict", None)


def read_gate_report(
    data: bytes,
    *,
    entry: str,
    inputs: Mapping[str, str] | None = None,
    in_use: Sequence[str] | None = None,
) -> str:
    """The digest of a report that lets an entry pass.

    Args:
        data: the report.
        entry: id of what is to pass.
        inputs: what it must have been judged by: `sha256:` of the policy and of the files that the
            policy names; None for anything.
        in_use: title of what it must have been compared with, if a report says with what; empty
            for nothing, None for anything.

    Raises:
        InputError: no report, another entry's, one by other files, or one that lets it not pass.
    """
    try:
        report = GateReport.model_validate_json(data[: LARGEST_REPORT + 1])
    except (ValidationError, RecursionError):
        raise _refused("no gate report", expected="presspool-gate/1") from None
    if report.entry != entry:
        raise _refused(
            "a report of another adapter",
            expected=entry,
            got=report.entry,
            advice="presspool adapters gate judges this one",
        )
    if not report.passed:
        raise _refused(
            "the gate does not let this adapter pass",
            advice="who overrides it types --without-gate, with a name and a reason",
        )
    for what, digest in (inputs or {}).items():
        if report.inputs.get(what) != digest:
            raise _refused(
                f"not judged by this file: {what}",
                expected=digest,
                got=report.inputs.get(what, "none"),
                advice="presspool adapters gate judges it by this one",
            )
    said = [report.production] if report.production else []
    if in_use is not None and "production" in report.model_fields_set and said != list(in_use):
        raise _refused(
            "judged beside another adapter than is in use now",
            expected=", ".join(in_use) or "nothing in use",
            got=report.production or "nothing in use",
            advice="presspool adapters gate judges it again",
        )
    made = {found.get("check") for found in report.findings if isinstance(found, dict)}
    if inputs is not None and not made >= ALWAYS:
        raise _refused(
            "a report that leaves out what is always looked at",
            expected=f"findings of {', '.join(sorted(ALWAYS))}",
            advice="make it with presspool adapters gate",
        )
    return sha256(data)


def read_report_file(path: Path) -> bytes:
    """What a report's file holds, and one byte more than it may; raises `InputError`."""
    return read_file(path, most=LARGEST_REPORT + 1)
