"""1,300 sockets that say nothing, against a process with the usual limit of 1,024 descriptors.

All callers are on loopback: those who are silent come from 127.0.0.1, the reader of the dashboard
from 127.0.0.2.
"""

from __future__ import annotations

import http.client
import resource
import ssl
import time
from pathlib import Path

import pytest
from tests.fakes.instruments.loopback import free_port
from tests.fakes.made_attacks import CHECK, AttackedPool, attacked, silent

from presspool.server.membership.viewers import Viewers

SILENT, USUAL = 1300, 1024
WAIT = 60.0
SETTLED = 2.0
NORTH = "north-post"


@pytest.fixture(autouse=True)
def room() -> None:
    """This process, too, needs a descriptor for each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4 * SILENT:
        pytest.skip("this machine allows too few descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4 * SILENT), hard))


def test_members_and_readers_are_served_beside_1300_silent_sockets(tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    pages = f"127.0.0.1:{free_port()}"
    with attacked(tmp_path, [NORTH], descriptors=(USUAL, hard), pages=pages) as pool:
        with silent(pool.folder.address, SILENT):
            time.sleep(SETTLED)
            assert pool.call(NORTH, CHECK, timeout=WAIT)
        with silent(pages, SILENT):
            time.sleep(SETTLED)
            assert looked(pool, pages) == 200
            assert pool.call(NORTH, CHECK, timeout=WAIT)


@pytest.mark.soak
def test_members_are_served_where_no_more_descriptors_can_be_had(tmp_path: Path) -> None:
    with attacked(tmp_path, [NORTH], descriptors=(USUAL, USUAL)) as pool:
        until = time.monotonic() + 90.0
        while time.monotonic() < until:
            with silent(pool.folder.address, SILENT):
                time.sleep(SETTLED)
                assert pool.call(NORTH, CHECK, timeout=WAIT)


def looked(pool: AttackedPool, pages: str) -> int:
    """The status of the dashboard's first page."""
    viewers = Viewers(pool.folder.path)
    file = pool.folder.path.parent / f"{time.monotonic_ns()}.pem"
    viewer = viewers.add(file.stem, pool.folder.root, now=time.time())
    file.write_bytes(viewer.certificate + viewer.key)
    context = ssl.create_default_context(cadata=pool.folder.root.certificate.decode())
    context.check_hostname = False
    context.load_cert_chain(file)
    host, port = pages.rsplit(":", 1)
    link = http.client.HTTPSConnection(
        host, int(port), timeout=WAIT, context=context, source_address=("127.0.0.2", 0)
    )
    try:
        link.request("GET", "/", headers={"Host": pages})
        return link.getresponse().status
    finally:
        link.close()
