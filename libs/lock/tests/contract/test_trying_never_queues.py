"""With ``wait=0`` a request is answered at once and stands in no line."""

import pytest
from libs.lock.tests.clients import Clients, both_apis
from libs.lock.tests.server_view import lock_keys, queue_length
from redis.asyncio import Redis

from fencelock import Contended

pytestmark = both_apis


async def test_a_refused_try_leaves_no_ticket(clients: Clients, admin: Redis) -> None:
    client = clients.make()
    async with client.lock("order:{1}"):
        for _ in range(3):
            with pytest.raises(Contended):
                await client.acquire("order:{1}", wait=0)
        assert await queue_length(admin, "order:{1}") == 0
    assert await lock_keys(admin) == []


async def test_a_try_takes_a_free_lock(clients: Clients) -> None:
    async with clients.make().lock("order:{1}", wait=0) as lease:
        lease.check()
