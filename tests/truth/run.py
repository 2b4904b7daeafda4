"""One run: a shop, bad conditions, clients, and the judge."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.together.processes import Nursery
from tests.together.shop import Shop, Templates
from tests.truth.client import Client, counted
from tests.truth.judge import Judge
from tests.truth.weather import Weather

from devkit.database_proxy import DatabaseProxy, database_proxy
from devkit.servers import PostgresServer, RedisServer

CLIENTS = 12
SETTINGS = {
    "ORDER_REQUEST_TIMEOUT_SECONDS": "4",
    "ORDER_STATEMENT_TIMEOUT_SECONDS": "2",
    "ORDER_LOCK_WAIT_SECONDS": "1",
    "ORDER_DATABASE_POOL_SIZE": "12",
}


@dataclass
class Verdict:
    """What a run has found."""

    seed: int
    requests: int
    answers: Counter[str]
    commits_lost: int
    nights: int
    faults: list[str]

    def __str__(self) -> str:
        answers = ", ".join(f"{what}: {count}" for what, count in sorted(self.answers.items()))
        return (
            f"seed {self.seed}: {self.requests} requests, {self.commits_lost} commits lost,"
            f" a database silent {self.nights} times; answers {answers}; {len(self.faults)} untrue"
        )


@contextmanager
def open_shop(
    folder: Path,
    *,
    nursery: Nursery,
    postgres: PostgresServer,
    redis_server: RedisServer,
    templates: Templates,
) -> Iterator[tuple[Shop, dict[str, DatabaseProxy]]]:
    """Yield a running shop whose services reach their databases through proxies."""
    with ExitStack() as stack:
        shop = Shop(
            folder,
            nursery=nursery,
            postgres=postgres,
            redis_server=redis_server,
            templates=templates,
            settings=SETTINGS,
        )
        proxies = {
            "order": stack.enter_context(database_proxy(shop.order_database)),
            "invoice": stack.enter_context(database_proxy(shop.invoice_database)),
        }
        shop.order.environment["ORDER_DATABASE_URL"] = proxies["order"].url
        shop.invoice.environment["INVOICE_DATABASE_URL"] = proxies["invoice"].url
        shop.invoice.environment["INVOICE_STATEMENT_TIMEOUT_SECONDS"] = "2"
        with shop:
            yield shop, proxies


def run(shop: Shop, proxies: dict[str, DatabaseProxy], *, seed: int, requests: int) -> Verdict:
    """Make the requests, wait until nothing is pending, and judge every answer."""
    dice = random.Random(seed)
    clients = [
        Client(shop.order.url, shop.invoice.url, random.Random(dice.random()))
        for _ in range(CLIENTS)
    ]
    share = -(-requests // CLIENTS)

    async def make_requests() -> None:
        await asyncio.gather(*(client.run(share) for client in clients))

    with Weather(proxies, seed=seed) as weather:
        asyncio.run(make_requests())
    stuck = _settle(shop)
    attempts = [attempt for client in clients for attempt in client.attempts]
    faults = stuck or Judge(shop).faults(attempts) + shop.differences()
    return Verdict(seed, len(attempts), counted(attempts), weather.lost, weather.nights, faults)


def _settle(shop: Shop) -> list[str]:
    """Wait until nothing is pending; return what stays so."""
    try:
        shop.wait_settled(timeout_seconds=90)
    except AssertionError:
        return [
            f"operation {row['op_id']} is still pending: {row['last_error']}"
            for row in shop.pending()
        ]
    return []
