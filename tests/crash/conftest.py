"""Three shops side by side for all failures; the table is printed at the end."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.crash.control import Control, Loss
from tests.crash.control import render as render_losses
from tests.crash.matrix import Lane, Result, open_lanes
from tests.crash.table import render
from tests.together.fixtures import nursery, templates
from tests.together.processes import Nursery
from tests.together.shop import Templates

from devkit.servers import PostgresServer, RedisServer

__all__ = ["nursery", "templates"]

LANES = 4
_losses = pytest.StashKey[list[Loss]]()
_results = pytest.StashKey[list[Result]]()


@pytest.fixture(scope="session")
def lanes(
    nursery: Nursery,
    templates: Templates,
    postgres_server: PostgresServer,
    redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[Lane]]:
    folders = [tmp_path_factory.mktemp(f"lane{number}") for number in range(LANES)]
    with ExitStack() as stack:
        yield open_lanes(
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
def losses(request: pytest.FixtureRequest) -> list[Loss]:
    """Where the control's losses are kept for its table."""
    return request.config.stash.setdefault(_losses, [])


@pytest.fixture
def results(request: pytest.FixtureRequest) -> list[Result]:
    """Where results are kept for the table."""
    return request.config.stash.setdefault(_results, [])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    found = config.stash.get(_results, [])
    if found:
        terminalreporter.section("failures and what became of them")
        terminalreporter.write_line(render(found))
    lost = config.stash.get(_losses, [])
    if lost:
        terminalreporter.section("the same with the lock alone: orders lost, of three")
        terminalreporter.write_line(render_losses(lost))
