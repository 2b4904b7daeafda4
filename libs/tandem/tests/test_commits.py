"""Writes whose end must be known."""

import asyncio
import gc
from typing import Any

import pytest

from tandem.commits import Attempt, known
from tandem.errors import GivenUp


async def test_what_is_given_up_when_its_caller_is_cancelled_goes_unseen_by_nobody() -> None:
    """An error that nobody asks for is an alarm of the event loop, and means nothing here."""
    begun, alarms = asyncio.Event(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: alarms.append(context))

    async def work(attempt: Attempt) -> Any:
        begun.set()
        await asyncio.sleep(0.05)
        attempt.commits_now()

    caller = asyncio.create_task(known(work, deadline_seconds=60, patience_seconds=1, event="lost"))
    await begun.wait()
    caller.cancel()
    await asyncio.wait({caller})
    assert caller.cancelled()
    del caller
    gc.collect()
    assert alarms == []


async def test_nothing_is_written_after_its_time() -> None:
    async def work(attempt: Attempt) -> Any:
        await asyncio.sleep(0.05)
        attempt.commits_now()
        raise AssertionError("it was written")

    with pytest.raises(GivenUp):
        await known(work, deadline_seconds=0.01, patience_seconds=1, event="lost")
