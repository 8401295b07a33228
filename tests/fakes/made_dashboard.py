"""A dashboard at a port of this machine, over the files of `tests.fakes.made_evidence`.

Example: `with serving([desk.run, *desk.exports]) as at: get(at, "/")`.
"""

from __future__ import annotations

import html.parser
import http.client
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from presspool.common.audit.dashboard.asgi_app import Dashboard, create_app
from presspool.common.audit.dashboard.serving import LOOPBACK, Serving, names, taken
from presspool.common.audit.dashboard.snapshot import PoolLook
from presspool.common.audit.dashboard.source_watch import SourceWatch
from presspool.common.audit.evidence import sources


@dataclass(frozen=True, kw_only=True)
class At:
    """Where a dashboard is."""

    port: int

    @property
    def address(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: str


@contextmanager
def serving(
    paths: Sequence[Path],
    *,
    brought: sources.Brought = sources.NOTHING,
    pool: Callable[[], PoolLook] | None = None,
) -> Iterator[At]:
    """The pages of these sources."""
    listener = taken(LOOPBACK, 0)
    desk = Dashboard(SourceWatch(lambda: paths, brought=brought, pool=pool))
    hosts = names(listener.getsockname()[1], LOOPBACK, "localhost")
    try:
        with Serving(create_app(desk, hosts=hosts), listener) as server:
            yield At(port=server.port)
    finally:
        desk.close()


def get(at: At, path: str, method: str = "GET", **headers: str) -> Answer:
    """One request."""
    connection = http.client.HTTPConnection(LOOPBACK, at.port, timeout=120)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(status=answer.status, headers=found, body=body)
    finally:
        connection.close()


@dataclass
class Read(html.parser.HTMLParser):
    """What a page says: its numbers with their sources, its links, its whole text.

    Attributes:
        numbers: (path, exact value, shown text) of each `<data>`.
        bare: texts of number cells, headings apart, that hold digits outside `<data>`.
    """

    numbers: list[tuple[str, str, str]] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._data: tuple[str, str] | None = None
        self._number = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        if tag == "data":
            self._data = (said["data-of"] or "", said["value"] or "")
        if tag == "a":
            self.links.append(said["href"] or "")
        if tag in ("td", "th") and said.get("scope") != "col":
            self._number = int("number" in (said.get("class") or "").split())

    def handle_endtag(self, tag: str) -> None:
        if tag == "data":
            self._data = None
        if tag in ("td", "th"):
            self._number = 0

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._data is not None:
            self.numbers.append((*self._data, data))
        elif self._number and any(c.isdigit() for c in data):
            self.bare.append(data)


def read_page(body: str) -> Read:
    """A page, read."""
    reader = Read()
    reader.feed(body)
    return reader
