"""The page's program: its files, its stream of pictures, and what can be done on it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

import redis
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from devkit.errors import DevkitError
from tools.playground import steps
from tools.playground.control import Control
from tools.playground.crowd import MOST_CLIENTS, Crowd
from tools.playground.customers import Customers
from tools.playground.guard import Guard
from tools.playground.observer import Holders, Observer, TooManyWatching
from tools.playground.people import CHOICES, PEOPLE, THINGS, NotNow, People
from tools.playground.scenes import ACTS, TEXTS, Director, SceneFailed
from tools.playground.tables import Tables
from tools.playground.world import World

STATIC: Final = Path(__file__).with_name("static")
STEP_ACTIONS: Final = {
    "kill": ("kill", "Kill it there"),
    "pause": (f"stall:{steps.NAP_SECONDS}", "Pause it there, beyond the lease"),
    "drop": ("drop", "Lose its answer there"),
}
MOST_QUANTITY: Final = 1_000
MOST_REQUESTS: Final = 200
BODY_SECONDS: Final = 5.0
UNWATCHED_SECONDS: Final = 10.0
PAGE_NAME: Final = range(8, 65)
PRICE: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,2})?", re.ASCII)

_log = logging.getLogger(__name__)

T = TypeVar("T")
Handler = Callable[["Playground", dict[str, Any]], Awaitable[str]]


class Refused(Exception):
    """What was asked for makes no sense, or not now."""


class Playground:
    """Everything behind the page."""

    def __init__(self, world: World) -> None:
        """Describe it; see :meth:`open`."""
        self.world = world
        self.tables = Tables(world.database_url("orders"), world.database_url("invoices"))
        self.customers = Customers(
            {"order-a": world.order_a.url, "order-b": world.order_b.url},
            outcomes=self.tables.outcomes,
        )
        self.control = Control(world)
        self.director = Director(world, self.customers, self.control, self.tables)
        self.holders = Holders(world)
        self.people = People(world, self.holders.learn)
        self.crowd = Crowd(self.customers)
        self.observer: Observer | None = None
        self._under_way: set[str] = set()
        """What is done once at a time and has not ended."""
        self._tasks: dict[asyncio.Task[Any], int] = {}
        self.keepers: tuple[asyncio.Task[None], ...] = ()
        """What looks at the shop, and what brings its parts back: neither ends before the page."""
        self._leaving: asyncio.Task[None] | None = None
        self.pages: dict[str, int] = {}
        """How many streams each open page has."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Observer]:
        """Be at work: look, keep, and end everything at the end."""
        async with AsyncExitStack() as stack:
            for close in (self.customers.close, self.tables.close, self.control.close):
                stack.push_async_callback(close)
            await self.control.open()
            async with self.world.redis_client() as client:
                await self.holders.begin(client, first=self.world.first_clients)
            stack.push_async_callback(self.people.close)
            await self.people.open()
            self.observer = Observer(
                world=self.world,
                tables=self.tables,
                customers=self.customers,
                control=self.control,
                director=self.director,
                people=self.people,
                holders=self.holders,
                crowd=self.crowd,
                since=await self.tables.now(),
            )
            stack.push_async_callback(self.observer.close)
            stack.push_async_callback(self._end_tasks)
            stack.push_async_callback(self.director.stop)
            stack.push_async_callback(self.crowd.leave)
            stack.push_async_callback(self._end_keepers)
            self.keepers = (
                asyncio.create_task(self.world.keep()),
                asyncio.create_task(self.observer.look()),
            )
            yield self.observer

    def start(self, work: Coroutine[Any, Any, Any], *, requests: int = 1) -> None:
        """Do something while the request that asked for it is answered.

        Args:
            work: What to do.
            requests: How many requests it sends to the shop at the same moment.

        Raises:
            Refused: Too much is being done already.
        """
        if sum(self._tasks.values()) + requests > MOST_REQUESTS:
            work.close()
            raise Refused("Too much is going on already. Wait a moment.")
        task = asyncio.create_task(work)
        self._tasks[task] = requests
        task.add_done_callback(self._ended)

    def start_once(self, what: str, work: Coroutine[Any, Any, Any]) -> None:
        """Do something that takes long; asked for again meanwhile it is refused, not queued.

        Raises:
            Refused: It is being done already, or too much else is.
        """
        if what in self._under_way:
            work.close()
            raise Refused("That is being done already. Wait a moment.")
        self.start(self._once(what, work))
        self._under_way.add(what)

    async def _once(self, what: str, work: Coroutine[Any, Any, Any]) -> None:
        try:
            with contextlib.suppress(DevkitError):  # the page shows which part is down
                await work
        finally:
            self._under_way.discard(what)

    @asynccontextmanager
    async def page(self, name: str) -> AsyncIterator[None]:
        """Count an open stream of a page; its load leaves with the last one."""
        self.pages[name] = self.pages.get(name, 0) + 1
        if self._leaving is not None:
            self._leaving.cancel()
        try:
            yield
        finally:
            self.pages[name] -= 1
            if not self.pages[name]:
                del self.pages[name]
                await self.crowd.leave(name)
            if not self.pages:
                await self.people.let_all_go()
                self._leaving = asyncio.create_task(self._stop_unwatched())

    async def _stop_unwatched(self) -> None:
        """End a scene that nobody watches; a page that is loaded anew comes back at once."""
        await asyncio.sleep(UNWATCHED_SECONDS)
        if not self.pages:
            await self.director.stop()

    async def farewell(self) -> None:
        """End every stream, so that the server can stop."""
        if self.observer is not None:
            await self.observer.end()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        del self._tasks[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("something that was asked for has failed", exc_info=error)

    async def _end_keepers(self) -> None:
        ends = [*self.keepers, *filter(None, [self._leaving])]
        for keeper in ends:
            keeper.cancel()
        await asyncio.gather(*ends, return_exceptions=True)

    async def _end_tasks(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def create(playground: Playground, body: dict[str, Any]) -> str:
    """Create an order."""
    quantity = _quantity(body)
    value = body.get("value")
    if not isinstance(value, str) or PRICE.fullmatch(value) is None:
        raise Refused("The price must be a number such as 9.50.")
    playground.start(playground.customers.create(quantity=quantity, value=value))
    return "An order is being created."


async def update(playground: Playground, body: dict[str, Any]) -> str:
    """Change an order's quantity."""
    order = _order(body)
    playground.start(playground.customers.update(order, quantity=_quantity(body)))
    return "The change is on its way."


async def delete(playground: Playground, body: dict[str, Any]) -> str:
    """Delete an order."""
    playground.start(playground.customers.delete(_order(body)))
    return "The deletion is on its way."


async def crowd_once(playground: Playground, body: dict[str, Any]) -> str:
    """Let many clients change one order at the same moment."""
    clients = _number(body, "clients", most=MOST_CLIENTS)
    playground.start(playground.crowd.once(_order(body), clients=clients), requests=clients)
    return f"{clients} clients ask at the same moment."


async def crowd_come(playground: Playground, body: dict[str, Any]) -> str:
    """Let clients come again and again."""
    page = _page(body.get("page"))
    if page not in playground.pages:
        raise Refused("Clients come only while the page that calls them is open.")
    clients = _number(body, "clients", most=MOST_CLIENTS)
    playground.crowd.come(_order(body), clients=clients, page=page)
    return "Clients come until you send them away, for a minute at most."


async def crowd_leave(playground: Playground, body: dict[str, Any]) -> str:
    """Send the clients away."""
    del body
    await playground.crowd.leave()
    return "The clients have left."


async def break_part(playground: Playground, body: dict[str, Any]) -> str:
    """Break a part of the shop."""
    part = _chosen(playground.world.parts, body.get("part"))
    action = str(body.get("action"))
    if action not in part.actions:
        raise Refused(f"{part.label} cannot be broken like this.")
    if part.busy:  # what waits here would break it again once it has come back
        raise Refused(f"{part.label} is being broken or brought back. Wait a moment.")
    await part.do(action)
    return f"{part.label}: {action}. It comes back by itself."


async def heal_part(playground: Playground, body: dict[str, Any]) -> str:
    """Bring a part back."""
    part = _chosen(playground.world.parts, body.get("part"))
    playground.start_once(f"heal {part.name}", part.heal())
    return f"{part.label} is being brought back."


async def mend(playground: Playground, body: dict[str, Any]) -> str:
    """Bring everything back, and send the clients away."""
    del body
    await playground.crowd.leave()
    for part in playground.world.parts.values():
        with contextlib.suppress(Refused):  # it is on its way already
            playground.start_once(f"heal {part.name}", part.heal())
    return "Everything is being brought back."


async def wipe(playground: Playground, body: dict[str, Any]) -> str:
    """Let Redis forget everything."""
    del body
    async with playground.world.redis_client() as client:
        await client.flushall()
    return "Redis has forgotten every lock."


async def fail_at_step(playground: Playground, body: dict[str, Any]) -> str:
    """Let the second order service fail at a step of a change of this order."""
    order, quantity = _order(body), _quantity(body)
    try:
        step = steps.by_point(str(body.get("step")))
    except KeyError as error:
        raise Refused("There is no such step.") from error
    action, _ = _chosen(STEP_ACTIONS, body.get("action"))

    async def act() -> None:
        world = playground.world
        await world.order_b.restart(steps.failing(step, action, slowly=world.slow))
        await playground.customers.update(order, quantity=quantity, to="order-b")

    playground.start_once("step", act())
    return f"Order service B starts anew, to fail when {step.label}."


async def pace(playground: Playground, body: dict[str, Any]) -> str:
    """Set whether order services rest at some steps."""
    slow = body.get("slow")
    if not isinstance(slow, bool):
        raise Refused("slow must be true or false.")
    playground.start_once("pace", playground.world.set_pace(slow=slow))
    return "Both order services start anew."


async def play(playground: Playground, body: dict[str, Any]) -> str:
    """Play a scene of the tour."""
    _chosen(ACTS, body.get("scene"))
    playground.director.play(str(body["scene"]))
    return "The scene begins."


async def want(playground: Playground, body: dict[str, Any]) -> str:
    """Let a person ask for a lock."""
    person, what = _person(body), _what(body)
    playground.people.want(person, what, wait=body.get("wait") is not False)
    return f"{person} asks for {CHOICES[what].words}."


async def let_go(playground: Playground, body: dict[str, Any]) -> str:
    """Let a person release a lock, or leave the line."""
    person = _person(body)
    await playground.people.let_go(person)
    return f"{person} has let go."


async def break_lock(playground: Playground, body: dict[str, Any]) -> str:
    """Take a lock away from whoever holds it."""
    thing = body.get("what")
    if not isinstance(thing, str) or thing not in THINGS:
        raise Refused("There is no such lock.")
    taken = await playground.people.break_lock(thing)
    return "The lock is broken." if taken else "Nobody held it."


HANDLERS: Final[dict[str, Handler]] = {
    "create": create,
    "update": update,
    "delete": delete,
    "crowd/once": crowd_once,
    "crowd/come": crowd_come,
    "crowd/leave": crowd_leave,
    "break": break_part,
    "heal": heal_part,
    "mend": mend,
    "wipe": wipe,
    "step": fail_at_step,
    "pace": pace,
    "play": play,
    "lock/want": want,
    "lock/go": let_go,
    "lock/break": break_lock,
}


class Pages:
    """The page's routes; the playground is opened and closed by whoever serves it."""

    def __init__(self, playground: Playground) -> None:
        """Serve this playground."""
        self._playground = playground

    async def index(self, _: Request) -> Response:
        """Return the page itself."""
        return FileResponse(STATIC / "index.html")

    async def about(self, _: Request) -> Response:
        """Return what does not change while it runs."""
        layout = self._playground.world.layout
        return JSONResponse(
            {
                "scenes": [{"name": name, **asdict(text)} for name, text in TEXTS.items()],
                "steps": [asdict(step) for step in steps.STEPS],
                "step_actions": {name: label for name, (_, label) in STEP_ACTIONS.items()},
                "people": PEOPLE,
                "traces_url": self._playground.world.traces_url,
                "choices": {what: choice.words for what, choice in CHOICES.items()},
                "things": [
                    {"what": what, "name": name, "label": label, "kind": kind}
                    for what, (name, label, kind) in THINGS.items()
                ],
                "order_url": layout.order_url,
                "invoice_url": layout.invoice_url,
            }
        )

    async def act(self, request: Request) -> Response:
        """Do what was clicked."""
        handler = HANDLERS.get(request.path_params["action"])
        if handler is None:
            return _answer(404, "There is no such action.")
        try:
            async with asyncio.timeout(BODY_SECONDS):
                content = await request.body()
        except (TimeoutError, ClientDisconnect):
            return _answer(408, "The request did not arrive in time.")
        try:
            return _answer(202, await handler(self._playground, _body(content)))
        except (Refused, NotNow, SceneFailed) as refusal:
            return _answer(409, str(refusal))
        except (DevkitError, OSError, redis.RedisError) as failure:
            return _answer(503, str(failure))

    async def stream(self, request: Request) -> Response:
        """Send pictures until the page is closed."""
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        try:
            events = self._events(_page(request.query_params.get("page")))
            first = await anext(events)
        except Refused as refusal:
            return _answer(409, str(refusal))
        except TooManyWatching as refusal:
            return _answer(503, str(refusal))
        return StreamingResponse(_chain(first, events), media_type="text/event-stream")

    async def _events(self, page: str) -> AsyncGenerator[bytes, None]:
        observer = self._playground.observer
        assert observer is not None  # noqa: S101  (nothing is served before it is open)
        async with observer.watching(), self._playground.page(page):
            yield b"retry: 1000\n\n"
            async for event in observer.events():
                yield event


def create_app(playground: Playground, *, port: int) -> ASGIApp:
    """The ASGI program, for a server on ``port`` of the loopback interface."""
    pages = Pages(playground)
    app = Starlette(
        routes=[
            Route("/", pages.index),
            Route("/about", pages.about),
            Route("/stream", pages.stream),
            Route("/do/{action:path}", pages.act, methods=["POST"]),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        exception_handlers={Exception: _failed},
    )
    return Guard(app, port=port)


def _answer(status: int, detail: str) -> Response:
    return JSONResponse({"detail": detail}, status_code=status)


async def _failed(_: Request, error: Exception) -> Response:
    """Answer when something unforeseen has failed; the server prints what it was."""
    return _answer(500, f"The playground has failed: {type(error).__name__}.")


def _body(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refused("The body must be JSON.") from error
    if not isinstance(body, dict):
        raise Refused("The body must be an object.")
    return body


async def _chain(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    yield first
    async with contextlib.aclosing(rest):
        async for event in rest:
            yield event


def _order(body: dict[str, Any]) -> str:
    try:
        return str(UUID(str(body.get("order"))))
    except ValueError as error:
        raise Refused("Choose an order first.") from error


def _quantity(body: dict[str, Any]) -> int:
    return _number(body, "quantity", most=MOST_QUANTITY)


def _number(body: dict[str, Any], name: str, *, most: int) -> int:
    number = body.get(name)
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= most:
        raise Refused(f"{name} must be a whole number from 1 to {most}.")
    return number


def _chosen(offered: Mapping[str, T], name: object) -> T:
    if not isinstance(name, str) or name not in offered:
        raise Refused(f"There is no {name!r} here.")
    return offered[name]


def _person(body: dict[str, Any]) -> str:
    person = body.get("person")
    if not isinstance(person, str) or person not in PEOPLE:
        raise Refused("There is no such person.")
    return person


def _what(body: dict[str, Any]) -> str:
    what = body.get("what")
    if not isinstance(what, str) or what not in CHOICES:
        raise Refused("There is no such lock.")
    return what


def _page(name: object) -> str:
    if not isinstance(name, str) or len(name) not in PAGE_NAME:
        raise Refused("A page has a name of 8 to 64 characters.")
    return name
