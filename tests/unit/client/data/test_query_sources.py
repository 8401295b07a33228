"""Records that stay in a database or in Parquet until `presspool outlet import` freezes them."""

from __future__ import annotations

import os
import random
import signal
import uuid
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from threading import Timer
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.conftest import REPOSITORY
from tests.fakes.grids.grid_parts import wait_until
from tests.fakes.instruments.made_trackers import (
    CONSENT,
    KEPT,
    VISITS,
    WINDOW,
    home_with,
    rows_of_tracker,
    write_parquet,
)
from tests.fakes.instruments.postgres import Server
from tests.fakes.instruments.typed import Command, typed

from presspool.client.agent.doctor import FAULT, examine
from presspool.client.data import query_sources
from presspool.client.data.snapshots import SNAPSHOT, manifest_of
from presspool.client.identity.data_table import DataTable
from presspool.client.identity.settings import read_settings

Row = tuple[Any, ...]


@pytest.fixture
def outlet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Types `presspool outlet …`."""
    return typed(monkeypatch, capsys, "outlet", width=200)


def rows_in(home: Path) -> list[Row]:
    return [tuple(row.values()) for row in pq.read_table(home / SNAPSHOT).to_pylist()]


def location_of(server: Server, rows: Sequence[dict[str, Any]]) -> str:
    """A new database with `atomic.events` of these rows, as libpq finds it."""
    name = f"test_{uuid.uuid4().hex}"
    server.create(name)
    kinds = {"collector_tstamp": "timestamp", "agreed": "boolean"}
    named = ", ".join(f"{key} {kinds.get(key, 'text')}" for key in rows[0])
    place = f"host={server.folder} user={server.user} dbname={name}"
    with psycopg.connect(place) as connection:
        connection.execute("CREATE SCHEMA atomic")
        connection.execute(f"CREATE TABLE atomic.events ({named})".encode())
        for row in rows:
            marks = ", ".join(["%s"] * len(row))
            body = [
                v.replace(tzinfo=None) if k in kinds and k[0] == "c" else v for k, v in row.items()
            ]
            connection.execute(f"INSERT INTO atomic.events VALUES ({marks})".encode(), body)
    return place


def diagnosed(home: Path) -> dict[str, tuple[str, str]]:
    """What `presspool outlet doctor` says of the data, before it tries the engine."""
    found = takewhile(lambda each: each.check != "disk", examine(home, run=None))
    return {
        each.check: (each.state, each.found if each.state == FAULT else "")
        for each in found
        if each.check in ("data", "source")
    }


def duckdb_of(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    table = pa.Table.from_pylist(list(rows))
    with duckdb.connect(str(path)) as connection:
        connection.register("given", table)
        connection.execute("CREATE SCHEMA atomic")
        connection.execute("CREATE TABLE atomic.events AS SELECT * FROM given")
    return path


# --- Presets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["snowplow", "ga4", "parsely"])
def test_a_trackers_parquet_is_imported_within_window_and_consent(
    tmp_path: Path, outlet: Command, preset: str
) -> None:
    write_parquet(tmp_path / "part-1.parquet", preset)
    consent = f'consent = "{CONSENT[preset]}"' if CONSENT[preset] else ""
    table = f'source = "parquet"\nlocation = "part-*.parquet"\npreset = "{preset}"\n{consent}'
    home = home_with(tmp_path, f"{table}\nwindow = {WINDOW}")
    said = outlet("import", "--home", home)
    assert said.code == 0, said.err
    assert rows_in(home) == KEPT
    looked = outlet("check-data", home / "outlet.toml")
    assert looked.code == 0, looked.err
    assert "sport" in looked.out


def test_snowplow_in_postgresql_and_in_duckdb_gives_the_same_rows(
    tmp_path: Path, outlet: Command, postgres: Server
) -> None:
    rows = rows_of_tracker("snowplow")
    duckdb_of(tmp_path / "events.duckdb", rows)
    found = []
    for number, where in enumerate(
        (
            f'source = "postgres"\nlocation = "{location_of(postgres, rows)}"',
            'source = "duckdb"\nlocation = "../events.duckdb"',
        )
    ):
        table = f'{where}\npreset = "snowplow"\nconsent = "agreed"\nwindow = {WINDOW}'
        home = home_with(tmp_path / str(number), table)
        said = outlet("import", "--home", home)
        assert said.code == 0, said.err
        found.append(rows_in(home))
    assert found == [KEPT, KEPT]
    assert manifest_of(tmp_path / "0" / SNAPSHOT).sha256 == manifest_of(home / SNAPSHOT).sha256


# --- What is kept of a reader -------------------------------------------------------------------

QUERY = 'query = "SELECT * FROM atomic.events"\ntime = "seen"'


def plain(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [dict(zip(("reader", "text", "label", "seen"), row, strict=True)) for row in rows]


def test_the_newest_records_of_a_reader_are_kept_whatever_the_others_have(
    tmp_path: Path, outlet: Command
) -> None:
    """Also where times are equal, missing, or the database thinks Ann and ann are one."""
    when = VISITS[0][3].replace(tzinfo=None)
    ann = [("ann", f"title {i}", "news", when if i < 4 else None) for i in range(6)]
    seen = set()
    others = [
        [],
        [("Ann", "x", "news", when)] * 9,
        [("bob", f"y{i}", "news", when) for i in range(9)],
    ]
    for number, more in enumerate(others):
        rows = [*ann, *more]
        random.Random(number).shuffle(rows)
        folder = tmp_path / str(number)
        folder.mkdir()
        with duckdb.connect(str(folder / "d.duckdb")) as connection:
            connection.execute("CREATE SCHEMA atomic")
            connection.execute(
                "CREATE TABLE atomic.events (reader VARCHAR COLLATE NOCASE, text VARCHAR, "
                "label VARCHAR, seen TIMESTAMP)"
            )
            connection.executemany("INSERT INTO atomic.events VALUES (?, ?, ?, ?)", rows)
        table = f'source = "duckdb"\nlocation = "d.duckdb"\n{QUERY}\nmost_records = 3'
        assert outlet("import", "--home", home_with(folder, table)).code == 0
        found = rows_in(folder)
        assert all(sum(row[0] == who for row in found) <= 3 for who in ("Ann", "ann", "bob"))
        seen.add(tuple(row for row in found if row[0] == "ann"))
    assert len(seen) == 1
    assert len(seen.pop()) == 3


def test_records_are_judged_as_a_files_are_and_the_erased_stay_out(
    tmp_path: Path, outlet: Command
) -> None:
    table = pa.table({"reader": ["ann", None, "bob"], "text": ["a", "b", "c"], "label": ["x"] * 3})
    pq.write_table(table, tmp_path / "data.parquet")
    home = home_with(tmp_path, 'source = "parquet"\nlocation = "data.parquet"')
    said = outlet("import", "--home", home)
    assert said.code == 2
    assert "null reader" in said.err
    assert not (home / SNAPSHOT).exists()
    assert outlet("import", "--home", home, "--drop-damaged").code == 0
    assert [row[0] for row in rows_in(home)] == ["ann", "bob"]
    assert outlet("erase", "ann", "--home", home).code == 0
    assert [row[0] for row in rows_in(home)] == ["bob"]
    assert outlet("import", "--home", home, "--drop-damaged").code == 0
    assert [row[0] for row in rows_in(home)] == ["bob"]


# --- Refusals -----------------------------------------------------------------------------------

SECRET = "hunter2"
ROW = "a text that nobody sees"


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ('query = "DELETE FROM atomic.events"', "one SELECT"),
        ('query = "SELECT 1; SELECT 2"', "one SELECT"),
        (
            'query = "SELECT * FROM atomic.events) AS data; DROP TABLE atomic.events --"',
            "one SELECT",
        ),
        ('query = "SELECT * FROM atomic.nowhere"', "nowhere"),
        ('query = "SELECT nothing FROM atomic.events"', "nothing"),
        ('query = "SELECT reader, text FROM atomic.events"', "label"),
        (f'{QUERY}\nconsent = "true) OR (true"', "consent"),
        (f'{QUERY}\nconsent = "text"', "true or false"),
        (f'{QUERY}\nconsent = "granted"', "granted"),
        ('query = "SELECT * FROM atomic.events"\ntime = "text"\nmost_records = 2', "timestamps"),
        (
            'query = "SELECT CAST(text AS integer) AS text, reader, label FROM atomic.events"',
            "may quote",
        ),
    ],
)
@pytest.mark.parametrize("source", ["duckdb", "postgres"])
def test_what_a_source_cannot_answer_is_one_message_without_a_row(
    tmp_path: Path,
    outlet: Command,
    request: pytest.FixtureRequest,
    source: str,
    body: str,
    word: str,
) -> None:
    rows = plain([("ann", ROW, "news", VISITS[0][3].replace(tzinfo=None))])
    if source == "duckdb":
        location = str(duckdb_of(tmp_path / "d.duckdb", rows))
    else:
        location = location_of(request.getfixturevalue("postgres"), rows).replace("seen text", "")
        with psycopg.connect(location) as connection:
            connection.execute(
                "ALTER TABLE atomic.events ALTER seen TYPE timestamp USING seen::timestamp"
            )
    home = home_with(tmp_path, f'source = "{source}"\nlocation = "{location}"\n{body}')
    for command in (("import", "--home", home), ("check-data", home / "outlet.toml")):
        said = outlet(*command)
        assert said.code == 2, said
        assert word in said.err.replace("\n", " ")
        assert ROW not in said.err + said.out
        assert "Traceback" not in said.err
    assert not (home / SNAPSHOT).exists()


def test_a_source_that_is_not_there_and_a_word_that_is_wrong(
    tmp_path: Path, outlet: Command, postgres: Server
) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text(f"*:*:*:*:{SECRET}\n")
    passwords.chmod(0o644)
    query = 'query = "SELECT 1"'
    for table, word in (
        (f'source = "postgres"\nlocation = "host=127.0.0.1 port=1 dbname=x"\n{query}', "refused"),
        (
            f'source = "postgres"\nlocation = "postgresql://a:{SECRET}@h/x"\n{query}',
            "password_file",
        ),
        (f'source = "postgres"\nlocation = "host=h password={SECRET}"\n{query}', "password_file"),
        (
            f'source = "postgres"\nlocation = "host=h"\npassword_file = "passwords"\n{query}',
            "chmod 600",
        ),
        (
            f'source = "postgres"\nlocation = "host={postgres.folder} user=x dbname=nope"\n{query}',
            "does not exist",
        ),
        (f'source = "duckdb"\nlocation = "nope.duckdb"\n{query}', "nothing lies there"),
        ('source = "parquet"\nlocation = "nope*.parquet"', "nothing lies there"),
        ('source = "duckdb"\nlocation = "passwords"\nquery = "SELECT 1"', "no way to duckdb"),
        ('source = "parquet"\nlocation = "passwords"', "no way to parquet"),
        ('source = "mysql"\nlocation = "x"', "duckdb"),
        ('source = "parquet"\nlocation = "x"\nmost_records = 3', "time"),
        (
            'source = "parquet"\nlocation = "x"\ntime = "t"\nwindow = [2026-02-01, 2026-01-01]',
            "after",
        ),
        ('source = "postgres"\nlocation = "x"\npreset = "ga4"', "duckdb"),
        ('source = "duckdb"\nlocation = "x"', "query"),
    ):
        home = home_with(tmp_path, table)
        said = outlet("import", "--home", home)
        assert said.code == 2, (table, said)
        assert word in said.err.replace("\n", " "), (table, said.err)
        assert SECRET not in said.err
        assert "Traceback" not in said.err


def test_a_query_may_read_no_other_file_and_change_nothing(tmp_path: Path, outlet: Command) -> None:
    (tmp_path / "other.csv").write_text("reader,text,label\nx,y,z\n")
    rows = plain([("ann", "a", "news", VISITS[0][3].replace(tzinfo=None))])
    path = duckdb_of(tmp_path / "d.duckdb", rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    before = path.read_bytes()
    for source in ("duckdb", "parquet"):
        query = f"SELECT * FROM read_csv('{tmp_path}/other.csv')"
        table = f'source = "{source}"\nlocation = "d.{source}"\nquery = "{query}"'
        said = outlet("import", "--home", home_with(tmp_path, table))
        assert said.code == 2, said
        assert "disabled" in said.err
    assert path.read_bytes() == before


def test_without_the_extra_the_command_names_it(
    tmp_path: Path, outlet: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"reader": ["a"]}), tmp_path / "d.parquet")
    home = home_with(tmp_path, 'source = "parquet"\nlocation = "d.parquet"')
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    said = outlet("import", "--home", home)
    assert said.code == 2
    assert "pip install 'presspool[data]'" in said.err


def test_a_table_needs_a_ledger_and_a_snapshot_of_another_table_is_none(
    tmp_path: Path, outlet: Command
) -> None:
    write_parquet(tmp_path / "s.parquet", "snowplow")
    table = 'source = "parquet"\nlocation = "s.parquet"\npreset = "snowplow"'
    home = home_with(tmp_path, table)
    assert outlet("import", "--home", home).code == 0
    assert diagnosed(home) == {"data": ("ok", ""), "source": ("ok", "")}
    home_with(tmp_path, f'{table}\nconsent = "agreed"')
    (home / "s.parquet").unlink()
    found = diagnosed(home)
    assert "another `data`" in found["data"][1]
    assert "nothing lies there" in found["source"][1]
    (home / "ledger.db").unlink()
    home_with(tmp_path, table)  # another ledger
    assert "no entry of this snapshot" in diagnosed(home)["data"][1]
    (home / "ledger.db").unlink()
    said = outlet("import", "--home", home)
    assert said.code == 2
    assert "presspool outlet budget init" in said.err


SLOW = {
    "duckdb": "SELECT a.i AS reader, b.i AS text, 1 AS label FROM range(1000000) a(i), "
    "range(100000) b(i)",
    "postgres": "SELECT i AS reader, pg_sleep(1) AS text, i AS label "
    "FROM generate_series(1, 200) i",
}


@pytest.fixture
def terminal() -> Iterator[None]:
    """Ctrl-C interrupts, as where somebody types; a job in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("source", ["duckdb", "postgres"])
def test_ctrl_c_ends_an_import_and_leaves_nothing(
    tmp_path: Path, outlet: Command, request: pytest.FixtureRequest, source: str
) -> None:
    rows = plain([("ann", ROW, "news", None)])
    if source == "duckdb":
        location = str(duckdb_of(tmp_path / "d.duckdb", rows))
    else:
        location = location_of(request.getfixturevalue("postgres"), rows)
    table = f'source = "{source}"\nlocation = "{location}"\nquery = "{SLOW[source]}"'
    home = home_with(tmp_path, table)
    stop = Timer(3, lambda: os.kill(os.getpid(), signal.SIGINT))
    stop.start()
    said = outlet("import", "--home", home)
    assert (said.code, "stopped" in said.err) == (2, True), said
    assert not list(home.glob("*snapshot*")) + list(home.glob(".*"))


def test_postgresql_says_what_took_too_long(
    tmp_path: Path, outlet: Command, monkeypatch: pytest.MonkeyPatch, postgres: Server
) -> None:
    monkeypatch.setattr(query_sources, "STATEMENT_SECONDS", 1)
    location = location_of(postgres, plain([("ann", ROW, "news", None)]))
    table = f'source = "postgres"\nlocation = "{location}"\nquery = "{SLOW["postgres"]}"'
    said = outlet("import", "--home", home_with(tmp_path, table))
    assert said.code == 2
    assert "canceling statement due to statement timeout" in said.err


def test_postgresql_is_read_in_one_transaction_that_writes_nothing(
    tmp_path: Path, outlet: Command, postgres: Server
) -> None:
    location = location_of(postgres, plain([("ann", ROW, "news", None)]))
    settings = ("transaction_isolation", "transaction_read_only", "TimeZone")
    said = ", ".join(
        f"current_setting('{key}') AS {name}"
        for key, name in zip(settings, ("reader", "text", "label"), strict=True)
    )
    for query, code in ((f"SELECT {said}", 0), ("SELECT * FROM atomic.grow()", 2)):
        with psycopg.connect(location) as connection:
            connection.execute(
                "CREATE OR REPLACE FUNCTION atomic.grow() RETURNS SETOF atomic.events LANGUAGE sql "
                "AS 'INSERT INTO atomic.events VALUES (NULL) RETURNING *'"
            )
        table = f'source = "postgres"\nlocation = "{location}"\nquery = "{query}"'
        assert outlet("import", "--home", home_with(tmp_path, table)).code == code
    assert rows_in(tmp_path) == [("repeatable read", "on", "UTC")]
    with psycopg.connect(location) as connection:
        assert connection.execute("SELECT count(*) FROM atomic.events").fetchone() == (1,)


def asks_for_a_password(server: str, database: str) -> bool:
    """Whether the server has read its rules again by now."""
    try:
        psycopg.connect(f"{server} dbname={database}").close()
    except psycopg.OperationalError as refused:
        return "password" in str(refused)
    return False


def test_a_password_comes_from_a_file_and_goes_nowhere(
    tmp_path: Path, outlet: Command, postgres: Server
) -> None:
    location = location_of(postgres, plain([("ann", ROW, "news", None)]))
    role = f"r_{uuid.uuid4().hex}"
    rules = postgres.folder / "data" / "pg_hba.conf"
    rules.write_text(f"local all {role} scram-sha-256\n{rules.read_text()}")
    with psycopg.connect(location) as connection:
        for order in (
            f"CREATE ROLE {role} LOGIN PASSWORD '{SECRET}'",
            f"GRANT USAGE ON SCHEMA atomic TO {role}",
            f"GRANT SELECT ON atomic.events TO {role}",
            "SELECT pg_reload_conf()",
        ):
            connection.execute(order.encode())
    name = location.rpartition("=")[2]
    assert wait_until(lambda: asks_for_a_password(f"host={postgres.folder} user={role}", name))
    passwords = tmp_path / "pass'words"
    passwords.touch(0o600)
    for form in (
        f"host={postgres.folder} user={role} dbname={name}",
        f"postgresql://{role}@/{name}?host={postgres.folder}",
    ):
        table = f'source = "postgres"\nlocation = "{form}"\npassword_file = "pass\'words"'
        home = home_with(tmp_path, f'{table}\nquery = "SELECT * FROM atomic.events"')
        passwords.write_text(f"*:*:*:*:{SECRET}\n")
        said = outlet("import", "--home", home)
        assert said.code == 0, said
        assert not [path for path in home.rglob("*.*") if SECRET.encode() in path.read_bytes()]
        passwords.write_text("*:*:*:*:wrong-word\n")
        said = outlet("import", "--home", home)
        assert said.code == 2
        assert "password authentication failed" in said.err
        assert "wrong-word" not in said.err


def test_the_guides_table_is_one(tmp_path: Path) -> None:
    guide = (REPOSITORY / "docs" / "guides" / "outlet.md").read_text(encoding="utf-8")
    (block,) = [part for part in guide.split("```") if "\n[data]\n" in part]
    text = block.removeprefix("toml\n").replace("# password_file", "password_file")
    (tmp_path / "outlet.toml").write_text(f'name = "a"\n{text}', encoding="utf-8")
    table = read_settings(tmp_path / "outlet.toml").data
    assert isinstance(table, DataTable)
    assert None not in table.model_dump(exclude={"preset"}).values()
