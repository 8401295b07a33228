"""Every outlet's ledger: there, of this run, and recomputed to no more than is claimed.

Invariants:
    * An outlet of the run that the card leaves out, or whose export nobody brought, is a failure.
    * Costs are computed again from the events in the export, by two accountants; what a ledger says
      of its own sums decides nothing.

Example: `[found.what for found in findings(case)]` are the run's outlets.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from presspool.common.audit.cards import card_evidence
from presspool.common.audit.evidence.ledger_view import OutletReading
from presspool.common.base.errors import PressPoolError
from presspool.common.base.numbers import bound
from presspool.common.ledger.recompute import TOLERANCE, RecomputedRun
from presspool.server.gate.finding import Finding, finding
from presspool.server.gate.gate_case import GateCase

_finding = partial(finding, "ledgers")


def findings(case: GateCase) -> Iterator[Finding]:
    """One an outlet of the run: who writes the card does not choose whose ledger is asked for."""
    card = case.candidate.card
    for name in sorted(case.candidate.papers.adapter.contract.outlets):
        if name in card.outlets_covered:
            yield _outlet(case, name, case.ledgers.get(card.governance.outlets[name].ledger))
        else:
            advice = f"write the card with the ledger of {name}, and add the run anew"
            yield _finding(name, "the card does not speak for it", advice)


def _outlet(case: GateCase, name: str, ledger: OutletReading | None) -> Finding:
    if ledger is None or not ledger.verified:
        what = "no export was brought" if ledger is None else "its own file was brought, no export"
        return _finding(
            name,
            f"{what} of {case.candidate.card.governance.outlets[name].ledger}",
            f"ask {name} for what `presspool audit export` writes, and give it as --ledger",
        )
    try:
        run = _recomputed(case, ledger)
    except PressPoolError as error:
        got = f": {error.got}" if error.got is not None else ""
        return _finding(
            name,
            f"{error.what}{got}",
            error.advice or f"ask {name} which ledger paid for this run, and find out why",
        )
    return _held(case, name, ledger, run)


def _recomputed(case: GateCase, ledger: OutletReading) -> RecomputedRun:
    """The run's reservation, recomputed; raises `PressPoolError` where it is another's or none."""
    card, contract = case.candidate.card, case.candidate.papers.adapter.contract
    found = card_evidence.reserved(ledger, contract, card.outlets_covered)
    card_evidence.require_agreement(ledger, found, contract, contract.trust.epsilon(contract))
    runs = [run for run in case.recomputed[ledger.origin].runs if run.run == contract.digest]
    card_evidence.require_same("reservations of the run", 1, len(runs))
    return runs[0]


def _held(case: GateCase, name: str, ledger: OutletReading, run: RecomputedRun) -> Finding:
    """What the outlet's ledger comes to, beside what the card claims of it."""
    card = case.candidate.card
    claim = card.registry.privacy_loss.privacy_parameters.epsilon
    said, spent = card.governance.outlets[name], run.stated_again
    faults = list(case.recomputed[ledger.origin].failures)
    if run.seq != said.ledger_index:
        faults.append(f"the card names entry {said.ledger_index}, the ledger has {run.seq}")
    if spent is None or not spent <= claim + TOLERANCE:
        faults.append(f"recomputed ε = {spent}, claimed ε = {claim:g}")
    if ledger.claim is None or ledger.claim > said.claim_epsilon:
        faults.append(f"the ledger now claims ε = {ledger.claim}, the card {said.claim_epsilon:g}")
    if faults or spent is None:
        advice = "do not release it; ask the outlet, and write the card again where it is outdated"
        return _finding(name, "; ".join(faults), advice)
    return _finding(
        name,
        f"entry {run.seq}: ε = {bound(spent)} recomputed, {bound(claim)} claimed, by two "
        f"accountants of {len(case.recomputed[ledger.origin].runs)} runs; {_known(ledger)}",
        figures={"value": spent, "most": claim},
    )


def _known(ledger: OutletReading) -> str:
    """What of it was compared with something that did not come with it, the card's head aside."""
    key = "is the one" if ledger.head.key_known else "was not compared with one"
    heads = ledger.head.heads_known
    return f"its first key {key} from elsewhere (--key), {heads} kept heads agree (--head)"
