"""Shops side by side for all failures."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import pytest
from tests.crash.control import Control
from tests.crash.matrix import ShopStage, open_stages
from tests.crash.summary import PROPERTY
from tests.crash.table import Report, Row
from tests.together.fixtures import nursery, templates
from tests.together.processes import Nursery
from tests.together.shop import Templates

from devkit.servers import PostgresServer, RedisServer

__all__ = ["nursery", "templates"]

LANES = 6


@pytest.fixture(scope="session")
def stages(
    nursery: Nursery,
    templates: Templates,
    postgres_server: PostgresServer,
    redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[ShopStage]]:
    folders = [tmp_path_factory.mktemp(f"lane{number}") for number in range(LANES)]
    with ExitStack() as stack:
        yield open_stages(
            stack,
            folders,
            nursery=nursery,
            postgres=postgres_server,
            redis_server=redis_server,
            templates=templates,
        )


@pytest.fixture
def control(
    nursery: Nursery,
    postgres_server: PostgresServer,
    redis_server: RedisServer,
    tmp_path: Path,
) -> Iterator[Control]:
    made = Control(tmp_path, nursery=nursery, postgres=postgres_server, redis=redis_server)
    yield made
    made.close()


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Report:
    """Takes rows for the tables; they travel with the test's report, also between processes."""

    def take(rows: Sequence[Row]) -> None:
        for row in rows:
            record_property(PROPERTY, asdict(row))

    return take
