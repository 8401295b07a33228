"""Outlets that witness for each other over the real port: what they train, and what they find."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.made_outlets import policy_body
from tests.fakes.made_runs import toml
from tests.fakes.made_witnesses import (
    CONTRACT,
    Outlet,
    TwoFaced,
    WitnessPool,
    adapter,
    approve_all,
    entry,
    eventually,
    witness_pool,
)
from tests.unit.client.consent.test_budget import offered
from typer.testing import CliRunner

from presspool.cli import app
from presspool.client.enforcement import opened
from presspool.client.identity.settings import read_settings
from presspool.client.round import Round
from presspool.client.witnessing import trusted_peers
from presspool.client.witnessing.witness_client import WitnessClient
from presspool.common.base.errors import (
    AdmissionError,
    GuardError,
    InputError,
    LinkError,
    NotNowError,
    PressPoolError,
    RollbackError,
)
from presspool.common.contract.contract import Contract
from presspool.common.ledger import entries
from presspool.common.ledger.store import Ledger
from presspool.common.pki.keys import SigningKey
from presspool.common.transparency import merkle, notes
from presspool.common.transparency.checkpoints import Checkpoint, parse_proof
from presspool.common.transparency.consortium_entries import parse_entry
from presspool.common.transparency.forks import verify_fork
from presspool.common.transparency.witness import OK, Reply
from presspool.common.wire.peers import PeerKeys
from presspool.common.wire.update import TrainTask
from presspool.server.witnessing.cosignatures import CosignatureStore
from presspool.server.witnessing.witness_service import WitnessService


def typed(*arguments: object, code: int = 0) -> str:
    """Type a command; returns what it printed."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    known = isinstance(done.exception, PressPoolError)
    assert (done.exception.exit_code if known else done.exit_code) == code, done.exception  # type: ignore[union-attr]
    return done.output


def split(cohort: Sequence[int]) -> Any:
    """A coordinator that shows these outlets its second face."""

    def faces(services: Sequence[WitnessService]) -> TwoFaced:
        made = TwoFaced(services)
        made.face = {f"outlet-{number}": 1 for number in cohort}
        split.made = made  # type: ignore[attr-defined]
        return made

    return faces


def two_faced() -> TwoFaced:
    found: TwoFaced = split.made  # type: ignore[attr-defined]
    return found


def test_a_round_is_trained_when_its_start_is_committed_and_witnessed(tmp_path: Path) -> None:
    with witness_pool(tmp_path, 4) as pool:
        pool.start()
        assert pool.outlets[0].waits(1, turns=3)
        pool.service.commit(entry(0))
        assert [outlet.settled(1) for outlet in pool.outlets] == ["trained"] * 4
        assert pool.outlets[0].waits(2, turns=3)
        pool.service.commit(entry(1))
        assert [outlet.settled(2) for outlet in pool.outlets] == ["trained"] * 4
        kept = pool.outlets[0].folder.path / "proofs" / f"{'c' * 64}.1.proof"
        proof = parse_proof(kept.read_bytes())  # a C2SP file, with the entry as its extra data
        assert parse_entry(proof.extra) == entry(1)
        keys = [outlet.identity.witness.key for outlet in pool.outlets]
        seen = proof.verify(merkle.leaf_hash(proof.extra), log=pool.folder.log.key, witnesses=keys)
        assert pool.outlets[0].identity.witness.key.name in seen
        assert len(seen) >= 3
        assert oct(kept.stat().st_mode)[-3:] == "600"
        assert oct(pool.outlets[0].folder.path.stat().st_mode)[-3:] == "700"


def test_an_outlet_that_is_away_stops_nobody_while_the_quorum_is_met(tmp_path: Path) -> None:
    with witness_pool(tmp_path, 4) as pool:
        pool.start(0, 1, 2)
        pool.service.commit(entry(0))
        assert [outlet.settled(1) for outlet in pool.outlets[:3]] == ["trained"] * 3
        pool.outlets[2].stop()
        pool.service.commit(entry(1))
        assert pool.outlets[0].waits(2)  # one of the two peers that are needed
        pool.outlets[3].start()  # it has seen nothing yet, and reads all of it
        assert [pool.outlets[n].settled(2) for n in (0, 1, 3)] == ["trained"] * 3
        pool.outlets[2].start()
        assert pool.outlets[2].settled(2) == "trained"


def test_an_outlet_in_the_middle_of_a_round_cosigns_for_the_others(tmp_path: Path) -> None:
    with witness_pool(tmp_path, 3) as pool:
        pool.start()
        pool.service.commit(entry(0))
        assert [outlet.settled(1) for outlet in pool.outlets] == ["trained"] * 3
        busy, waiting = pool.outlets[0], pool.outlets[1]
        with busy.budget() as budget, budget.round(offered(), number=1, adapter=adapter("start")):
            pool.service.commit(entry(1))
            assert waiting.settled(2) == "trained"  # both peers are needed, the busy one is one


def test_a_home_that_approved_too_few_refuses_with_words(tmp_path: Path) -> None:
    with witness_pool(tmp_path, 3) as pool:
        for name in ("outlet-1", "outlet-2"):
            typed("outlet", "peers", "withdraw", name, "--home", pool.outlets[0].home)
        pool.start()
        pool.service.commit(entry(0))
        assert pool.outlets[0].answer(1) == "witnesses-too-few"
        said = json.loads(typed("outlet", "peers", "--home", pool.outlets[0].home, "--json"))
        assert [(row["outlet"], row["state"], row["fingerprint"]) for row in said] == [
            ("outlet-1", "not approved", None),
            ("outlet-2", "not approved", None),
        ]


def test_invented_outlets_do_not_count(tmp_path: Path) -> None:
    with witness_pool(tmp_path, 4) as pool:
        invented = [pool.join(f"invented-{number}") for number in range(6)]
        pool.service.commit(entry(0))
        pool.start(0)
        for number, outlet in enumerate(invented):
            approve_all(invented[number : number + 2])
            outlet.start()
        cosigned = CosignatureStore(pool.database)
        log = pool.service.consortium.key
        eventually(lambda: all(cosigned.has(log, 1, o.identity.witness.key) for o in invented))
        assert pool.outlets[0].waits(1)
        for outlet in invented:
            outlet.stop()
        pool.start(1, 2)
        assert pool.outlets[0].settled(1) == "trained"


@pytest.mark.parametrize("more", [0, 1, 3])
def test_two_heads_for_different_outlets_are_found_before_the_next_round(
    tmp_path: Path, more: int
) -> None:
    """Of one size, or of different sizes; nothing is reserved for the round."""
    with witness_pool(tmp_path, 4, faces=split([2, 3])) as pool:
        pool.start()
        first, second = two_faced().faces
        for face in (first, second):
            face.commit(entry(0))
        for outlet in pool.outlets:
            eventually(lambda outlet=outlet: held(outlet, pool) == 1)  # type: ignore[misc]
        first.commit(entry(1, state="told to some"))
        second.commit(entry(1, state="told to others"))
        for number in range(more):
            second.commit(entry(number, contract="sha256:" + "d" * 64))
        before = [outlet.entries() for outlet in pool.outlets]
        sizes = [2, 2, 2 + more, 2 + more]
        eventually(lambda: [held(outlet, pool) for outlet in pool.outlets] == sizes)
        assert all(outlet.waits(2) for outlet in pool.outlets)  # no side has a quorum
        # Now it tries to bring everybody to one side; the others keep who went on there.
        two_faced().face = {"outlet-0": 1, "outlet-3": 1}
        assert pool.outlets[0].settled(2, "told to others") == "split-view"
        assert pool.outlets[2].settled(2, "told to some") == "split-view"
        assert all(found_evidence(pool.outlets[number]) for number in (0, 2))
        assert pool.outlets[1].waits(2)
        assert pool.outlets[3].waits(2)
        assert [outlet.entries() for outlet in pool.outlets] == before
        if not more:
            fork = pool.outlets[0].folder.heads.fork(log_of(pool))
            one, other = verify_fork(fork.read_bytes(), log=pool.folder.log.key)
            assert one.size == other.size == 2
        for number in (0, 2):  # the files convict it before anybody who has its key
            proof = found_evidence(pool.outlets[number])
            said = typed("audit", "fork", proof, "--key", pool.folder.log.key.text)
            assert ("does not continue it" if more else "two different histories") in said
        # It stays so, for every run, and whatever the coordinator says later.
        assert pool.outlets[0].answer(1, contract="sha256:" + "e" * 64) == "split-view"


def held(outlet: Outlet, pool: WitnessPool) -> int:
    note = outlet.folder.heads.read(log_of(pool))
    return Checkpoint.parse(note.text).size if note else 0


def admit(outlet: Outlet, contract: Contract, number: int, state: str) -> None:
    """Ask the outlet's whole gate, as its app does."""
    (outlet.home / "outlet.toml").write_text(
        toml(
            {
                "name": outlet.identity.name,
                "data": "x.csv",
                "policy": "policy.toml",
                "ledger": "ledger.db",
            }
        )
    )
    with opened(read_settings(outlet.home / "outlet.toml")) as gate:
        asked = Round(
            TrainTask(
                contract=contract.canonical().decode(),
                digest=contract.digest,
                round=number,
                state={},
            )
        )
        vars(asked)["base"] = adapter(state)  # the round's adapter is a name here
        gate.allow(asked)


def test_the_gate_asks_the_witnesses_before_anything_is_charged(tmp_path: Path) -> None:
    with witness_pool(tmp_path, 3) as pool:
        contract = offered(outlets={"outlet-0": 30, "outlet-1": 20})
        for outlet in pool.outlets:
            (outlet.home / "policy.toml").write_text(
                toml(policy_body(contract, witnesses={"required": True}))
            )
        pool.start()
        first, second = pool.outlets[:2]
        with pytest.raises(NotNowError, match="not witnessed yet"):
            admit(first, contract, 1, "start")
        pool.service.commit(entry(0, state="start", contract=contract.digest))
        for outlet in (first, second):
            assert outlet.settled(1, "start", contract.digest) == "trained"
        admit(first, contract, 1, "start")
        with pytest.raises(GuardError) as caught:
            admit(second, contract, 1, "another adapter")
        assert caught.value.code == "split-view"
        with pytest.raises(GuardError):
            admit(second, contract, 1, "start")
        trusted_peers.withdraw(first.home, "outlet-1")
        trusted_peers.withdraw(first.home, "outlet-2")
        with pytest.raises(GuardError, match="peers approve NAME FINGERPRINT") as caught:
            admit(first, contract, 1, "start")
        assert caught.value.code == "witnesses-too-few"
        assert [reasons(outlet) for outlet in (first, second)] == [
            ["witnesses-too-few"],
            ["split-view"],
        ]
        (first.home / "policy.toml").write_text(
            toml(policy_body(contract, witnesses={"required": False}))
        )
        admit(first, contract, 1, "anything")


def reasons(outlet: Outlet) -> list[str]:
    """Why its ledger says that runs were refused; no entry of any other kind is there."""
    with Ledger(outlet.ledger) as ledger:
        found = [entries.parse_entry(body) for body in ledger.bodies(1, ledger.book.size)]
    assert all(isinstance(said, entries.Refusal) for said in found)
    return [said.reason for said in found if isinstance(said, entries.Refusal)]


def log_of(pool: WitnessPool) -> str:
    return pool.folder.log.key.name


def found_evidence(outlet: Outlet) -> Path | None:
    files = [*outlet.folder.heads.folder.glob("*.fork"), outlet.folder.contradiction]
    return next((path for path in files if path.exists()), None)


def test_a_task_that_is_not_what_the_log_says_ends_it(tmp_path: Path) -> None:
    with witness_pool(tmp_path, 3) as pool:
        pool.start()
        pool.service.commit(entry(0))
        assert pool.outlets[0].settled(1) == "trained"
        assert pool.outlets[1].settled(1, state="something else") == "split-view"
        document = json.loads(pool.outlets[1].folder.contradiction.read_bytes())
        proof = parse_proof(document["proof"].encode())
        proof.verify(merkle.leaf_hash(proof.extra), log=pool.folder.log.key)
        assert document["task"] != parse_entry(proof.extra).adapter
        # What the task said is the outlet's word: enough to stop, not to convict before others.
        typed(
            "audit",
            "fork",
            pool.outlets[1].folder.contradiction,
            "--key",
            pool.folder.log.key.text,
            code=1,
        )
        assert pool.outlets[1].answer(1) == "split-view"  # from now on, whatever it is
        assert pool.outlets[0].answer(1) == "trained"


def a_stranger(name: str) -> PeerKeys:
    """A peer that has cosigned nothing."""
    witness, books = SigningKey.generate().public, SigningKey.generate().public
    return PeerKeys.made(name, witness=witness, log=books)


def test_outlets_mask_under_the_keys_that_the_log_names_and_under_no_others(
    tmp_path: Path,
) -> None:
    keys, others = adapter("keys"), adapter("others")
    with witness_pool(tmp_path, 3) as pool:
        first, second = pool.outlets[:2]
        with pytest.raises(NotNowError, match="not witnessed yet"):
            first.rule().check_keys(CONTRACT, keys=keys)
        pool.start()
        pool.service.commit(entry(0, keys=keys))
        pool.service.commit(entry(0, contract=adapter("open")))
        for outlet in (first, second):
            assert outlet.settled(1) == "trained"
            outlet.rule().check_keys(CONTRACT, keys=keys)
        more = [*first.rule().approved, *(a_stranger(name) for name in ("x", "y"))]
        with pytest.raises(NotNowError, match="not witnessed yet"):  # in the log, and seen by few
            replace(first.rule(), approved=more).check_keys(CONTRACT, keys=keys)
        assert first.settled(1, contract=adapter("open")) == "trained"
        with pytest.raises(GuardError, match="does not say by which keys") as caught:
            first.rule().check_keys(adapter("open"), keys=keys)
        assert caught.value.code == "sum-refused"
        assert found_evidence(first) is None
        with pytest.raises(GuardError) as caught:
            second.rule().check_keys(CONTRACT, keys=others)
        assert caught.value.code == "split-view"
        assert json.loads(second.folder.contradiction.read_bytes())["task"] == others
        typed(
            "audit", "fork", second.folder.contradiction, "--key", pool.folder.log.key.text, code=1
        )
        assert second.answer(1) == "split-view"
        assert first.answer(1) == "trained"


def test_a_log_that_tells_of_one_round_twice_is_not_cosigned_and_proven(tmp_path: Path) -> None:
    """One tree, no fork, and yet two stories: only who reads the entries sees it."""
    with witness_pool(tmp_path, 3) as pool:
        pool.start()
        pool.service.commit(entry(0))
        assert pool.outlets[0].settled(1) == "trained"
        twice(pool, entry(0, state="another start"))
        for outlet in pool.outlets:
            eventually(outlet.folder.contradiction.exists)
        outlet = pool.outlets[0]
        assert outlet.answer(1) == "split-view"
        proofs = json.loads(outlet.folder.contradiction.read_bytes())["proofs"]
        said = [parse_proof(text.encode()) for text in proofs]
        for proof in said:
            proof.verify(merkle.leaf_hash(proof.extra), log=pool.folder.log.key)
        assert [parse_entry(proof.extra).round for proof in said] == [0, 0]
        sentence = typed(
            "audit", "fork", outlet.folder.contradiction, "--key", pool.folder.log.key.text
        )
        assert f"tells of round 0 of {CONTRACT} in entry 1, after round 0 in entry 0" in sentence
        # Who has the proof cosigns nothing of this log any more.
        held_before = held(outlet, pool)
        pool.service._moved()
        assert held(outlet, pool) == held_before == 1
        assert parse_entry(said[0].extra).adapter != parse_entry(said[1].extra).adapter


def twice(pool: WitnessPool, second: Any) -> None:
    """Append an entry against the log's own rules, as a malicious coordinator would."""
    from presspool.server.witnessing.witness_schema import ConsortiumRow

    log = pool.service.consortium
    with pool.database.writing() as session:
        session.add(ConsortiumRow(number=log.size, contract="x", round=99, body=second.canonical()))
    with log._lock:
        log._tree.extend([merkle.leaf_hash(second.canonical())])
    pool.service._moved()


def test_a_restored_ledger_reserves_nothing_and_a_restored_home_neither(tmp_path: Path) -> None:
    with witness_pool(tmp_path, 3) as pool:
        outlet = pool.outlets[0]
        old = shutil.copytree(outlet.home, tmp_path / "backup")
        with outlet.budget() as budget:
            budget.refuse(CONTRACT, "policy-rounds")
        outlet.start()
        eventually(lambda: (outlet.folder.own_head() or no_head(outlet)).size == 2)
        link = outlet.link()
        eventually(lambda: link.head() is not None)
        outlet.stop()
        for file in outlet.home.glob("ledger.db*"):
            file.unlink()
        for file in old.glob("ledger.db*"):
            shutil.copy2(file, outlet.home)
        with outlet.budget() as budget, pytest.raises(RollbackError, match="older than a head"):
            begin(budget)
        shutil.rmtree(outlet.home)  # the whole home of the day before
        shutil.copytree(old, outlet.home)
        outlet.start()
        assert outlet.watch is not None
        assert outlet.watch.ready.wait(240)
        eventually(lambda: outlet.folder.own_head() is not None)
        with outlet.budget() as budget, pytest.raises(RollbackError) as caught:
            begin(budget)
        assert "restore the newest copy; nothing is reserved from this one" in str(caught.value)
        assert outlet.entries() == 1


def test_an_outlet_whose_first_round_comes_first_still_learns_of_its_ledger_and_tells_nothing(
    tmp_path: Path,
) -> None:
    """The round waits for the pool's word on the ledger, and would for ever if nobody asked."""
    with witness_pool(tmp_path, 2) as pool:
        outlet = pool.outlets[0]
        outlet.start()
        link = outlet.link()
        eventually(lambda: link.head() is not None)
        outlet.stop()
        (outlet.folder.path / "own.checkpoint").unlink()
        with outlet.budget() as budget:
            budget.refuse(CONTRACT, "policy-rounds")
        outlet.busy = True
        outlet.start()
        assert outlet.watch is not None
        assert outlet.watch.ready.wait(240)
        assert (outlet.folder.own_head() or no_head(outlet)).size == 1
        assert published(link) == 1  # the entry is told of when the round is over
        outlet.busy = False
        eventually(lambda: published(link) == 2)


def published(link: WitnessClient) -> int:
    note = link.head()
    return Checkpoint.parse(note.text).size if note else 0


def no_head(outlet: Outlet) -> Checkpoint:
    return Checkpoint(origin=outlet.identity.log.key.name, size=0, root=merkle.EMPTY_ROOT)


def begin(budget: Any) -> None:
    with budget.round(offered(), number=1, adapter=adapter("start")):
        raise AssertionError("a round was begun")


def test_ledgers_are_witnessed_by_who_approved_them_and_cosignatures_come_home(
    tmp_path: Path,
) -> None:
    with witness_pool(tmp_path, 3) as pool:
        stranger = pool.join("stranger")
        pool.outlets.append(stranger)
        pool.start()
        names = {outlet.identity.witness.key.name for outlet in pool.outlets[1:3]}

        def cosigned() -> bool:
            with Ledger(pool.outlets[0].ledger) as ledger:
                seen = {s.name for note in ledger.checkpoints() for s in note.signatures}
            return names <= seen

        eventually(cosigned)
        with Ledger(pool.outlets[0].ledger) as ledger:
            [note] = ledger.checkpoints()
        assert stranger.identity.witness.key.name not in {s.name for s in note.signatures}
        with pool.outlets[0].budget() as budget:
            budget.refuse(CONTRACT, "policy-rounds")

        def held() -> int:
            note = pool.outlets[1].folder.heads.read(pool.outlets[0].identity.log.key.name)
            return Checkpoint.parse(note.text).size if note else 0

        eventually(lambda: held() == 2)


def test_an_outlet_publishes_and_cosigns_in_its_own_name_only(tmp_path: Path) -> None:
    with witness_pool(tmp_path, 3) as pool:
        honest, liar = pool.outlets[:2]
        pool.service.commit(entry(0))
        link = liar.link()
        with Ledger(honest.ledger) as ledger:
            note = ledger.checkpoint(honest.identity.log)
            leaves = [merkle.leaf_hash(body) for body in ledger.bodies(0, 1)]
        refused: list[Callable[[], object]] = [
            lambda: link.publish(start=0, leaves=leaves, note=note),  # another's head
            lambda: link.publish(start=0, leaves=[bytes(32)], note=own_note(liar)),
            lambda: link.publish(start=0, leaves=[*leaves, b"short"], note=own_note(liar)),
            lambda: link.answer(log_of(pool), 1, cosigned_by(honest, pool)),
            lambda: link.answer(log_of(pool), 1, Reply(status=OK, body=b"nonsense")),
            lambda: link.answer(log_of(pool), 1, Reply(status=409, body=b"1\n", fork=b"{}")),
            lambda: link.answer(log_of(pool), 1, Reply(status=OK, body=b"x" * 5000)),
            lambda: link.wait(dict.fromkeys(map(str, range(65)), 0), seen=0),
        ]
        for act in refused:
            with pytest.raises(AdmissionError) as caught:
                act()
            assert caught.value.code == "malformed"
        assert pool.refused == [("outlet-1", "malformed")] * len(refused)
        link.answer("example.org/nobody", 1, cosigned_by(liar, pool))  # a log that is not here
        link.answer(log_of(pool), 7, cosigned_by(liar, pool))
        assert (
            CosignatureStore(pool.database).of(
                pool.folder.log.key, 1, own=liar.identity.witness.key
            )
            == ()
        )
        pool.members.revoke("outlet-1", "planted")
        with pytest.raises(AdmissionError, match="refuses"):
            link.head()


def own_note(outlet: Outlet) -> notes.Note:
    with Ledger(outlet.ledger) as ledger:
        return ledger.checkpoint(outlet.identity.log)


def cosigned_by(outlet: Outlet, pool: WitnessPool) -> Reply:
    text = pool.service.consortium.head(1).text
    line = outlet.identity.witness.sign(text, time=1_800_000_000).line
    return Reply(status=OK, body=f"{line}\n".encode())


def test_a_peer_is_approved_by_what_its_operator_said_and_by_nothing_else(tmp_path: Path) -> None:
    with witness_pool(tmp_path, 2) as pool:
        outlet, other = pool.outlets
        new = pool.join("evening-star")
        said = json.loads(typed("outlet", "peers", "me", "--home", new.home, "--json"))
        before = (outlet.home / "peers.json").read_bytes()
        wrong = other.identity.peer.fingerprint
        typed("outlet", "peers", "approve", "evening-star", wrong, "--home", outlet.home, code=2)
        typed("outlet", "peers", "approve", "nobody", wrong, "--home", outlet.home, code=2)
        assert (outlet.home / "peers.json").read_bytes() == before
        typed(
            "outlet",
            "peers",
            "approve",
            "evening-star",
            said["fingerprint"].lower(),
            "--home",
            outlet.home,
        )
        assert [peer.outlet for peer in trusted_peers.approved(outlet.home)] == [
            "evening-star",
            "outlet-1",
        ]
        # The coordinator puts other keys in the place of an approved peer's: they do not count.
        pool.members.revoke("evening-star", "planted")
        shutil.rmtree(new.home)
        pool.join("evening-star")
        [row, _] = json.loads(typed("outlet", "peers", "--home", outlet.home, "--json"))
        assert "other keys" in row["state"]
        assert row["witness_key"] == said["witness_key"]
        typed("outlet", "peers", "withdraw", "evening-star", "--home", outlet.home)
        typed("outlet", "peers", "withdraw", "evening-star", "--home", outlet.home, code=2)
        own = outlet.identity.peer
        with pytest.raises(InputError, match="another outlet has"):
            trusted_peers.approve(outlet.home, own, own.fingerprint, own=own)
        (outlet.home / "peers.json").write_text("[{}]")
        with pytest.raises(InputError, match="cannot read the approved peers"):
            trusted_peers.approved(outlet.home)


def test_a_coordinator_that_talks_nonsense_costs_the_witness_nothing_but_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with witness_pool(tmp_path, 3) as pool:
        pool.service.commit(entry(0))
        real = type(pool.service.consortium).entries
        monkeypatch.setattr(
            type(pool.service.consortium), "entries", lambda *_a, **_k: [entry(5).canonical()]
        )
        pool.start(0)
        outlet = pool.outlets[0]
        assert outlet.waits(1, turns=20)  # entries that do not lead to the head: no cosignature
        assert outlet.folder.heads.read(log_of(pool)) is None
        assert found_evidence(outlet) is None  # and no proof of anything: it may be a mistake
        monkeypatch.setattr(type(pool.service.consortium), "entries", real)
        pool.service.commit(entry(1))  # what it refused it is asked again with the next head
        pool.start(1, 2)
        assert outlet.settled(2) == "trained"


def test_calls_without_a_members_certificate_reach_nothing(tmp_path: Path) -> None:
    from presspool.client.witnessing.witness_client import WitnessClient
    from presspool.common.pki.tls import channel

    with witness_pool(tmp_path, 2) as pool:
        token = pool.folder.token(pool.members.invite("guest", ttl=60), now=time.time())
        link = WitnessClient(
            token.address, lambda: channel(token.address, token.credential, root=token.root)
        )
        with pytest.raises(LinkError, match="not-a-member"):
            link.peers()
