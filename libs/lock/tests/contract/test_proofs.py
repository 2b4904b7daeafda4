"""Another process can check in one round trip that a lease still holds certain names."""

import asyncio

import pytest
from libs.lock.tests.clients import Clients, both_apis
from libs.lock.tests.proxy import Proxy
from libs.lock.tests.server_view import script_calls
from libs.lock.tests.variants import broken, sound
from redis.asyncio import Redis

from fencelock import NotOwner, RedisUnavailable
from fencelock._proof import encode
from fencelock._scripts import Scripts

pytestmark = both_apis


async def check_refusals(clients: Clients, scripts: Scripts) -> None:
    holding, verifying = clients.make(scripts=scripts), clients.make(scripts=scripts)
    lease = await holding.acquire("order:{1}")
    other = await holding.acquire("order:{2}")
    older = encode(lease.request.owner, lease.request.secret, lease.fence - 1)
    refused = {
        "a name that it does not hold": (lease.proof(), ("invoice:{1}",)),
        "more names than it holds": (lease.proof(), ("order:{1}", "invoice:{1}")),
        "the names of another lease": (other.proof(), ("order:{1}",)),
        "an earlier fence": (older, ("order:{1}",)),
    }
    for proof, names in refused.values():
        with pytest.raises(NotOwner):
            await verifying.verify(proof, names)
    await lease.release()
    with pytest.raises(NotOwner):
        await verifying.verify(lease.proof(), ("order:{1}",))
    await other.release()


async def test_a_proof_is_verified_in_one_request(clients: Clients, admin: Redis) -> None:
    holding, verifying = clients.make(), clients.make()
    async with holding.lock("order:{1}", "invoice:{1}", ttl=30.0) as lease:
        await verifying.start()
        before = await script_calls(admin)
        verified = await verifying.verify(lease.proof(), ["order:{1}", "invoice:{1}"])
        assert await script_calls(admin) - before == 1
        assert verified.fence == lease.fence
        assert 0 < verified.remaining <= 30.0
        assert (await verifying.verify(lease.proof(), ["invoice:{1}"])).fence == lease.fence


async def test_everything_else_is_refused(clients: Clients) -> None:
    await check_refusals(clients, sound())


async def test_a_verification_that_fails_open_is_caught(clients: Clients) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await check_refusals(clients, broken("verify fails open"))


async def test_the_next_lease_of_the_same_name_has_another_proof(clients: Clients) -> None:
    client = clients.make()
    async with client.lock("order:{1}") as first:
        pass
    async with client.lock("order:{1}"):
        with pytest.raises(NotOwner):
            await client.verify(first.proof(), ["order:{1}"])


@pytest.mark.parametrize("proof", ["", "f1", "f1.a.b.1", "x" * 500, "f1.\u00e9", "f2.aaaaaaaaaaa"])
async def test_a_malformed_proof_is_refused_without_asking(clients: Clients, proof: str) -> None:
    client = clients.make(url="redis://127.0.0.1:1")
    with pytest.raises(NotOwner) as caught:
        await client.verify(proof, ["order:{1}"])
    assert not proof or proof not in str(caught.value)


async def test_no_answer_is_no_proof(clients: Clients, proxy: Proxy) -> None:
    holding, verifying = clients.make(), clients.make(url=proxy.url)
    async with holding.lock("order:{1}") as lease:
        await verifying.start()
        proxy.black_hole()
        with pytest.raises(RedisUnavailable):
            await verifying.verify(lease.proof(), ["order:{1}"], timeout=0.2)


async def test_secrets_stay_out_of_what_is_printed(
    clients: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    client = clients.make()
    async with client.lock("order:{1}") as lease:
        token = lease.request.secret
        assert token in lease.proof()
        assert token not in repr(lease)
        with pytest.raises(NotOwner) as caught:
            await client.verify(lease.proof(), ["order:{2}"])
        assert token not in str(caught.value)
        await asyncio.sleep(0)
    assert token not in caplog.text
