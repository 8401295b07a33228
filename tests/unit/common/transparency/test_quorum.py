"""The quorum rule: a thousand forks by a malicious coordinator, none of them trained twice."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import pytest
from tests.fakes.made_logs import LOG, History, cosignatures, peer, witness

from presspool.common.base.errors import EvidenceError, LedgerError
from presspool.common.transparency import notes
from presspool.common.transparency.forks import fork_proof, verify_fork
from presspool.common.transparency.quorum import needed, require_quorum
from presspool.common.transparency.witness import Request, Witness

Rule = Callable[[notes.Note, notes.VerifierKey, Sequence[notes.VerifierKey], int], object]
INVENTED = [peer(number) for number in range(100, 110)]
HEAD = History([b"a", b"b"]).head()


def cosigned(numbers: Sequence[int], note: notes.Note = HEAD) -> notes.Note:
    return note.signed(*(peer(number).sign(note.text, time=5) for number in numbers))


def keys(*numbers: int) -> list[notes.VerifierKey]:
    return [peer(number).key for number in numbers]


@pytest.mark.parametrize("peers", range(1, 12))
def test_more_than_half_of_peers_and_liars(peers: int) -> None:
    for liars in range(peers):
        least = needed(peers=peers, liars=liars)
        assert 2 * least > peers + liars >= 2 * (least - 1)
        assert least <= peers
        # Where fewer than a third lie, the honest ones alone are enough.
        assert (least <= peers - liars) == (peers >= 3 * liars + 1)


@pytest.mark.parametrize(("peers", "liars"), [(0, 0), (3, 3), (3, 4), (3, -1)])
def test_no_quorum_can_be_made_of_liars(peers: int, liars: int) -> None:
    with pytest.raises(LedgerError, match="approved peers"):
        needed(peers=peers, liars=liars)


def test_a_head_with_enough_cosignatures() -> None:
    head = require_quorum(
        cosigned([0, 1, 2, 3]), log=LOG.key, own=peer(0).key, approved=keys(1, 2, 3, 4), liars=1
    )
    assert head.size == 2


@pytest.mark.parametrize(
    ("signers", "words"),
    [
        ([0, 1, 2], "2: example.*1, example.*2"),
        ([1, 2, 3, 4], "this outlet's own"),
        ([0], "0: none"),
        ([0, *range(100, 110)], "0: none"),
        ([0, 1, 2, *range(100, 110)], "3 of 4 approved peers"),
        ([0, 1, 2, 2, 2], "2: example"),
    ],
)
def test_a_head_without_enough(signers: list[int], words: str) -> None:
    with pytest.raises(EvidenceError, match=words):
        require_quorum(
            cosigned(signers), log=LOG.key, own=peer(0).key, approved=keys(1, 2, 3, 4), liars=1
        )


def test_one_peer_s_many_cosignatures_count_once() -> None:
    note = HEAD.signed(*(peer(n).sign(HEAD.text, time=t) for n in (0, 1) for t in range(9)))
    with pytest.raises(EvidenceError, match="1: example"):
        require_quorum(note, log=LOG.key, own=peer(0).key, approved=keys(1, 2, 3), liars=0)


def test_a_head_must_be_the_logs_own() -> None:
    impostor = notes.Signer.generate(LOG.key.name, kind=notes.NOTE)
    note = cosigned([0, 1, 2], History([b"a"], impostor).head())
    with pytest.raises(EvidenceError):
        require_quorum(note, log=LOG.key, own=peer(0).key, approved=keys(1, 2), liars=0)


def test_a_known_key_s_bad_cosignature_spoils_the_head() -> None:
    other = peer(2).sign(History([b"z"]).head().text, time=5)
    with pytest.raises(EvidenceError, match="does not verify"):
        require_quorum(
            cosigned([0, 1, 3]).signed(other),
            log=LOG.key,
            own=peer(0).key,
            approved=keys(1, 2, 3),
            liars=0,
        )


def test_keys_that_would_count_twice_or_not_at_all() -> None:
    alias = notes.Signer.load("example.org/alias", (1).to_bytes(2) * 16, kind=notes.COSIGNATURE)
    for approved, words in (
        (keys(1, 2, 1), "every key once"),
        ([*keys(1, 2), alias.key], "every key once"),
        (keys(0, 1, 2), "not this outlet's own"),
        ([*keys(1, 2), LOG.key], "a cosigning key"),
    ):
        with pytest.raises(LedgerError, match=words):
            require_quorum(
                cosigned([0, 1, 2]), log=LOG.key, own=peer(0).key, approved=approved, liars=0
            )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one simulated fork led to.

    Attributes:
        trained: branches from which some honest outlet would train the next round.
        stopped: honest outlets that would not.
        proofs: fork proofs that an honest witness or a comparison of heads gave.
        same_size: the branches' heads are of one size.
    """

    trained: frozenset[int]
    stopped: int
    proofs: tuple[bytes, ...]
    same_size: bool


def the_rule(
    note: notes.Note, own: notes.VerifierKey, approved: Sequence[notes.VerifierKey], liars: int
) -> object:
    return require_quorum(note, log=LOG.key, own=own, approved=approved, liars=liars)


def fork(chosen: random.Random, rule: Rule) -> Outcome:
    """One coordinator that shows two histories to a pool, as cleverly as it can.

    Every outlet has 3 to 7 peers, of whom it allows for f liars; at most f lie, and they cosign
    everything. An outlet may be handed the head that its witness has not seen. Both branches have
    cosignatures of invented outlets as well.
    """
    pool = range(chosen.randint(4, 8))
    peers = len(pool) - 1
    # Two honest outlets at least, or there is nobody left to show two histories to.
    liars = chosen.randint(0, min(peers - 1, len(pool) - 2))
    lying = set(chosen.sample(pool, chosen.randint(0, liars)))
    honest = [number for number in pool if number not in lying]
    common = chosen.randint(0, 6)
    grown = [chosen.randint(1, 4) for _ in range(2)]
    if chosen.random() < 0.6:
        grown[1] = grown[0]
    branches = [
        History([b"round %d" % i for i in range(common)] + [b"branch %d" % b] * grown[b])
        for b in range(2)
    ]
    witnesses = {number: witness(number) for number in honest}
    for made in witnesses.values():
        if common:
            reply = made.add_checkpoint(branches[0].request(0, common).encode())
            assert reply.status == 200
    order = chosen.sample(honest, len(honest))
    cut = chosen.randint(1, len(honest) - 1) if chosen.random() < 0.5 else len(honest) // 2
    shown = {number: int(place >= cut) for place, number in enumerate(order)}
    handed = {n: chosen.randrange(2) if chosen.random() < 0.5 else b for n, b in shown.items()}
    heads = [branch.head() for branch in branches]
    proofs: list[bytes] = []
    for number, made in witnesses.items():
        mine, other = shown[number], 1 - shown[number]
        heads[mine] = submit(made, branches[mine], common, heads[mine])
        for attempt in attempts(chosen, branches, other, common):
            reply = made.add_checkpoint(attempt.encode())
            assert reply.status != 200
            proofs += [reply.fork] if reply.fork else []
    for number in (*lying, *(range(100, 110))):
        heads = [head.signed(peer(number).sign(head.text, time=5)) for head in heads]
    trained, stopped = set(), 0
    for number in honest:
        approved = [peer(other).key for other in pool if other != number]
        try:
            rule(heads[handed[number]], peer(number).key, approved, liars)
            trained.add(handed[number])
        except EvidenceError:
            stopped += 1
    same = grown[0] == grown[1]
    if stopped and same:  # who was stopped compares heads with the others
        proofs.append(fork_proof(heads[0], heads[1], log=LOG.key))
    return Outcome(
        trained=frozenset(trained), stopped=stopped, proofs=tuple(proofs), same_size=same
    )


def submit(made: Witness, branch: History, common: int, head: notes.Note) -> notes.Note:
    """The head with this witness's cosignature, as an honest coordinator would get it."""
    reply = made.add_checkpoint(branch.request(common).encode())
    assert (reply.status, reply.fork) == (200, None)
    return head.signed(*cosignatures(reply))


def attempts(
    chosen: random.Random, branches: Sequence[History], other: int, common: int
) -> list[Request]:
    """What a coordinator may try to get the other branch cosigned by the same witness."""
    target, mine = branches[other], branches[1 - other]
    held = len(mine.entries)
    tries = [target.request(0), target.request(common)]
    if held <= len(target.entries):
        tries.append(target.request(held))
        tries.append(Request(old=held, proof=mine.request(common).proof, checkpoint=target.head()))
    return chosen.sample(tries, chosen.randint(0, len(tries)))


@pytest.fixture
def each_signature_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All outlets verify the same few signatures: the real verification, remembered."""
    monkeypatch.setattr(notes, "_check", lru_cache(maxsize=4096)(notes._check))


def found(outcome: Outcome) -> bool:
    """Before the next round: no two branches are trained, somebody is stopped."""
    return len(outcome.trained) < 2 and outcome.stopped > 0


@pytest.mark.usefixtures("each_signature_once")
def test_a_thousand_forks_are_all_found_before_the_next_round() -> None:
    chosen, trained, proven = random.Random(1), 0, 0
    for _ in range(1000):
        outcome = fork(chosen, the_rule)
        assert found(outcome)
        trained += len(outcome.trained)
        if outcome.same_size:
            assert outcome.proofs
        for proof in outcome.proofs:
            proven += 1
            first, second = verify_fork(proof, log=LOG.key)
            assert first.root != second.root
    # Some forks leave the larger branch alive, some stop all: both kinds were tried.
    assert 0 < trained < 1000
    assert proven > 300


def enough(
    note: notes.Note, own: notes.VerifierKey, approved: Sequence[notes.VerifierKey], least: int
) -> None:
    signed = {s.name for s in note.signatures} & {key.name for key in approved}
    if len(signed) < least:
        raise EvidenceError("too few")


WRONG: dict[str, Rule] = {
    "liars are forgotten": lambda note, own, approved, _: enough(
        note, own, approved, len(approved) // 2 + 1
    ),
    "two liars too many": lambda note, own, approved, liars: the_rule(
        note, own, approved, max(0, liars - 2)
    ),
    "own cosignature not asked for": lambda note, own, approved, liars: enough(
        note, own, approved, needed(peers=len(approved), liars=liars)
    ),
    "invented outlets count": lambda note, own, approved, liars: enough(
        note,
        own,
        [*approved, *(key.key for key in INVENTED)],
        needed(peers=len(approved), liars=liars),
    ),
}


@pytest.mark.parametrize("rule", WRONG.values(), ids=list(WRONG))
def test_the_simulation_finds_wrong_rules(rule: Rule) -> None:
    """Planted mistakes: each lets some fork through, so the thousand above are no accident."""
    chosen = random.Random(2)
    assert not all(found(fork(chosen, rule)) for _ in range(1500))
