"""Where a coordinator listens: at the pool's address, and wider only where that is asked for."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.instruments.loopback import free_port
from tests.fakes.instruments.operators import Operators
from tests.fakes.made_runs import write_run
from typer.testing import CliRunner

from presspool.cli import app
from presspool.server.coordinator.coordinator import Coordinator


def test_a_pool_at_one_address_is_not_to_be_had_at_another(
    tmp_path: Path, contract_body: dict[str, Any]
) -> None:
    """`coordinator start` of a pool made for 127.0.0.1 is closed on all that leads here besides."""
    port = free_port()
    with Operators(tmp_path, write_run(tmp_path, contract_body), deterministic=1) as pool:
        pool.coordinator("init", "--name", "press-pool", "--address", f"127.0.0.1:{port}")
        pool.start()
        assert pool.said("coordinator", "listening at ") == f"127.0.0.1:{port} alone"
        socket.create_connection(("127.0.0.1", port), timeout=60).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=60)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((), "listening at pool.example.org:7443 alone"),
        (("--listen", "127.0.0.1:7443"), "listening at 127.0.0.1:7443 alone"),
        (("--listen", "0.0.0.0:7443"), "every address of this machine, port 7443: 0.0.0.0:7443"),
        (("--listen", "[::]:7443"), "every address of this machine, port 7443: [::]:7443"),
    ],
)
def test_where_it_listens_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: tuple[str, ...], said: str
) -> None:
    """The operator reads the address, and wide open is called so."""
    listened: list[str] = []

    def serve(self: Coordinator) -> None:
        pass

    def begin(self: Coordinator, _: object, *, listen: str) -> None:
        listened.append(listen)

    monkeypatch.setattr(Coordinator, "__init__", begin)
    monkeypatch.setattr(Coordinator, "serve", serve)
    typed = CliRunner()
    home, address = str(tmp_path / "coordinator"), "pool.example.org:7443"
    made = typed.invoke(
        app,
        ["coordinator", "init", "--name", "press-pool", "--address", address, "--home", home],
    )
    assert made.exit_code == 0, made.output
    started = typed.invoke(app, ["coordinator", "start", "--home", home, *asked])
    assert started.exit_code == 0, started.output
    assert said in started.output
    assert listened == [asked[1] if asked else address]


def test_an_address_that_is_not_this_machines_says_what_to_type(
    tmp_path: Path, contract_body: dict[str, Any]
) -> None:
    """Behind a router the pool's address cannot be listened on: the way out has a name."""
    with Operators(tmp_path, write_run(tmp_path, contract_body), deterministic=1) as pool:
        pool.coordinator("init", "--name", "press-pool", "--address", f"192.0.2.7:{free_port()}")
        assert "--listen 0.0.0.0:PORT" in pool.type("coordinator", "start", code=2)
