"""One nursery and migrated templates for the session; a shop of its own for each test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from tests.together.fixtures import nursery, templates
from tests.together.processes import Nursery
from tests.together.shop import Shop, Templates

from devkit.servers import PostgresServer, RedisServer

__all__ = ["nursery", "templates"]

ShopFactory = Callable[..., Shop]


@pytest.fixture
def shop_of(
    nursery: Nursery,
    postgres_server: PostgresServer,
    redis_server: RedisServer,
    templates: Templates,
    tmp_path: Path,
) -> ShopFactory:
    """Makes shops that are not started yet."""

    def make(*, locks: str | None = None, **settings: str) -> Shop:
        return Shop(
            tmp_path,
            nursery=nursery,
            postgres=postgres_server,
            redis_server=redis_server,
            templates=templates,
            settings=settings,
            locks=locks,
        )

    return make


@pytest.fixture
def shop(shop_of: ShopFactory) -> Iterator[Shop]:
    with shop_of() as started:
        yield started


@pytest.fixture
def client(shop: Shop) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=shop.order.url, timeout=20.0, trust_env=False) as made:
        yield made
