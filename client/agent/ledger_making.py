"""A new ledger for an outlet: its key, its caps from the policy, and what outlet.toml must say.

Invariant: nothing is replaced: a ledger or a key that is there stays as it is.

Example: `make(home, LedgerWish(epsilon_max=8.0, delta=1e-5, order=6))["key"]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from presspool.client.agent import home as homes
from presspool.client.agent.ledger_renaming import require_own
from presspool.client.consent.policy import EXAMPLE, Policy, read_policy
from presspool.client.identity.identity import Identity, joined_as
from presspool.common.accounting.filter import PORTFOLIO, Caps
from presspool.common.base.errors import FolderError, InputError, LedgerError
from presspool.common.base.files import private_folder, replace_file
from presspool.common.ledger.store import Ledger
from presspool.common.pki.keys import SigningKey
from presspool.common.transparency import notes
from presspool.common.wire.peers import origin_of


@dataclass(frozen=True, kw_only=True)
class LedgerWish:
    """What a ledger is made with, for its lifetime.

    Attributes:
        epsilon_max: ε of everything that the outlet ever does.
        delta: δ.
        order: α of the filter.
        unit: "reader" or "record".
        origin: name of the ledger; None for `presspool/<outlet>`.
        new_key: make a signing key where there is none.

    Raises:
        InputError: a value outside its range.
    """

    epsilon_max: float
    delta: float
    order: int
    unit: str = "reader"
    origin: str | None = None
    new_key: bool = False

    def __post_init__(self) -> None:
        for name, holds, expected in (
            ("delta", 0 < self.delta < 1, "0 < δ < 1"),
            ("order", self.order in PORTFOLIO, f"one of {', '.join(map(str, PORTFOLIO))}"),
            ("unit", self.unit in ("reader", "record"), "reader or record"),
        ):
            if not holds:
                raise InputError(
                    name, where=f"--{name}", expected=expected, got=getattr(self, name)
                )

    def caps(self, policy: Policy) -> Caps:
        """The ledger's caps under a policy; raises `InputError` for one without capacity."""
        try:
            caps = Caps(epsilon_max=self.epsilon_max, period=policy.max_epsilon_per_period)
            caps.check(delta=self.delta, order=self.order)
        except LedgerError as error:
            where = {"where": "--epsilon-max, --order"}
            raise InputError(error.what, **error.parts | where) from None
        return caps


def make(home: Path, wish: LedgerWish) -> dict[str, Any]:
    """Make the ledger of an outlet, and a policy where it has none.

    Returns:
        Paths, the ledger's verifier key, and the lines that outlet.toml lacks.

    Raises:
        InputError: no outlet.toml, no signing key and none is wanted, a cap without capacity, or
            an outlet that has joined under another name.
        FolderError: there is a ledger already.
        LedgerError: there is one, and under another name than the outlet's.
    """
    settings = homes.settings_in(home)
    settings.care.require_unit(wish.unit)
    policy_file, path = homes.policy_path(home), homes.ledger_path(home)
    if path.exists():
        if (identity := _joined(home)) is not None:
            with Ledger(path) as ledger:
                require_own(ledger, path, identity)
        raise FolderError(
            "there is a ledger already",
            where=str(path),
            advice="keep it: a new one would forget what was spent",
        )
    wrote_policy = not policy_file.exists()
    policy = Policy() if wrote_policy else read_policy(policy_file)
    caps = wish.caps(policy)
    origin = origin_of(settings.name)
    if wish.origin not in (None, origin) and _joined(home) is not None:
        raise InputError(
            "a ledger that no peer could witness",
            where="--origin",
            expected=origin,
            got=wish.origin,
            advice="leave it out: the pool knows this outlet's ledger by its membership",
        )
    signer = notes.Signer.load(
        wish.origin or origin,
        _key(home, new=wish.new_key).secret,
        kind=notes.NOTE,
    )
    if wrote_policy:
        replace_file(policy_file, EXAMPLE.encode())
    Ledger.create(
        path, signer=signer, unit=wish.unit, order=wish.order, delta=wish.delta, caps=caps
    ).close()
    missing = settings.ledger is None
    return {
        "ledger": str(path),
        "policy": str(policy_file),
        "policy_written": wrote_policy,
        "key": signer.key.text,
        "order": wish.order,
        "epsilon_max": wish.epsilon_max,
        "delta": wish.delta,
        "unit": wish.unit,
        "add_to_outlet_toml": [f'policy = "{homes.POLICY}"', f'ledger = "{homes.LEDGER}"']
        if missing
        else [],
    }


def _joined(home: Path) -> Identity | None:
    return Identity.read(home) if joined_as(home) is not None else None


def _key(home: Path, *, new: bool) -> SigningKey:
    path = home / homes.LOG_KEY
    if path.exists() or not new:
        try:
            return SigningKey.read(path)
        except InputError as error:
            if path.exists():
                raise
            raise InputError(
                "no key to sign the ledger with",
                where=str(path),
                got=error.got,
                advice="join a pool first (presspool outlet join TOKEN), or give --new-key",
            ) from None
    private_folder(path.parent)
    key = SigningKey.generate()
    key.write(path)
    return key
