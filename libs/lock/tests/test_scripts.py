import hashlib

import pytest
from libs.lock.tests.variants import _CHANGES, broken
from redis.asyncio import Redis

from fencelock._scripts import packaged


async def test_the_server_accepts_every_script_under_our_digest(admin: Redis) -> None:
    for script in packaged():
        assert await admin.script_load(script.text) == script.digest


def test_the_digest_is_that_of_the_text() -> None:
    for script in packaged():
        assert script.digest == hashlib.sha1(script.text.encode()).hexdigest()


@pytest.mark.parametrize("name", sorted(_CHANGES))
async def test_every_broken_variant_is_a_script_that_loads(admin: Redis, name: str) -> None:
    for script in broken(name):
        await admin.script_load(script.text)
    assert [each.digest for each in broken(name)] != [each.digest for each in packaged()]
