import asyncio
import logging

import pytest

from fencelock._operations import Operations


class Client:
    """What ends: it waits for its operations, and then is gone."""

    def __init__(self) -> None:
        self.owed = 0
        self.ends = 0
        self.operations = Operations(asyncio.get_running_loop(), lambda: self.owed)

    async def end(self) -> None:
        self.ends += 1
        await self.operations.over(30.0)


async def test_the_end_waits_for_calls_and_for_what_is_owed() -> None:
    client = Client()
    client.owed = 1
    with client.operations:
        before = client.operations.closing
        closing = client.operations.close(client.end)
        assert (before, client.operations.closing) == (False, True)
        client.owed = 0
        client.operations.look()
        await asyncio.sleep(0)
        assert not closing.done(), "a call is under way"
        client.owed = 1
    await asyncio.sleep(0)
    assert not closing.done(), "a release is owed"
    client.owed = 0
    client.operations.look()
    await closing


async def test_a_second_close_waits_for_the_same_end() -> None:
    client = Client()
    assert client.operations.close(client.end) is client.operations.close(client.end)
    await client.operations.close(client.end)
    assert client.ends == 1


async def test_who_takes_too_long_is_counted_and_left(caplog: pytest.LogCaptureFixture) -> None:
    client = Client()
    client.owed = 2
    with client.operations, caplog.at_level(logging.WARNING, "fencelock"):
        closing = client.operations.close(lambda: client.operations.over(0.01))
        await closing
    assert "1 operations and 2 releases under way" in caplog.text
