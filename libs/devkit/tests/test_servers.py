"""The servers that tests and `make up` run on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from devkit.errors import DidNotStart, MissingTool, PortInUse
from devkit.ports import HOST, free_port, is_free
from devkit.servers import PostgresServer, RedisServer


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path / "postgres") as server:
        yield server


@pytest.fixture
def durable_redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis", durable=True) as server:
        yield server


@pytest.fixture
def taken_port() -> Iterator[int]:
    port = free_port()
    with socket.create_server((HOST, port)):
        yield port


def connect(server: RedisServer, *, timeout_seconds: float = 5.0) -> redis.Redis:
    retry = Retry(NoBackoff(), 0)
    return redis.Redis.from_url(server.url, socket_timeout=timeout_seconds, retry=retry)


def count(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM thing").fetchone()
        assert row is not None
        return int(row[0])


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_postgres_keeps_port_and_data_over_a_restart(postgres: PostgresServer, end: str) -> None:
    url = postgres.create_database("shop")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE thing AS SELECT 1 AS one")
    getattr(postgres, end)()
    assert is_free(postgres.port)
    postgres.start()
    assert postgres.url("shop") == url
    assert count(url) == 1


def test_a_database_can_be_copied_listed_and_dropped(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.create_database("first")) as connection:
        connection.execute("CREATE TABLE thing AS SELECT 1 AS one")
    assert count(postgres.create_database("second", template="first")) == 1
    postgres.drop_database("first")
    assert postgres.databases() == {"second"}


def test_postgres_asks_for_the_password(postgres: PostgresServer) -> None:
    wrong = postgres.url().replace(postgres.password, "guessed")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_an_interrupted_initialisation_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "data.new").mkdir()
    (tmp_path / "data.new" / "half").write_text("written")
    with PostgresServer(tmp_path) as server:
        assert server.databases() == set()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_durable_redis_keeps_port_and_data(durable_redis: RedisServer, end: str) -> None:
    url = durable_redis.url
    with connect(durable_redis) as client:
        client.set("key", "value")
    getattr(durable_redis, end)()
    durable_redis.start()
    assert durable_redis.url == url
    with connect(durable_redis) as client:
        assert client.get("key") == b"value"


def test_redis_without_durability_is_empty_after_a_restart(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        with connect(server) as client:
            client.set("key", "value")
        server.restart()
        with connect(server) as client:
            assert client.get("key") is None


def test_a_paused_redis_does_not_answer_until_it_is_resumed(durable_redis: RedisServer) -> None:
    with connect(durable_redis, timeout_seconds=0.2) as client:
        client.ping()
        durable_redis.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
    durable_redis.resume()
    with connect(durable_redis) as client:
        assert client.ping()


def test_redis_asks_for_the_password(durable_redis: RedisServer) -> None:
    with (
        redis.Redis(host=HOST, port=durable_redis.port) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


@pytest.mark.parametrize("kind", [PostgresServer, RedisServer])
def test_a_port_in_use_is_named(
    kind: type[PostgresServer | RedisServer], taken_port: int, tmp_path: Path
) -> None:
    with pytest.raises(PortInUse, match=f"Port {taken_port} .* is in use"):
        kind(tmp_path, port=taken_port).start()


def test_a_server_that_does_not_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, settings={"no-such-setting": "1"})
    with pytest.raises(DidNotStart, match=r"(?s)Redis ended .*no-such-setting"):
        server.start()


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REDIS_SERVER", str(tmp_path / "nothing"))
    with pytest.raises(MissingTool, match=r"REDIS_SERVER is .*nothing, but there is no such"):
        RedisServer(tmp_path).start()
    monkeypatch.setenv("POSTGRES_BIN", str(tmp_path))
    with pytest.raises(MissingTool, match=r"no program postgres in it"):
        PostgresServer(tmp_path).start()
