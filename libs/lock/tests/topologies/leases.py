"""What a lease is good for, and for how long: contracts that look into no server.

On one server the contracts beside this say the same, and look closer.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE

import pytest
from libs.lock.tests.clients import Clients
from libs.lock.tests.eventually import eventually

from fencelock import Contended, Kind

TTL_SECONDS = 1.0
HOLDER = """
import asyncio, sys
from fencelock import AsyncLockClient, Kind

async def hold(url, kind, limit):
    kind = Kind(kind, int(limit))
    client = AsyncLockClient.from_url(url, ttl=1.0)
    lease = await client.acquire("order:{1}", kind=kind)
    print(lease.fence, flush=True)
    await asyncio.sleep(60)

asyncio.run(hold(*sys.argv[1:]))
"""


def of_another(kind: Kind) -> Kind:
    """The kind that a holder of ``kind`` keeps out."""
    return Kind.EXCLUSIVE if kind == Kind.SHARED else kind


async def what_a_killed_process_held_is_granted_after_its_lease(
    clients: Clients, kind: Kind
) -> None:
    command = [sys.executable, "-c", HOLDER, clients.url, kind.name, str(kind.limit)]
    holder = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    assert holder.stdout is not None
    fence = int(await holder.stdout.readline())
    patient = clients.make()
    waiting = asyncio.create_task(patient.acquire("order:{1}", kind=of_another(kind)))
    holder.kill()
    await holder.wait()
    # Below the back-stop of those who wait: they learn when the lease is over, or ask in between.
    async with asyncio.timeout(9):
        successor = await waiting
    assert successor.fence > fence
    await successor.release()


async def a_lease_is_renewed_for_as_long_as_it_is_held(clients: Clients, kind: Kind) -> None:
    client, rival = clients.make(ttl=TTL_SECONDS), clients.make()
    async with client.lock("order:{1}", kind=kind) as lease:
        first = lease.term.deadline

        async def two_terms_later() -> bool:
            return lease.term.deadline > first + 2 * TTL_SECONDS

        await eventually(two_terms_later, "renewed several times")
        with pytest.raises(Contended):
            await rival.acquire("order:{1}", kind=of_another(kind), wait=0)
        lease.check()
    await (await rival.acquire("order:{1}", kind=of_another(kind))).release()
