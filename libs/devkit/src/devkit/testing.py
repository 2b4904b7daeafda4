"""A pytest plugin: one real PostgreSQL and one real Redis for each test session.

Switched on by ``pytest_plugins = ["devkit.testing"]`` in the root conftest.py. With pytest-xdist
each worker has its own pair.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import hypothesis
import pytest

from devkit.servers import PostgresServer, RedisServer

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("without a deadline", deadline=None)
hypothesis.settings.load_profile("without a deadline")


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A running PostgreSQL; give each test a database of its own."""
    folder = tmp_path_factory.mktemp("postgres")
    with PostgresServer(folder) as server:
        yield server
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A running server that speaks the Redis protocol, empty at the start of the session."""
    folder = tmp_path_factory.mktemp("redis")
    with RedisServer(folder) as server:
        yield server
    shutil.rmtree(folder)
