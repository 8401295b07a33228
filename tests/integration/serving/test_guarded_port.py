"""A server whose port asks for certificates, and what keeps many large calls from filling it."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from tests.fakes.grids.grid_parts import wait_until
from tests.fakes.made_certificates import Certificates
from tests.fakes.served.made_adapters import made_adapter
from tests.fakes.served.made_servers import made_server

from presspool.common.base.errors import InputError
from presspool.common.contract.contract import Contract
from presspool.common.pki.certificates import issue_invitation, issue_server
from presspool.server.serving import request_gate
from presspool.server.serving.masking import Masking
from presspool.server.serving.serving_process import ServingPlan, TlsFiles, serving
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf


@pytest.fixture
def adapter(tmp_path: Path, contract: Contract) -> Path:
    return made_adapter(tmp_path / "adapter", contract)


def plan(adapter: Path, tls: TlsFiles, host: str = "127.0.0.1") -> ServingPlan:
    return ServingPlan(
        adapters=[("cup", adapter)],
        host=host,
        port=0,
        keys=None,
        root=None,
        drain=1,
        masking=Masking(None),
        tls=tls,
    )


def test_only_the_pools_outlets_are_let_in(tmp_path: Path, adapter: Path) -> None:
    pool, other = Certificates.make(), Certificates.make()
    port = issue_server(pool.root, "localhost", now=time.time())
    files = {"port.pem": port.certificate, "port.key": port.key, "root.pem": pool.root.certificate}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    tls = TlsFiles(
        certificate=tmp_path / "port.pem", key=tmp_path / "port.key", root=tmp_path / "root.pem"
    )
    now = time.time()
    callers = {
        "outlet": pool.outlet("north-post"),
        "stranger": other.outlet("north-post"),
        "invitation": issue_invitation(pool.root, "abc", now=now, until=now + 3600),
        "nobody": None,
    }
    with serving(plan(adapter, tls)) as served:
        address = served.address
        assert address.startswith("https://127.0.0.1:")
        there = address.replace("127.0.0.1", "localhost")

        def ask(who: str) -> int:
            context = ssl.create_default_context(cafile=tmp_path / "root.pem")
            if shown := callers[who]:
                file = tmp_path / f"{who}.pem"
                file.write_bytes(shown.certificate + shown.key)
                context.load_cert_chain(file)
            with httpx2.Client(verify=context, timeout=240) as client:
                body = {"model": "cup", "input": "goal"}
                return client.post(f"{there}/classify", json=body).status_code

        assert ask("outlet") == 200
        for who in ("stranger", "invitation", "nobody"):
            with pytest.raises(httpx2.TransportError):
                ask(who)


def test_an_open_port_asks_for_keys_and_for_tls(tmp_path: Path, adapter: Path) -> None:
    with pytest.raises(InputError, match="--keys"):
        plan(adapter, TlsFiles(plain=True), host="0.0.0.0")
    with pytest.raises(InputError, match="half of what TLS needs"):
        plan(adapter, TlsFiles(root=tmp_path / "root.pem"))
    (tmp_path / "bad.pem").write_text("no PEM")
    with pytest.raises(InputError, match="cannot be used"):
        plan(adapter, TlsFiles(certificate=tmp_path / "bad.pem", key=tmp_path / "bad.pem"))
    keys = tmp_path / "keys.json"
    keys.write_text('{"format": "presspool-serving-keys/1", "keys": []}')
    one = {"port": 0, "keys": keys, "root": None, "drain": 1.0, "masking": Masking(None)}
    with pytest.raises(InputError, match="--plain"):
        ServingPlan(adapters=[("cup", adapter)], host="0.0.0.0", tls=TlsFiles(), **one)  # type: ignore[arg-type]
    assert ServingPlan(
        adapters=[("cup", adapter)],
        host="0.0.0.0",
        tls=TlsFiles(plain=True),
        **one,  # type: ignore[arg-type]
    )


def test_large_bodies_together_are_bounded_and_small_ones_pass(
    adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_gate, "MOST_TOGETHER", 1 << 20)
    bodies = request_gate.BodiesHeld()
    monkeypatch.setattr(request_gate, "BodiesHeld", lambda: bodies)
    with made_server(AdapterShelf.of([("cup", adapter)])) as server:
        large = b'{"model": "cup", "input": "goal"}' + b" " * (900 << 10)
        headers = {"content-type": "application/json"}

        def ask(content: bytes) -> httpx2.Response:
            return httpx2.post(
                f"{server.address}/classify", content=content, headers=headers, timeout=240
            )

        def halting() -> Iterator[bytes]:
            yield large[:-1]
            assert wait_until(lambda: bodies.held == len(large) - 1 - request_gate.SMALL)
            refused = ask(large)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert "large bodies" in refused.json()["error"]["message"]
            assert ask(large[:100]).status_code == 200
            yield b" "

        done = httpx2.post(
            f"{server.address}/classify", content=halting(), headers=headers, timeout=240
        )
        assert done.status_code == 200
        assert ask(large).status_code == 200  # what was held is free again
