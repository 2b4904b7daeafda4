"""Fixtures for every folder of tests that drives both services."""

from collections.abc import Iterator

import pytest
from tests.together.processes import Nursery
from tests.together.shop import Templates

from devkit.servers import PostgresServer


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    with Nursery() as made:
        yield made


@pytest.fixture(scope="session")
def templates(postgres_server: PostgresServer) -> Templates:
    return Templates.create(postgres_server)
