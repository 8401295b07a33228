"""What guide and README tell a newsroom's developer to type, on a finished adapter."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.fakes.instruments.loopback import free_port
from tests.fakes.served.made_adapters import made_adapter
from tests.fakes.served.made_servers import made_server
from tests.journeys.guides import journey
from tests.journeys.people import People

from presspool.common.contract.contract import Contract
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf


def test_an_editor_serves_an_adapter_and_asks_it(tmp_path: Path, contract: Contract) -> None:
    port = free_port()
    stands_for = {"presspool serve ": f"presspool serve --port {port} ", ":8901": f":{port}"}
    with People(tmp_path, {"editor": ["editor"]}, stands_for) as people:
        made_adapter(people.home("editor") / "runs" / "first", contract)
        people.follow(journey("serving"))
        said = "".join(path.read_text() for path in tmp_path.glob("*-editor.log"))
    assert '"label"' in said
    assert "['desk']\n32\n" in said  # the tiny base's states


def test_an_editor_asks_over_grpc(tmp_path: Path, contract: Contract) -> None:
    port, rpc = free_port(), free_port()
    stands_for = {"presspool serve ": f"presspool serve --port {port} ", "8902": str(rpc)}
    with People(tmp_path, {"editor": ["editor"]}, stands_for) as people:
        made_adapter(people.home("editor") / "runs" / "first", contract)
        people.follow(journey("rpc"))
        assert "1 reader\n" in "".join(path.read_text() for path in tmp_path.glob("*-editor.log"))


def test_the_readmes_code_runs_as_it_stands(tmp_path: Path, contract: Contract) -> None:
    page = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(import openai.*?)```", page, re.DOTALL)
    shelf = AdapterShelf.of([("newsroom", made_adapter(tmp_path / "run", contract))])
    with made_server(shelf) as server:
        here = code.replace("http://127.0.0.1:8901", server.address)  # the port that is free
        done = subprocess.run(
            [sys.executable, "-c", here], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['newsroom']\n32\n"
