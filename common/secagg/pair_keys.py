"""What two outlets of a run share: keys from one exchange (X25519), bound to run, cohort and turn.

Each outlet makes one key pair for the run and signs the public half with its own key; the roster
holds everybody's. From the exchange with a peer, HKDF derives, for each round and attempt anew, the
seed of the pair's mask and two keys for sealed shares, one each way. A seed that is opened because
its outlet dropped out is of that attempt alone, and tells nothing of the exchange.

Invariants:
    * A roster holds the whole cohort, each key signed by its owner for this plan, no key twice, in
      no second spelling, and none of low order: no key is invented, reflected or predictable.
    * Names stand in what HKDF takes: a pair's keys are of two names, not of two points.
    * `session` is of the plan and of all keys: outlets with different rosters are in different
      runs and take nothing from each other.
    * No secret is printed; the exchanges are never stored.

Sources: RFC 7748 (X25519), RFC 5869 (HKDF), RFC 8439 (ChaCha20-Poly1305).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from presspool.common.base.errors import EvidenceError
from presspool.common.pki.keys import KEY_BYTES, SIGNATURE_BYTES, SigningKey, verify
from presspool.common.secagg.secagg_messages import KeyAdvert, Named, Roster, named, packed
from presspool.common.secagg.secagg_plan import SecaggPlan

ADVERT_TAG = "presspool/secagg/key/v1"
NONCE_BYTES = 12
_FIELD = 2**255 - 19  # of X25519's coordinates
# Every secret gets zeros of a point of low order, so one that all may know finds them out.
_ANY_SECRET = X25519PrivateKey.from_private_bytes(bytes(32))

Turn = tuple[int, int]
"""Round and attempt."""


def public_key(secret: bytes) -> bytes:
    """The public half of a run's key."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def key_advert(plan: SecaggPlan, name: str, signer: SigningKey, secret: bytes) -> KeyAdvert:
    """An outlet's public key for this plan, signed."""
    key = public_key(secret)
    signature = signer.sign(ADVERT_TAG, packed(plan.context, name, key))
    return KeyAdvert(context=plan.context, key=key, signature=signature)


def gathered(plan: SecaggPlan, adverts: Mapping[str, KeyAdvert]) -> Roster:
    """The roster of what the outlets sent, as the coordinator hands it out.

    Args:
        plan: of the run.
        adverts: certificate's name to what came from there.

    Raises:
        EvidenceError: see `checked_keys`.
    """
    for name, advert in adverts.items():
        checked_advert(plan, name, advert)
    parts = {name: advert.key + advert.signature for name, advert in adverts.items()}
    roster = Roster(context=plan.context, adverts=named(parts))
    checked_keys(plan, roster)
    return roster


def checked_advert(plan: SecaggPlan, name: str, advert: KeyAdvert) -> None:
    """Return if an outlet signed this key for this plan; raises `EvidenceError`."""
    if advert.context != plan.context:
        raise EvidenceError("of another run, or of other numbers", where=f"key of {name}")
    _checked_key(plan, name, advert.key + advert.signature)


def checked_keys(plan: SecaggPlan, roster: Roster) -> dict[str, bytes]:
    """Everybody's public key.

    Raises:
        EvidenceError: not this plan's whole cohort, or a key that its owner did not sign for this
            plan, that stands there twice or in a second spelling, or is of low order.
    """
    if roster.context != plan.context:
        raise EvidenceError("of another run, or of other numbers", where="roster")
    parts = dict(roster.adverts)
    if parts.keys() != plan.cohort.keys():
        missing = ", ".join(sorted(plan.cohort.keys() - parts.keys())) or "none"
        whole = f"{len(plan.cohort)} outlets; missing: {missing}"
        raise EvidenceError("not the cohort", where="roster", expected=whole, got=len(parts))
    keys = {name: _checked_key(plan, name, part) for name, part in parts.items()}
    if len(set(keys.values())) < len(keys):
        raise EvidenceError("the same key for two outlets", where="roster")
    return keys


def _checked_key(plan: SecaggPlan, name: str, part: bytes) -> bytes:
    where = f"key of {name}"
    key, signature = part[:KEY_BYTES], part[KEY_BYTES:]
    if len(part) != KEY_BYTES + SIGNATURE_BYTES or int.from_bytes(key, "little") >= _FIELD:
        raise EvidenceError("malformed", where=where)
    try:
        verify(plan.cohort[name], ADVERT_TAG, packed(plan.context, name, key), signature)
    except EvidenceError:
        raise EvidenceError("not signed by this outlet for this run", where=where) from None
    try:
        _ANY_SECRET.exchange(X25519PublicKey.from_public_bytes(key))
    except ValueError:
        raise EvidenceError("a point of low order", where=where) from None
    return key


class PairKeys:
    """One outlet's side of all its pairs.

    Args:
        plan: of the run.
        name: the outlet.
        secret: its run's private key (X25519).
        adverts: of a roster.
        known: they were checked before they were kept, and are not again.

    Attributes:
        session: 32 bytes that name plan and roster; `context` of every message of a turn.

    Raises:
        EvidenceError: see `checked_keys`; or the roster has another key for this outlet.
    """

    def __init__(
        self, plan: SecaggPlan, name: str, secret: bytes, adverts: Named, *, known: bool = False
    ) -> None:
        roster = Roster(context=plan.context, adverts=adverts)
        parts = {peer: part[:KEY_BYTES] for peer, part in adverts}
        self._keys = parts if known else checked_keys(plan, roster)
        if self._keys[name] != public_key(secret):
            raise EvidenceError("another key than this outlet made", where=f"key of {name}")
        self.session, self._name, self._secret = session_of(roster), name, secret
        self._exchanged: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"PairKeys({self._name})"

    def pair_seed(self, peer: str, turn: Turn) -> bytes:
        """The seed of the mask that the two share in this attempt; the same at both."""
        first, second = sorted((self._name, peer))
        return self._derived(peer, "pair", turn, first, second)

    def seal(self, peer: str, turn: Turn, plain: bytes, nonce: bytes) -> bytes:
        """`plain` for the peer alone; the nonce, which must not seal anything else, goes before."""
        key = self._derived(peer, "channel", turn, self._name, peer)
        return nonce + ChaCha20Poly1305(key).encrypt(nonce, plain, self.session)

    def open(self, peer: str, turn: Turn, sealed: bytes) -> bytes:
        """What the peer sealed for this outlet in this attempt.

        Raises:
            EvidenceError: it sealed something else, or in another attempt, or for somebody else.
        """
        key = self._derived(peer, "channel", turn, peer, self._name)
        return unsealed(key, sealed, self.session, where=f"shares from {peer}")

    def _derived(self, peer: str, use: str, turn: Turn, first: str, second: str) -> bytes:
        info = packed(f"presspool/secagg/{use}/v1", self.session, *turn, first, second)
        return expanded(self._exchange(peer), info)

    def _exchange(self, peer: str) -> bytes:
        """What the two have in common; computed once, where it is asked for."""
        if peer not in self._exchanged:
            public = X25519PublicKey.from_public_bytes(self._keys[peer])
            own = X25519PrivateKey.from_private_bytes(self._secret)
            self._exchanged[peer] = own.exchange(public)
        return self._exchanged[peer]


def session_of(roster: Roster) -> bytes:
    """What names a plan together with everybody's keys."""
    return hashlib.sha256(roster.to_bytes()).digest()


def expanded(secret: bytes, info: bytes, size: int = 32) -> bytes:
    """HKDF-SHA256 without salt: bytes that are as good as independent for each `info`."""
    return HKDF(hashes.SHA256(), size, None, info).derive(secret)


def unsealed(key: bytes, sealed: bytes, context: bytes, *, where: str) -> bytes:
    """What stands behind a nonce and ChaCha20-Poly1305; raises `EvidenceError` if it does not."""
    nonce, text = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, text, context)
    except (InvalidTag, ValueError):
        raise EvidenceError("does not open", where=where) from None
