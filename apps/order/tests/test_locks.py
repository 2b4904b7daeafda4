"""What the locks' own troubles are answered with."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

import fencelock
from order.errors import LocksUnavailable
from order.locks import RedisLocks
from servicekit.testing.logs import route_to_stdlib


@pytest.fixture(autouse=True)
def plain_logs() -> None:
    """Let pytest collect what the service logs."""
    route_to_stdlib()


class Failing:
    """A client whose locks cannot be had."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    @asynccontextmanager
    async def lock(self, *names: str, wait: float) -> AsyncIterator[None]:
        self._refuse()
        yield

    def _refuse(self) -> None:
        raise self._error


class Granting:
    @asynccontextmanager
    async def lock(self, *names: str, wait: float) -> AsyncIterator[None]:
        yield


@pytest.mark.parametrize(
    "error",
    [
        fencelock.ConfigurationError("refuses the credentials: WRONGPASS"),
        fencelock.ConfigurationError("maxmemory-policy evicts"),
        fencelock.RedisUnavailable("LOADING"),
        fencelock.RedisUnavailable("NOPERM"),
        RuntimeError("a defect"),
    ],
)
async def test_whatever_keeps_it_from_a_lock_is_503_with_the_cause_in_the_log_once(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    locks = RedisLocks(cast("Any", Failing(error)))
    for _ in range(3):
        with pytest.raises(LocksUnavailable) as caught:
            async with locks.hold(uuid.uuid4(), wait_seconds=0):
                pytest.fail("granted")
        assert str(error) not in caught.value.detail
        assert "Retry-After" in caught.value.headers
    assert caplog.text.count("locks_unavailable") == 1
    assert str(error) in caplog.text


async def test_an_error_of_the_work_under_the_lock_stays_what_it_is() -> None:
    locks = RedisLocks(cast("Any", Granting()))
    with pytest.raises(ZeroDivisionError):
        async with locks.hold(uuid.uuid4(), wait_seconds=0):
            raise ZeroDivisionError
