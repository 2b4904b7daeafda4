"""Everything here starts several servers: `make test-topologies`."""

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from libs.lock.tests.clients import Clients
from libs.lock.tests.topologies.servers import Clustered, Replicated, ask, server
from libs.lock.tests.topologies.workshop import Workshop

from devkit.servers import RedisServer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.topologies)
            item.add_marker(pytest.mark.timeout(240))


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicated]:
    """A master, a replica and three Sentinels, for tests that leave them as they are."""
    folder = tmp_path_factory.mktemp("replicated")
    with Replicated(folder) as servers:
        yield servers
    shutil.rmtree(folder)


@pytest.fixture
def doomed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicated]:
    """The same for one test, which lets something of it fail."""
    folder = tmp_path_factory.mktemp("doomed")
    with Replicated(folder) as servers:
        yield servers
    shutil.rmtree(folder)


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    """Makes lock clients, each of a URL."""
    async with Clients("") as factory:
        yield factory


@pytest.fixture(scope="module")
def five_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    """Five servers that know nothing of each other."""
    folder = tmp_path_factory.mktemp("five")
    with ExitStack() as stack:
        yield [stack.enter_context(server(folder / str(number))) for number in range(5)]
    shutil.rmtree(folder)


@pytest.fixture
def five(five_servers: list[RedisServer]) -> Iterator[list[RedisServer]]:
    """The five, running and empty."""
    for each in five_servers:
        if not each.running:
            each.start()
        ask(each.port, "FLUSHALL")
    yield five_servers
    for each in five_servers:
        each.resume()


@pytest.fixture(scope="module")
def clustered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clustered]:
    """A Cluster, for tests that leave its nodes as they are."""
    folder = tmp_path_factory.mktemp("clustered")
    with Clustered(folder) as servers:
        yield servers
    shutil.rmtree(folder)


@pytest.fixture
def doomed_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clustered]:
    """The same for one test, which lets something of it fail."""
    folder = tmp_path_factory.mktemp("doomed-cluster")
    with Clustered(folder) as servers:
        yield servers
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Workshop:
    """Builds locks of other languages: once for all workers of this session."""
    own = tmp_path_factory.getbasetemp()
    return Workshop((own if worker_id == "master" else own.parent) / "peers")
