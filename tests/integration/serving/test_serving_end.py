"""`presspool serve` as a process: from two commands to an answer, and its end under load."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from tests.conftest import REPOSITORY
from tests.fakes.grids.grid_parts import wait_until
from tests.fakes.served.made_adapters import made_adapter
from tests.fakes.served.served_process import served

from presspool.common.contract.contract import Contract
from presspool.server.serving.request_gate import SCOPES

CANARY = "zebra-canary-4410"


@pytest.fixture
def adapter(tmp_path: Path, contract: Contract) -> Path:
    return made_adapter(tmp_path / "adapter", contract)


def test_a_reference_is_read_before_the_port_opens_and_drift_is_in_the_log(
    tmp_path: Path, adapter: Path
) -> None:
    home, reference = tmp_path / "home", tmp_path / "public.csv"
    home.mkdir()
    reference.write_text("text\n" + "goal in final\n" * 300)
    with served(home, f"cup={adapter}", "--reference", str(reference)) as (_, begun, errors):
        address = begun["address"]
        for _ in range(4):
            body = {"model": "cup", "input": [f"{CANARY} says the minister of a new bank"] * 64}
            httpx2.post(f"{address}/classify", json=body, timeout=240).raise_for_status()

        def drifted() -> bool:
            (found,) = httpx2.get(f"{address}/drift", timeout=240).json()["adapters"]
            levels = {one["level"] for one in found["figures"] if one["of"] == "lengths"}
            return levels == {"drifted"}

        assert wait_until(drifted)  # what was answered is watched after its answer
        said = "drift: lengths of what cup is asked"
        assert wait_until(lambda: said in errors.read_text()), errors.read_text()
        assert CANARY not in errors.read_text()


def test_a_stop_under_load_loses_no_call_that_was_taken_in(tmp_path: Path, adapter: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    heard = list[str]()  # by twelve threads: `append` loses nothing, a counter's `+= 1` may
    with served(home, f"cup={adapter}") as (process, begun, errors):
        address = begun["address"]
        stopped, late = threading.Event(), list[bool]()

        def ask(number: int) -> None:
            """Call on one connection until the server says, or shows, that it stops."""
            with httpx2.Client(base_url=address, timeout=240) as client:
                while True:
                    body = {"model": "cup", "input": [f"{CANARY} goal {number}"] * 20}
                    try:
                        answer = client.post("/classify", json=body)
                    except (httpx2.NetworkError, httpx2.RemoteProtocolError):
                        heard.append("not taken in")  # the log has no line of it, else it was
                        return
                    if answer.status_code != 200:
                        heard.append(str(answer.status_code))
                        assert answer.headers["retry-after"] == "1"
                        assert answer.headers["connection"] == "close"
                        return
                    assert len(answer.json()["data"]) == 20
                    heard.append("200")
                    late.append(stopped.is_set())

        with ThreadPoolExecutor(12) as pool:
            callers = [pool.submit(ask, number) for number in range(12)]
            assert wait_until(lambda: len(heard) >= 40)
            stopped.set()  # before: afterwards all may be answered until this thread goes on
            process.send_signal(signal.SIGTERM)
            for caller in callers:
                caller.result()
        assert process.wait(timeout=240) == 0
        assert heard.count("503") + heard.count("not taken in") == 12
        assert any(late)
        lines = [json.loads(x[x.index("{") :]) for x in errors.read_text().splitlines() if "{" in x]
        by_status = Counter(str(line["status"]) for line in lines)
        # As many answers were sent as arrived: no call was taken in and lost.
        assert by_status == Counter(one for one in heard if one != "not taken in")
        written = [path for path in home.rglob("*") if path.is_file()]
        assert errors in written
        for path in written:
            assert CANARY.encode() not in path.read_bytes()


def test_keys_decide_who_may_call(tmp_path: Path, adapter: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    keys = home / "keys.json"

    def key(name: str, *more: str) -> str:
        command = [sys.executable, "-m", "presspool.cli", "serve-key", name, "--keys", str(keys)]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
        done = subprocess.run(
            [*command, *more], capture_output=True, text=True, env=environment, check=True
        )
        return done.stdout.strip()

    desk, late = key("desk"), key("late", "--expires", "2099-01-31")
    keys.write_text(keys.read_text().replace("2099", "2020"))
    once = key("once", "--per-minute", "1")
    root, watch = key("root", "--scope", "admin"), key("watch", "--scope", "metrics")
    assert keys.stat().st_mode & 0o077 == 0
    assert not any(secret in keys.read_text() for secret in (desk, late, root, watch))
    body = {"model": "cup", "input": "goal"}
    with served(home, f"cup={adapter}", "--keys", str(keys)) as (_, begun, errors):
        address = begun["address"]

        def ask(secret: str | None, method: str = "POST", path: str = "/classify") -> int:
            headers = {} if secret is None else {"authorization": f"Bearer {secret}"}
            sent = body if method == "POST" else None
            answer = httpx2.request(method, address + path, headers=headers, json=sent, timeout=240)
            if answer.status_code >= 400:
                assert answer.json()["error"]["code"] == answer.status_code
            return answer.status_code

        assert [ask(secret) for secret in (None, "pp-wrong", late, watch, desk)] == [
            *(401, 401, 401),
            *(403, 200),
        ]
        assert [ask(once) for _ in range(2)] == [200, 429]
        assert ask(desk, path="/v1/load_lora_adapter") == 403
        assert ask(root, path="/v1/load_lora_adapter") == 400  # it may, but names no adapter
        assert [ask(secret, "GET", "/metrics") for secret in (desk, watch)] == [403, 200]
        for path, scope in SCOPES.items():  # routers forgive a line's end; the gate does not
            other = desk if scope != "ask" else watch
            for way in ("GET", "POST"):
                assert ask(other, way, f"{path}%0A") == 404
                assert ask(other, way, f"{path}/") == 404
        assert [ask(None, "GET", path) for path in ("/health", "/ready")] == [200, 200]
        assert ask(None, "GET", "/v1/models") == 401
        known = json.loads(keys.read_text())
        known["keys"] = [one for one in known["keys"] if one["name"] != "desk"]
        keys.write_text(json.dumps(known))
        assert ask(desk) == 401  # taken out, it ends at once
        keys.write_text("{")
        assert ask(watch, "GET", "/metrics") == 401
        said = errors.read_text()
        assert '"key": "desk"' in said
        assert not any(secret in said for secret in (desk, late, root, watch))
