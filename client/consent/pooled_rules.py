"""An outlet's rules for runs whose noise the pool shares.

What a pooled ε assumes is for an outlet's own people to believe: how many outlets may collude, and
that the others are outlets at all. A coordinator that invents members of the cohort has them among
the colluders, so whom the operator does not know has to be among those that are reckoned with.

Invariant: pure decisions on contract, policy and the names of approved peers; data plays no part.

Example: `check_known(asked)` refuses a pooled round to an outlet that nobody knows by a key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from presspool.client.consent.held_rule import HeldRule, at_least, at_most
from presspool.client.round import Round
from presspool.common.base.errors import GuardError
from presspool.common.contract.contract import Contract

if TYPE_CHECKING:
    from presspool.client.consent.policy import Policy


def pooled_findings(
    contract: Contract, policy: Policy, peers: Collection[str]
) -> Iterator[HeldRule]:
    """The rules for noise that the pool shares; none where it does not, or is not allowed to.

    Args:
        contract: the run's, frozen.
        policy: the outlet's.
        peers: outlets whose keys its operator approved; only they are surely no invention.
    """
    table, rules, trust = contract.pooled, policy.pooled, contract.federation.trust
    if table is None or trust not in policy.trust:
        return
    outlets = len(contract.outlets)
    yield at_least(
        "policy-colluders",
        "pooled.min_colluders_share",
        "[pooled] colluders / outlets",
        table.colluders / outlets,
        rules.min_colluders_share,
        "more colluders to be reckoned with",
    )
    yield at_most(
        "policy-dropouts",
        "pooled.max_dropouts_share",
        "[pooled] dropouts / outlets",
        table.dropouts / outlets,
        rules.max_dropouts_share,
        "fewer dropouts",
    )
    fewest = rules.min_own_peers
    yield at_least(
        "policy-peers",
        "pooled.min_own_peers",
        "outlets in [outlets] whose keys you approved",
        len(contract.outlets.keys() & set(peers)),
        outlets - 1 - table.colluders if fewest is None else fewest,
        "outlets that you know (presspool outlet peers)",
    )
    alone = contract.trust.alone(contract, contract.outlet_steps)
    assert alone is not None  # its noise is shared
    found = at_most(
        "policy-alone",
        "pooled.max_epsilon_alone",
        "ε if everybody else works together",
        alone,
        rules.max_epsilon_alone,
        "more noise, fewer steps or fewer outlets to count on",
    )
    yield replace(found, asked=f"{alone:.4f}")


def check_known(asked: Round) -> None:
    """Return unless an outlet without a membership is asked for a part of a sum over a network.

    Raises:
        GuardError: so it is.
    """
    if asked.masked:
        raise GuardError(
            "policy-trust",
            "only an outlet that has joined a pool has the keys for its sums",
            where="contract [federation] trust",
            expected="local, or an outlet with a policy and a ledger",
            got=asked.contract.federation.trust,
            advice="presspool outlet join; or try it: presspool simulate RUN",
        )
