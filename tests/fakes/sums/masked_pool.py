"""Members of a pool, and a grid that carries their tasks as a network does, in this process.

Each has a home of its own: settings, policy, ledger, snapshot and the key by which the others know
it. Real gates, real app, real masks; only the wire is left out.

Example: `with made_pool(folder, run) as pool: serve(pool.grid(), pool.folder)`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import Message
from tests.fakes.made_outlets import RealOutlet, make_real, policy_body

from presspool.client.client_app import work
from presspool.client.identity.identity import identity_folder
from presspool.client.identity.settings import read_settings
from presspool.client.release.release import release_failure
from presspool.client.round import Round
from presspool.client.witnessing.trusted_peers import approve
from presspool.common.base.errors import PressPoolError
from presspool.common.contract.contract import Contract
from presspool.common.pki.keys import SigningKey
from presspool.common.runs.run_file import read_run_file
from presspool.common.runs.run_folder import RunFolder
from presspool.common.wire.flower import from_bytes, node_of, stamp
from presspool.common.wire.peers import PeerKeys
from presspool.common.wire.run_grid import RunGrid
from presspool.simulations.simulate import SimulateOptions, prepare

SEED = 7
NAMES = ("east-star", "mid-sun", "north-post", "south-echo", "west-mail")
Absent = Callable[[str, int, int], bool]
"""Whether an outlet (name, round, phase) does not answer."""
log = logging.getLogger(__name__)


def masked_body(contract_body: Mapping[str, Any], *, rounds: int) -> dict[str, Any]:
    """Five outlets, of which one may collude and one drop out: four answers, four signatures."""
    privacy = {k: v for k, v in contract_body["privacy"].items() if k != "noise_multiplier"}
    return {
        **contract_body,
        "federation": {"trust": "pooled", "rounds": rounds, "local_steps": 1},
        "outlets": dict.fromkeys(NAMES, 25),
        "privacy": privacy | {"epsilon": 6.0},
        "pooled": {"colluders": 1, "dropouts": 1},
    }


def nobody(_outlet: str, _round: int, _phase: int) -> bool:
    return False


class MemberGrid(RunGrid):
    """Carries tasks to members one after the other; what they said is kept for the tests."""

    def __init__(self, pool: MaskedPool, absent: Absent) -> None:
        super().__init__()
        self._pool, self._absent = pool, absent
        self._nodes = {node_of(name): name for name in pool.members}
        self.sent: list[tuple[str, Round, bytes]] = []

    @property
    def outlets(self) -> Mapping[int, str]:
        return self._nodes

    @property
    def cohort(self) -> Mapping[str, bytes]:
        return self._pool.keys

    def get_node_ids(self) -> Iterable[int]:
        return list(self._nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError

    def send_and_receive(
        self,
        messages: Iterable[Message],
        *,
        timeout: float | None = None,  # noqa: ARG002
    ) -> Iterable[Message]:
        replies = []
        for number, message in enumerate(messages):
            stamp(message, f"task-{len(self.sent)}-{number}")
            name = self._nodes[message.metadata.dst_node_id]
            asked = Round.of(message.content)
            reply = self._answer(name, asked, message)
            replies += [stamp(reply, f"{name}-reply")] if reply else []
        return replies

    def _answer(self, name: str, asked: Round, message: Message) -> Message | None:
        place, mailbox = (asked.number, asked.phase), self._pool.mailbox
        late = any(where > place for where, _ in mailbox)
        if (place, name) not in mailbox:
            if late or self._absent(name, *place):
                return None
            try:
                mailbox[place, name] = self._pool.answer(name, asked)
            except PressPoolError as error:
                log.warning("%s: %s", name, error)
                return release_failure(error, reply_to=message)
            self.sent.append((name, asked, mailbox[place, name]))
        return Message(from_bytes(mailbox[place, name]), reply_to=message)


@dataclass
class MaskedPool:
    """A pool's members and its run.

    Attributes:
        folder: the run's.
        contract: the run's.
        members: by name.
        keys: by which the others know them.
        files: their settings.
        mailbox: what has come in, by round, phase and name, as a coordinator keeps it.
    """

    folder: RunFolder
    contract: Contract
    members: dict[str, RealOutlet]
    keys: dict[str, bytes]
    files: dict[str, Path] = field(default_factory=dict)
    mailbox: dict[tuple[tuple[int, int], str], bytes] = field(default_factory=dict)

    def grid(self, absent: Absent = nobody) -> MemberGrid:
        return MemberGrid(self, absent)

    def answer(self, name: str, asked: Round) -> bytes:
        """What an outlet's agent would send."""
        place = f"{asked.number}-{asked.phase}.answer"
        kept = self.files[name].parent / place
        return work(asked, read_settings(self.files[name]), kept=kept, loopback=True)


@contextmanager
def made_pool(
    folder: Path, run: Path, *, strangers: Collection[str] = (), **policy: object
) -> Iterator[MaskedPool]:
    """The members of a run file's outlets, who approved each other.

    Args:
        folder: an empty one.
        run: the run file.
        strangers: outlets that nobody approved.
        policy: what the members' policies say besides the usual.
    """
    options = SimulateOptions(out=folder / "run", deterministic=SEED)
    prepared = prepare(read_run_file(run), options)
    contract = prepared.folder.read_contract()
    pool = MaskedPool(prepared.folder, contract, {}, {})
    peers: dict[str, PeerKeys] = {}
    for path in prepared.outlets:
        home = folder / path.stem
        pool.files[path.stem] = home / "outlet.toml"
        pool.members[path.stem] = _member(home, path, contract, policy)
        witness, books = SigningKey.generate(), SigningKey.generate()
        identity_folder(home).mkdir()
        witness.write(identity_folder(home) / "witness.key")
        pool.keys[path.stem] = witness.public
        peers[path.stem] = PeerKeys.made(path.stem, witness=witness.public, log=books.public)
    for name, own in peers.items():
        for other in peers.keys() - {name, *strangers}:
            approve(folder / name, peers[other], peers[other].fingerprint, own=own)
    yield pool


def noted(pool: MaskedPool) -> list[Round]:
    """What the coordinator asks from here on."""
    seen: list[Round] = []
    real = pool.answer

    def answer(name: str, asked: Round) -> bytes:
        seen.append(asked)
        return real(name, asked)

    pool.answer = answer  # type: ignore[method-assign]
    return seen


def _member(
    home: Path, simulated: Path, contract: Contract, policy: Mapping[str, object]
) -> RealOutlet:
    home.mkdir()
    settings, before = home / "outlet.toml", read_settings(simulated)
    settings.write_text(f'name = "{before.name}"\ndata = "{before.data}"\ndeterministic = {SEED}\n')
    made = make_real(settings, contract, trial=True)
    rules = {"trust": ["pooled"], "pooled": {"max_epsilon_alone": 100.0}, **policy}
    made.allow(policy_body(contract, **rules))
    return made
