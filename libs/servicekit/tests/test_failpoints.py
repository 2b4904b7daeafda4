"""Failpoints: armed by text, each acting as often as asked."""

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from servicekit.failpoints import ConnectionDropped, FailpointError, Failpoints
from servicekit.testing.server import serving

NAMES = ("a.one", "a.two")


async def test_unarmed_they_do_nothing() -> None:
    points = Failpoints(NAMES)
    await points.hit("a.one")
    assert not points.active
    assert not points.hits


async def test_an_armed_one_acts_as_often_as_its_count_says() -> None:
    points = Failpoints(NAMES, armed="a.one=error*2; a.two=delay:0.001")
    for _ in range(2):
        with pytest.raises(FailpointError):
            await points.hit("a.one")
    await points.hit("a.one")
    await points.hit("a.two")
    assert points.hits == {"a.one": 2, "a.two": 1}
    points.disarm()
    assert not points.active


@pytest.mark.parametrize(
    "armed", ["a.three=error", "a.one", "a.one=explode", "a.one=delay", "a.one=kill:3", "=error"]
)
def test_what_cannot_be_armed_is_refused(armed: str) -> None:
    with pytest.raises(ValueError, match="failpoint"):
        Failpoints(NAMES, armed=armed)


async def test_a_stall_stops_the_whole_event_loop() -> None:
    points = Failpoints(NAMES, armed="a.one=stall:0.05")
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await asyncio.sleep(0)
    before = turns
    await points.hit("a.one")
    assert turns == before
    task.cancel()


async def test_a_drop_closes_the_connection_without_a_byte_of_reply() -> None:
    points = Failpoints(NAMES, armed="a.one=drop*1")

    async def endpoint(request: Request) -> PlainTextResponse:
        await points.hit("a.one")
        return PlainTextResponse("done")

    app = Starlette(routes=[Route("/", endpoint)])
    async with serving(app) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/")
        assert (await client.get("/")).text == "done"


async def test_without_a_connection_a_drop_is_an_exception() -> None:
    with pytest.raises(ConnectionDropped):
        await Failpoints(NAMES, armed="a.one=drop").hit("a.one")
