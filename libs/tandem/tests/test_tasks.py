"""Work beside requests."""

import asyncio

import pytest

from tandem.tasks import running


class Failing:
    """Dies at once."""

    async def run(self) -> None:
        raise ZeroDivisionError


class Waiting:
    """Goes on until it is cancelled."""

    def __init__(self) -> None:
        self.ended = False

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = True


async def test_what_background_work_died_of_is_raised_when_all_of_it_has_ended() -> None:
    other = Waiting()
    with pytest.raises(ZeroDivisionError):
        async with running([Failing(), other]):
            await asyncio.sleep(0.01)
    assert other.ended


async def test_an_error_of_the_body_ends_the_work_and_is_raised() -> None:
    work = Waiting()

    async def body() -> None:
        async with running([work]):
            await asyncio.sleep(0.01)
            raise KeyError

    with pytest.raises(KeyError):
        await body()
    assert work.ended
