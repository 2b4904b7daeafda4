"""Releases that were confirmed and are made once more when their server is gone."""

import asyncio
from typing import Any, cast

import pytest

from fencelock import _debts
from fencelock._debts import RECALLED_MAX, RECALLED_SECONDS, Debts
from fencelock._protocol import Command, Request
from fencelock._scripts import packaged


class Gone:
    """A way to a server that is not there."""

    def send_now(self, command: Command) -> None:
        """It cannot be sent."""

    async def links(self, *, deadline: float) -> list[Any]:
        await asyncio.Event().wait()
        return []


@pytest.fixture
def moment(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still until it is set."""
    at = [1000.0]
    monkeypatch.setattr(_debts, "now", lambda: at[0])
    return at


def debts(*, replicated: bool) -> Debts:
    loop = asyncio.get_running_loop()
    return Debts(loop, lambda: cast("Any", Gone()), lambda: None, replicated=replicated)


def released(made: Debts, count: int = 1, *, seconds: float = 60.0) -> None:
    for _ in range(count):
        request = Request(("order:1",), "client", seconds)
        made.paid(request.owner, request.release(packaged(), queued=False), seconds)


async def test_what_was_released_lately_is_owed_again_once(moment: list[float]) -> None:
    made = debts(replicated=True)
    released(made, 2)
    moment[0] += RECALLED_SECONDS / 2
    made.recall()
    assert len(made) == 2
    made.recall()
    assert len(made) == 2
    await made.close()


@pytest.mark.parametrize(("lease", "later"), [(60.0, RECALLED_SECONDS), (1.0, 1.0)])
async def test_what_was_released_long_ago_or_has_ended_is_not(
    moment: list[float], lease: float, later: float
) -> None:
    made = debts(replicated=True)
    released(made, seconds=lease)
    moment[0] += later
    made.recall()
    assert len(made) == 0


async def test_no_more_are_remembered_than_a_new_connection_can_bear(moment: list[float]) -> None:
    made = debts(replicated=True)
    released(made, RECALLED_MAX + 10)
    made.recall()
    assert len(made) == RECALLED_MAX
    await made.close()


async def test_of_one_server_nothing_is_remembered() -> None:
    made = debts(replicated=False)
    released(made)
    made.recall()
    assert len(made) == 0


async def test_a_client_that_is_closed_makes_nothing_again() -> None:
    made = debts(replicated=True)
    released(made)
    await made.close()
    made.recall()
    assert len(made) == 0
