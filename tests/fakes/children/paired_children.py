"""A run over the real wire whose outlets are processes, one of them killed between two phases.

Example: `house.python("-m", "tests.fakes.children.paired_children", "pool", folder, run_toml)`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from tests.fakes.children import answer_children
from tests.fakes.children.warm_commands import WarmCommand
from tests.fakes.made_outlets import RealOutlet, make_real, policy_body
from tests.fakes.made_pool import Pool, open_pool

from presspool.client.identity.settings import read_settings
from presspool.common.contract.contract import Contract
from presspool.common.runs.run_file import read_run_file
from presspool.server.rounds.server_app import serve
from presspool.server.transport.mailbox_schema import TaskRow
from presspool.simulations.simulate import SimulateOptions, prepare

SEED = 7
WAIT = 120.0


def pool(folder: Path, run: Path) -> None:
    """Coordinate the run, and print what came of it."""
    options = SimulateOptions(out=folder / "run", deterministic=SEED)
    prepared = prepare(read_run_file(run), options)
    contract = prepared.folder.read_contract()
    homes = {path.stem: folder / path.stem for path in prepared.outlets}
    real = {path.stem: _outlet(folder / path.stem, path, contract) for path in prepared.outlets}
    with open_pool(folder, sorted(homes)) as made:
        made.certificates.write(folder)
        at_work = {name: _start(folder, home, made.address) for name, home in homes.items()}
        replies = iter(range(1, 1000))

        def killed_when_all_said_hello() -> None:
            if next(replies) == len(homes):
                name = sorted(homes)[0]
                at_work[name].kill()
                at_work[name] = _start(folder, homes[name], made.address)

        try:
            serve(made.grid(phase=WAIT, on_reply=killed_when_all_said_hello), prepared.folder)
        finally:
            for process in at_work.values():
                process.kill()
        print(json.dumps(_found(made, real)))


def outlet(folder: Path, home: Path, address: str) -> None:
    """Work as an agent does until killed."""
    answer_children.work(folder, home, address, "", 0)


def _outlet(home: Path, simulated: Path, contract: Contract) -> RealOutlet:
    home.mkdir()
    settings, before = home / "outlet.toml", read_settings(simulated)
    settings.write_text(f'name = "{before.name}"\ndata = "{before.data}"\ndeterministic = {SEED}\n')
    made = make_real(settings, contract, trial=True)
    made.allow(policy_body(contract, trust=[contract.federation.trust]))
    return made


def _start(folder: Path, home: Path, address: str) -> WarmCommand:
    words = ["-m", "tests.fakes.children.paired_children", "outlet", folder, home, address]
    log = home.with_suffix(".log")
    return WarmCommand(words, out=log, err=log)


def _found(made: Pool, real: dict[str, RealOutlet]) -> dict[str, object]:
    with made.desk._database.reading() as session:
        asked = sorted((row.round, row.phase, row.outlet) for row in session.query(TaskRow))
    return {"kinds": {name: each.kinds() for name, each in real.items()}, "asked": asked}


if __name__ == "__main__":
    roles: dict[str, Callable[..., None]] = {"pool": pool, "outlet": outlet}
    role, *paths = sys.argv[1:]
    arguments: list[object] = [Path(path) for path in paths[:2]]
    roles[role](*arguments, *paths[2:])
