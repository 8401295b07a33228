"""The gRPC port: who is let in, what is read of a call and how long, its health, and its end."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.fakes.grids.grid_parts import wait_until
from tests.fakes.made_certificates import Certificates
from tests.fakes.served.made_adapters import made_adapter
from tests.fakes.served.made_rpc import RpcCaller
from tests.fakes.served.made_servers import MadeServer, made_server
from tests.fakes.served.served_process import served
from tests.fakes.served.unread_calls import UnreadCaller

from presspool.common.base.errors import InputError
from presspool.common.contract.contract import Contract
from presspool.common.pki.certificates import issue_invitation, issue_server
from presspool.server.serving import request_gate
from presspool.server.serving.access_keys import add_key
from presspool.server.serving.masking import Masking
from presspool.server.serving.rpc import rpc_calls, rpc_health
from presspool.server.serving.rpc.rpc_calls import SERVICE
from presspool.server.serving.serving_process import ServingPlan, TlsFiles, serving
from presspool.server.serving.shelf.adapter_shelf import AdapterShelf
from presspool.server.serving.shelf.work_queue import QueuedJob

CANARY = "zebra-canary-2038"
ASKED: dict[str, Any] = {"model": "cup", "input": [CANARY]}
CLASSIFY = f"/{SERVICE.full_name}/Classify"
SERVING, NOT_SERVING, UNKNOWN = 1, 2, 3


@pytest.fixture
def adapter(tmp_path: Path, contract: Contract) -> Path:
    return made_adapter(tmp_path / "adapter", contract)


@pytest.fixture
def server(adapter: Path) -> Iterator[MadeServer]:
    with made_server(AdapterShelf.of([("cup", adapter)])) as made:
        yield made


def plan(adapter: Path, **more: Any) -> ServingPlan:
    asked = {"host": "127.0.0.1", "port": 0, "grpc_port": 0, "keys": None, "root": None}
    asked |= {"drain": 1.0, "masking": Masking(None), "tls": TlsFiles()}
    return ServingPlan(adapters=[("cup", adapter)], **{**asked, **more})


def health(channel: grpc.Channel, service: str = "") -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    found: int = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=240).status
    return found


def watch(channel: grpc.Channel, service: str = "") -> Any:
    return health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=service))


def silent(channel: grpc.Channel, path: str = CLASSIFY) -> grpc.StatusCode:
    """With which code a call ends that never says what it asks."""
    over = threading.Event()

    def nothing() -> Iterator[bytes]:
        over.wait(240)
        yield from ()

    with pytest.raises(grpc.RpcError) as refused:
        channel.stream_unary(path)(nothing(), timeout=200)
    over.set()
    return refused.value.code()


def watch_status(channel: grpc.Channel, service: str) -> int | None:
    try:
        found: int = next(watch(channel, service)).status
    except grpc.RpcError:
        return None
    return found


def unread(server: MadeServer) -> grpc.Channel:
    """A channel that takes 5 bytes of an answer that nobody reads."""
    options = {"grpc.http2.lookahead_bytes": 0, "grpc.http2.bdp_probe": 0}
    options["grpc.use_local_subchannel_pool"] = 1
    return grpc.insecure_channel(server.grpc, options=list(options.items()))


def test_only_the_pools_outlets_are_let_in(tmp_path: Path, adapter: Path) -> None:
    pool, other = Certificates.make(), Certificates.make()
    port = issue_server(pool.root, "localhost", now=time.time())
    for name, content in (("pem", port.certificate), ("key", port.key)):
        (tmp_path / f"port.{name}").write_bytes(content)
    (tmp_path / "root.pem").write_bytes(pool.root.certificate)
    own, key, root = (tmp_path / name for name in ("port.pem", "port.key", "root.pem"))
    tls = TlsFiles(certificate=own, key=key, root=root)
    now = time.time()
    shown = {
        "OK": pool.outlet("north-post"),
        "PERMISSION_DENIED": issue_invitation(pool.root, "abc", now=now, until=now + 3600),
        "UNAVAILABLE": other.outlet("north-post"),
    }
    with serving(plan(adapter, tls=tls)) as found:
        there = found.grpc.replace("127.0.0.1", "localhost")

        def ask(key: bytes | None, certificate: bytes | None) -> str:
            known = grpc.ssl_channel_credentials(pool.root.certificate, key, certificate)
            with grpc.secure_channel(there, known) as channel:
                error = RpcCaller(channel).begin("Classify", ASKED).exception()
                found = "OK" if error is None else str(error.code().name)
                with suppress(grpc.RpcError):
                    assert health(channel) == SERVING
                    assert found == "OK"
                return found

        for code, who in shown.items():
            assert ask(who.key, who.certificate) == code
        assert ask(None, None) == "UNAVAILABLE"
        with grpc.insecure_channel(there) as channel:
            assert RpcCaller(channel).refused("Classify", ASKED)[0] == "UNAVAILABLE"


def test_the_port_follows_the_rules_of_https(
    tmp_path: Path, adapter: Path, server: MadeServer
) -> None:
    with pytest.raises(InputError, match="--keys"):
        plan(adapter, host="0.0.0.0", tls=TlsFiles(plain=True))
    used = int(server.grpc.rpartition(":")[2])
    with pytest.raises(InputError, match="cannot listen"), serving(plan(adapter, grpc_port=used)):
        pass
    with serving(plan(adapter, grpc_port=None)) as found:
        assert found.grpc == ""


def test_keys_decide_who_may_call(
    tmp_path: Path, adapter: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = tmp_path / "keys.json"
    desk, watch = add_key(keys, "desk", ["ask"], None), add_key(keys, "watch", ["metrics"], None)
    late, once = (
        add_key(keys, "late", ["ask"], date(2099, 1, 31)),
        add_key(keys, "once", ["ask"], None, per_minute=1),
    )
    keys.write_text(keys.read_text().replace("2099", "2020"))
    shelf = AdapterShelf.of([("cup", adapter)])
    with (
        caplog.at_level(logging.INFO, "presspool"),
        made_server(shelf, keys=keys) as server,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        refused = {
            key: RpcCaller(channel, key).refused("Classify", ASKED)
            for key in (None, "pp-wrong", late, watch)
        }
        assert refused == {
            None: ("UNAUTHENTICATED", "a key is asked for: Authorization: Bearer KEY"),
            "pp-wrong": ("UNAUTHENTICATED", "no such key"),
            late: ("UNAUTHENTICATED", "the key expired on 2020-01-31"),
            watch: ("PERMISSION_DENIED", "the key lacks the scope 'ask'"),
        }
        assert RpcCaller(channel, desk).ask("Classify", ASKED)["data"]
        paced = [RpcCaller(channel, once).begin("Classify", ASKED).exception() for _ in range(2)]
        assert paced[0] is None
        assert paced[1].code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert 0 < int(dict(paced[1].trailing_metadata())["retry-after"]) <= 60
        assert RpcCaller(channel, watch).ask("ListModels", {})["data"]
        # Who has no key is answered before its message is there: nothing of it is awaited.
        assert silent(channel) is grpc.StatusCode.UNAUTHENTICATED
    assert '"key": "desk"' in caplog.text


def test_a_call_that_says_nothing_or_hangs_up_is_over(
    server: MadeServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    held, at_work, work = threading.Event(), threading.Event(), server.queue._run

    def hold(jobs: list[QueuedJob]) -> None:
        at_work.set()
        held.wait(240)
        work(jobs)

    monkeypatch.setattr(server.queue, "_run", hold)
    with (
        caplog.at_level(logging.INFO, "presspool"),
        grpc.insecure_channel(server.grpc) as channel,
    ):
        with monkeypatch.context() as hurried:
            hurried.setattr(rpc_calls, "_SLOW", 0.3)
            assert silent(channel) is grpc.StatusCode.INVALID_ARGUMENT
        caller = RpcCaller(channel)
        first = caller.begin("Classify", ASKED)
        assert at_work.wait(240)  # else both may be taken together, and none waits
        left = caller.begin("Classify", ASKED)
        assert wait_until(lambda: server.queue.waiting == 1)
        left.cancel()
        assert wait_until(lambda: '"status": 499' in caplog.text)
        assert wait_until(lambda: server.draining.calls == 1)
        held.set()
        assert first.result().data
        assert wait_until(lambda: server.draining.calls == 0)


def test_what_is_above_the_calls_under_way_is_told_so(
    adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc_calls, "MOST_CALLS", 1)
    shelf, held = AdapterShelf.of([("cup", adapter)]), threading.Event()
    with made_server(shelf) as server, grpc.insecure_channel(server.grpc) as channel:
        work = server.queue._run
        monkeypatch.setattr(server.queue, "_run", lambda jobs: (held.wait(240), work(jobs)))
        caller = RpcCaller(channel)
        first = caller.begin("Classify", ASKED)
        assert wait_until(lambda: server.draining.calls == 1)
        error = caller.begin("Classify", ASKED).exception()
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert dict(error.trailing_metadata())["retry-after"] == "1"
        assert health(channel) == SERVING
        held.set()
        assert first.result().data


def test_what_is_read_at_once_is_bounded_and_nothing_is_unpacked(
    adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_gate, "MOST_TOGETHER", 300 << 10)
    shelf = AdapterShelf.of([("cup", adapter)])
    large = {"model": "cup", "input": ["goal"] * 2, "user": "x" * (200 << 10)}
    with made_server(shelf) as server, grpc.insecure_channel(server.grpc) as channel:
        caller = RpcCaller(channel)
        code, words = caller.refused("Classify", large)
        assert (code, words) == ("UNAVAILABLE", "too many large bodies at once")
        assert caller.ask("Classify", ASKED)["data"]
        packed = caller.refused("Classify", large, compression=grpc.Compression.Gzip)
        assert packed[0] == "UNIMPLEMENTED"


def test_health_says_that_the_server_stops_and_calls_under_way_are_answered(
    server: MadeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, work = threading.Event(), server.queue._run
    monkeypatch.setattr(server.queue, "_run", lambda jobs: (held.wait(240), work(jobs)))
    with grpc.insecure_channel(server.grpc) as channel:
        caller = RpcCaller(channel)
        assert wait_until(lambda: health(channel, SERVICE.full_name) == SERVING)
        assert health(channel) == SERVING
        watching, left = watch(channel), watch(channel)
        assert next(left).status == SERVING
        left.cancel()  # nobody's leave, and nobody's closed window, keeps it from others
        with unread(server) as closed:
            watch(closed)
            time.sleep(0.2)
        assert next(watching).status == SERVING
        taken = caller.begin("Classify", ASKED)
        assert wait_until(lambda: server.draining.calls == 1)
        with ThreadPoolExecutor(1) as pool:
            drained = pool.submit(server.draining.drain, 60)
            assert next(watching).status == NOT_SERVING
            assert health(channel, SERVICE.full_name) == NOT_SERVING
            error = caller.begin("Classify", ASKED).exception()
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert error.details() == "this server is stopping"
            assert dict(error.trailing_metadata())["retry-after"] == "1"
            held.set()
            assert drained.result()
        assert taken.result().data


def test_health_takes_no_calls_place_and_is_that_of_this_service_alone(
    server: MadeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        watchers = [watch(channel) for _ in range(rpc_health.MOST["Watch"])]
        assert {next(one).status for one in watchers} == {SERVING}
        with pytest.raises(grpc.RpcError, match="too many ask for health"):
            next(watch(channel))
        watchers.pop().cancel()
        assert wait_until(lambda: watch_status(channel, "other") == UNKNOWN)
        with pytest.raises(grpc.RpcError, match="no such service"):
            health(channel, "other")
        with monkeypatch.context() as hurried:  # who is late with a message is not hurried here
            hurried.setattr(rpc_health, "IDLE_SECONDS", 0.3)
            code = silent(channel, "/grpc.health.v1.Health/Check")
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert RpcCaller(channel).ask("Classify", ASKED)["data"]


def test_a_call_that_ends_without_a_message_is_over(server: MadeServer) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        with pytest.raises(grpc.RpcError, match="the call cannot be read"):
            channel.stream_unary(CLASSIFY)(iter(()), timeout=240)
        assert server.draining.calls == 0


def test_an_answer_that_is_not_read_keeps_no_place_and_is_no_good_end(
    server: MadeServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rpc_calls, "MOST_CALLS", 1)
    path = f"/{SERVICE.full_name}/ListModels"
    with (
        caplog.at_level(logging.INFO, "presspool"),
        UnreadCaller(server.grpc) as caller,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        with monkeypatch.context() as hurried:  # and not the call after it
            hurried.setattr(rpc_calls, "_SLOW", 1.0)
            stream = caller.call(path, b"")
            assert wait_until(lambda: '"status": 499' in caplog.text)
        assert RpcCaller(channel).ask("ListModels", {})["data"]
        assert b"grpc-status\x010" not in caller.end(stream)  # OK, as HPACK spells it
    assert "Error" not in caplog.text


def test_a_stop_under_load_loses_no_call_that_was_taken_in(tmp_path: Path, adapter: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    heard = list[str]()  # by eight threads: `append` loses nothing, a counter's `+= 1` may
    with served(home, f"cup={adapter}", "--grpc-port", "0") as (process, begun, errors):

        def ask(_: int) -> None:
            """Call until the server says, or shows, that it stops."""
            with grpc.insecure_channel(begun["grpc"]) as channel:
                caller = RpcCaller(channel)
                while True:
                    call = caller.begin("Classify", {**ASKED, "input": [CANARY] * 20})
                    if (error := call.exception()) is not None:
                        assert error.code() is grpc.StatusCode.UNAVAILABLE
                        stopping = error.details() == "this server is stopping"
                        heard.append("503" if stopping else "not taken in")
                        return
                    assert len(call.result().data) == 20
                    heard.append("200")

        with ThreadPoolExecutor(8) as pool:
            callers = [pool.submit(ask, number) for number in range(8)]
            assert wait_until(lambda: len(heard) >= 40)
            process.send_signal(signal.SIGTERM)
            for caller in callers:
                caller.result()
        assert process.wait(timeout=240) == 0
        lines = [json.loads(x[x.index("{") :]) for x in errors.read_text().splitlines() if "{" in x]
        by_status = Counter(str(line["status"]) for line in lines)
        assert by_status == Counter(one for one in heard if one != "not taken in")
        for path in home.rglob("*"):
            assert path.is_dir() or CANARY.encode() not in path.read_bytes()
