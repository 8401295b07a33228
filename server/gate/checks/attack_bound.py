"""What an attack shows at least, beside what the card claims at most.

An attack trains the contract anew with the installed engine, with canaries in it. An engine that
adds less noise than it declares is found by that, and by nothing that the engine itself writes.

Invariants:
    * The attack is of this adapter's very contract, by its digest.
    * One that would not have seen a leak, or whose noise could be drawn again, passes nothing.

Example: `[found.what for found in findings(case)]`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from presspool.common.audit.evidence.attack_document import AttackDocument, read_attack
from presspool.common.base.numbers import bound
from presspool.server.gate.finding import Finding, finding
from presspool.server.gate.gate_case import GateCase

_AGAIN = "presspool audit attack RUN --out FOLDER, then give --attack FOLDER/attack.json"
_finding = partial(finding, "attack_bound")


def findings(case: GateCase) -> Iterator[Finding]:
    """Of what was attacked, whether the attack can see, and what it shows."""
    if case.attack is None:
        yield _finding("evidence", "no attack was brought", f"attack the run: {_AGAIN}")
        return
    found, contract = read_attack(case.attack), case.candidate.papers.adapter.contract
    if found.contract != contract.digest or found.outlet not in contract.outlets:
        said = f"it is of {found.contract} at {found.outlet}, this adapter's is {contract.digest}"
        outlets = ", ".join(sorted(contract.outlets))
        advice = f"attack this adapter's own run at one of {outlets}: {_AGAIN}"
        yield _finding("contract", said, advice[:1000])
        return
    yield _finding("contract", f"it is of {contract.digest} at {found.outlet}")
    yield _power(found, case.policy.evidence.confidence)
    yield _shown(found, case.candidate.card.registry.privacy_loss.privacy_parameters.epsilon)


def _power(found: AttackDocument, confidence: float) -> Finding:
    """Whether the attack's word counts."""
    for fault, said in (
        (found.epsilon is None, "without noise it finds too little: it would see no leak"),
        (found.reproducible, "its noise could be drawn again, which no release's can"),
        (found.confidence < confidence, f"it has {found.confidence:g}, {confidence:g} is asked"),
    ):
        if fault:
            return _finding("power", said, f"try more --canaries, without a seed: {_AGAIN}")
    said = f"without noise it fires; its bounds hold with {100 * found.confidence:g} % confidence"
    return _finding("power", said)


def _shown(found: AttackDocument, claim: float) -> Finding:
    """The lower bound against the claim; what an arm without power shows is told, and never helps.

    It may not be let go either where it is above the claim: then one of the two is wrong.
    """
    if found.epsilon is None:
        return _finding("ε at least", "nothing was shown", "see what is said of its power")
    silent = {name: arm.epsilon for name, arm in found.arms.items() if not arm.fired}
    untold = "".join(
        f"; by the {name} at least {shown:.3f}, which counts for nothing: its control without "
        "noise did not fire"
        for name, shown in silent.items()
    )
    advice = ""
    if max(silent.values(), default=0.0) > claim:
        advice = f"see by a larger attack whether more leaks than is claimed: {_AGAIN}"
    if found.epsilon > claim:
        advice = (
            "more leaks than is claimed, so less noise was added: do not release any adapter of "
            "this installation; find out why"
        )
    said = f"at least ε = {found.epsilon:.3f} leaks at {found.outlet}, claimed {bound(claim)}"
    return _finding("ε at least", said + untold, advice, {"value": found.epsilon, "most": claim})
