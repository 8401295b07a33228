"""What `make screenshots` makes up before it trains: a ledger's past, with room for the demo."""

from __future__ import annotations

from pathlib import Path

from presspool.client.agent.home import LEDGER, LOG_KEY
from presspool.common.base.files import private_folder
from presspool.common.contract.contract import Contract
from presspool.common.ledger.store import Ledger
from presspool.common.pki.keys import SigningKey
from presspool.simulations.pictures import PAST, RUNS, _give_past
from presspool.simulations.simulated_ledgers import new_ledger


def test_a_ledger_holds_its_past_and_the_demo(contract: Contract, tmp_path: Path) -> None:
    home = tmp_path / "north-post"
    private_folder((home / LOG_KEY).parent)
    SigningKey.generate().write(home / LOG_KEY)
    new_ledger(contract, home, runs=RUNS).close()
    _give_past(home, contract, max(PAST), left=True)
    with Ledger(home / LEDGER) as ledger:
        book = ledger.book
        assert len(book.dangling) == 1
        assert book.spent * (1 + 1 / max(PAST)) <= book.room(book.caps.epsilon_max)
