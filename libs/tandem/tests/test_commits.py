"""Writes whose end must be known."""

import asyncio
import gc
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from structlog.testing import capture_logs

from tandem.commits import Attempt, known, repeated
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


async def test_what_is_tried_again_is_logged_with_the_databases_own_words() -> None:
    def failing(cause: Exception) -> Any:
        async def work() -> Any:
            raise cause

        return work

    late = psycopg.errors.ConnectionTimeout("no connection within 5 s: looking up 'db.test'")
    late.__cause__ = TimeoutError()
    for raised, said in (
        (late, "looking up 'db.test'"),
        (OperationalError("SELECT %(secret)s", {"secret": 1}, late), "looking up 'db.test'"),
        (PoolTimeout("QueuePool limit"), "the database failed (TimeoutError)"),
    ):
        with capture_logs() as logs, pytest.raises(type(raised)):
            await repeated(failing(raised), attempts=2, event="failed")
        (line,) = logs
        assert line["error"].endswith(said)
        assert "secret" not in line["error"]
