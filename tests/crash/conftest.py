"""Three shops side by side for all failures; the table is printed at the end."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests.crash.matrix import SETTINGS, Lane, Result
from tests.crash.table import render
from tests.together.fixtures import nursery, templates
from tests.together.processes import Nursery
from tests.together.shop import Shop, Templates

from devkit.servers import PostgresServer, RedisServer

__all__ = ["nursery", "templates"]

LANES = 4
_results = pytest.StashKey[list[Result]]()


@pytest.fixture(scope="session")
def lanes(
    nursery: Nursery,
    templates: Templates,
    postgres_server: PostgresServer,
    redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[Lane]]:
    with ExitStack() as stack:
        yield [
            Lane(
                stack.enter_context(
                    Shop(
                        tmp_path_factory.mktemp(f"lane{number}"),
                        nursery=nursery,
                        postgres=postgres_server,
                        redis_server=redis_server,
                        templates=templates,
                        settings=SETTINGS,
                    )
                )
            )
            for number in range(LANES)
        ]


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
