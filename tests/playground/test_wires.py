"""A wire passes everything on, until it is cut."""

from collections.abc import Iterator

import psycopg
import pytest
from tools.playground.wires import Wire, WireLoop

from devkit.servers import PostgresServer


@pytest.fixture
def wire(postgres_server: PostgresServer) -> Iterator[Wire]:
    with WireLoop() as loop, Wire(loop, port=postgres_server.port) as laid:
        yield laid


def _connect(server: PostgresServer, wire: Wire) -> "psycopg.Connection[tuple[object, ...]]":
    direct = server.url()
    return psycopg.connect(direct.replace(f":{server.port}/", f":{wire.port}/"), connect_timeout=10)


def test_a_whole_wire_passes_large_answers(postgres_server: PostgresServer, wire: Wire) -> None:
    with _connect(postgres_server, wire) as connection:
        row = connection.execute("SELECT repeat('x', 3000000)").fetchone()
    assert row is not None
    assert row[0] == "x" * 3_000_000


def test_a_cut_ends_what_is_open_and_refuses_what_comes(
    postgres_server: PostgresServer, wire: Wire
) -> None:
    connection = _connect(postgres_server, wire)
    wire.cut()
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()
    with pytest.raises(psycopg.OperationalError):
        _connect(postgres_server, wire)


def test_a_mended_wire_passes_new_connections(postgres_server: PostgresServer, wire: Wire) -> None:
    wire.cut()
    wire.mend()
    with _connect(postgres_server, wire) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
