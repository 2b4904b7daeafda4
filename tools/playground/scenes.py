"""The guided tour: six scenes, each played by the shop and by a lock alone at the same time."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

import redis.asyncio

from devkit.errors import DevkitError
from tools.playground import lock_only, steps
from tools.playground.control import Change, Control
from tools.playground.customers import Answer, Customers, now
from tools.playground.parts import Service, State
from tools.playground.tables import Tables, Unreadable
from tools.playground.world import World

CREATED: Final = 201
PRICE: Final = "9.50"
SETTLE_SECONDS: Final = 60.0
HIT_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.05
SLOW: Final = 0.9
"""How long a change by the lock alone rests between its two writes, so that it can be followed."""
KILLED: Final = 137
LIVED: Final = frozenset({0})
LATE: Final = frozenset({0, lock_only.LEASE_LOST})
"""A late writer may notice that its lease had ended, after it has written."""
RETRIES: Final = 30
RETRY_SECONDS: Final = 1.0


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Text:
    """What a person reads before and after a scene."""

    title: str
    before: str
    after: str


@dataclass
class Result:
    """How a scene ended, on both sides."""

    shop_equal: bool
    shop: str
    control_equal: bool
    control: str


@dataclass
class Run:
    """A scene that is being played, or was."""

    scene: str
    lines: list[tuple[str, str]] = field(default_factory=list)
    """What has happened so far: which side it concerns (shop, control, both), and a sentence."""
    result: Result | None = None
    failure: str = ""
    order_ids: list[str] = field(default_factory=list)
    control_ids: list[str] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.result is not None or bool(self.failure)


class SceneFailed(Exception):
    """A scene could not be played to its end: something else was broken meanwhile."""


class Director:
    """Plays the scenes, one at a time."""

    def __init__(
        self, world: World, customers: Customers, control: Control, tables: Tables
    ) -> None:
        """Take everything that a scene needs."""
        self.world = world
        self.customers = customers
        self.control = control
        self.tables = tables
        self.run: Run | None = None
        """The last scene."""
        self.runs: dict[str, Run] = {}
        """The last run of each scene."""
        self.results: dict[str, Result] = {}
        """How each scene ended when it was last played."""
        self._task: asyncio.Task[None] | None = None

    @property
    def order_ids(self) -> list[UUID]:
        """The shop's orders of all scenes."""
        return [UUID(each) for run in self.runs.values() for each in run.order_ids]

    @property
    def control_ids(self) -> list[UUID]:
        """The control's orders of all scenes."""
        return [UUID(each) for run in self.runs.values() for each in run.control_ids]

    @property
    def playing(self) -> bool:
        """Whether a scene is being played."""
        return self._task is not None and not self._task.done()

    def play(self, scene: str) -> None:
        """Begin a scene.

        Raises:
            KeyError: There is none of that name.
            SceneFailed: Another one is being played.
        """
        act = ACTS[scene]
        if self.playing:
            raise SceneFailed("Another scene is being played. Wait until it has ended.")
        self.run = self.runs[scene] = Run(scene)
        self._task = asyncio.create_task(self._play(self.run, act))
        self._task.add_done_callback(_report)

    async def stop(self) -> None:
        """End the scene that is being played."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _play(self, run: Run, act: Act) -> None:
        stage = Stage(self, run)
        try:
            await stage.begin()
            result = await act(stage)
        except asyncio.CancelledError:
            run.failure = "It was stopped."
            raise
        except (
            SceneFailed,
            DevkitError,
            Unreadable,
            OSError,
            redis.RedisError,
            asyncio.BrokenBarrierError,
        ) as failure:
            run.failure = str(failure) or type(failure).__name__
        except Exception as failure:
            # The page must not wait for a scene that nobody plays any more.
            run.failure = f"The playground has failed: {type(failure).__name__}."
            raise
        else:
            run.result = result
            self.results[run.scene] = result
        finally:
            await self.control.end_all()


class Stage:
    """What an act works with."""

    def __init__(self, director: Director, run: Run) -> None:
        """Take the director's things for one run."""
        self.world = director.world
        self.customers = director.customers
        self.control = director.control
        self._tables = director.tables
        self._run = run

    def say(self, side: str, sentence: str) -> None:
        """Tell what has just happened: to the shop, the control, or both."""
        self._run.lines.append((side, sentence))

    async def begin(self) -> None:
        """Bring back whatever is broken.

        Raises:
            DevkitError: Something did not come back.
        """
        if any(part.state is not State.UP for part in self.world.parts.values()):
            self.say("both", "What is broken is brought back first.")
        await self.world.mend()

    async def orders(self, quantity: int) -> tuple[str, UUID]:
        """Create an order on either side."""
        self.say("both", f"An order of {quantity} at {PRICE} is made, {_sum(quantity)} in both.")
        return await self.order(quantity), await self.control_order(quantity)

    async def order(self, quantity: int) -> str:
        """Create an order through the first order service."""
        for _ in range(RETRIES):  # something may have been broken a moment ago
            answer = await self.customers.create(quantity=quantity, value=PRICE, who="Tour")
            if answer.status == CREATED and answer.order_id is not None:
                self._run.order_ids.append(answer.order_id)
                return answer.order_id
            await asyncio.sleep(RETRY_SECONDS)
        raise SceneFailed("The shop takes no orders now. Bring everything back and try again.")

    async def control_order(self, quantity: int) -> UUID:
        """Put an order into the control's tables."""
        order_id = await self.control.make(quantity * Decimal(PRICE))
        self._run.control_ids.append(str(order_id))
        return order_id

    def show(self, order_id: UUID | str, *, control: bool = False) -> None:
        """Let the page point at an order of this scene."""
        chosen = self._run.control_ids if control else self._run.order_ids
        chosen.append(str(order_id))

    async def repeat(self, send: Callable[[], Awaitable[Answer]]) -> Answer:
        """Send a request again until there is a final answer, as a careful client does."""
        for _ in range(RETRIES):
            answer = await send()
            if answer.status is not None and answer.status not in {202, 423, 503}:
                return answer
            await asyncio.sleep(RETRY_SECONDS)
        raise SceneFailed("There was no final answer within half a minute.")

    async def arm(self, step: steps.Step, action: str, *, fate: str = "") -> Service:
        """Start the second order service anew, so that it fails at a step.

        Args:
            step: Where it fails.
            action: How, as a failpoint's action.
            fate: The same as a reader is told; nothing is said without.
        """
        if fate:
            self.say("shop", f"Order service B is started anew. It will {fate} when {step.label}.")
        armed = steps.failing(step, action, slowly=self.world.slow)
        await self.world.order_b.restart(armed)
        return self.world.order_b

    async def until_hit(self, service: Service, step: steps.Step) -> None:
        """Wait until a service has come to the step it is armed for."""
        await _until(lambda: service.has_hit(step.point), HIT_SECONDS, step.label)

    async def alone(
        self,
        order_id: UUID,
        quantity: int,
        *,
        failpoints: str = "",
        wish: UUID | None = None,
        ends: frozenset[int] = LIVED,
    ) -> None:
        """Make a change by the lock alone, and see to it that its process ends as it should.

        Raises:
            SceneFailed: It ended otherwise.
        """
        total = quantity * Decimal(PRICE)
        change = self.control.change(order_id, total, failpoints=failpoints, wish=wish)
        _ended(await change, ends)

    async def stands(self, order_id: str) -> tuple[object, ...]:
        """An order and its invoice as both are stored."""
        order, invoice = await self._tables.order(UUID(order_id))
        if order is None or invoice is None:
            return order, invoice
        return tuple(side[name] for side in (order, invoice) for name in ("version", "total"))

    async def wipe(self) -> None:
        """Let Redis forget everything."""
        async with self.world.redis_client() as client:
            await client.flushall()
        self.say("both", "Redis has forgotten every lock.")

    async def settled(self, since: datetime) -> None:
        """Wait until no operation is on its way."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while await self._tables.pending(since):
            if time.monotonic() >= deadline:
                raise SceneFailed("An operation is still on its way after a minute.")
            await asyncio.sleep(POLL_SECONDS)

    async def now(self) -> datetime:
        """The time at the databases."""
        return await self._tables.now()

    async def compare(self, order_id: str) -> tuple[bool, str]:
        """Whether an order equals its invoice as both are stored, and how they are."""
        order, invoice = await self._tables.order(UUID(order_id))
        if order is None or invoice is None:
            return False, "one of the two is missing"
        equal = all(order[name] == invoice[name] for name in ("version", "total", "status"))
        return equal, f"order {order['total']}, invoice {invoice['total']}"

    async def compare_control(self, order_id: UUID) -> tuple[bool, str]:
        """The same of the control's tables."""
        books = await self.control.books()
        (pair,) = (pair for pair in books.pairs if pair.order_id == order_id)
        if pair.order is None or pair.invoice is None:
            return False, "one of the two is missing"
        return not pair.differs, f"order {pair.order['total']}, invoice {pair.invoice['total']}"

    async def orders_of(self, user_id: UUID) -> int:
        """How many orders a user has."""
        return await self._tables.orders_of(user_id)

    async def result(self, order_id: str, control_id: UUID) -> Result:
        """What both sides have come to."""
        shop_equal, shop = await self.compare(order_id)
        control_equal, control = await self.compare_control(control_id)
        return Result(shop_equal, shop, control_equal, control)


Act = Callable[[Stage], Awaitable[Result]]


async def two_at_once(stage: Stage) -> Result:
    """Two clients change one order at the same moment."""
    order, control_order = await stage.orders(2)
    since, moment = await stage.now(), now()

    async def shop() -> None:
        first, second = await asyncio.gather(
            stage.customers.update(order, quantity=5, to="order-a", who="Ann", update_time=moment),
            stage.customers.update(order, quantity=8, to="order-b", who="Ben", update_time=moment),
        )
        for answer in (first, second):
            came = "was told it is done" if answer.done else f"was answered {answer.status}"
            stage.say("shop", f"{answer.who} {came}.")
        await stage.settled(since)

    async def control() -> None:
        slow = f"{lock_only.AFTER_INVOICE_WRITE}=stall:{SLOW}*1"
        await asyncio.gather(
            stage.alone(control_order, 5, failpoints=slow),
            stage.alone(control_order, 8, failpoints=slow),
        )
        stage.say("control", "Both changed both tables, one after the other.")

    stage.say("both", "Ann asks for 5 and Ben asks for 8, at the same moment.")
    await _together(shop(), control())
    return await stage.result(order, control_order)


async def crash_between(stage: Stage) -> Result:
    """The process dies when the invoice is changed and the order is not."""
    order, control_order = await stage.orders(2)
    since = await stage.now()

    async def shop() -> None:
        await stage.arm(steps.AFTER_SEND, "kill", fate="die")
        key, moment = str(uuid.uuid4()), now()

        async def ask(to: str) -> Answer:
            return await stage.customers.update(
                order, quantity=7, to=to, who="Ann", key=key, update_time=moment
            )

        stage.say("shop", "Ann asks order service B for 7 instead of 2.")
        answer = await ask("order-b")
        _expect(answer.status is None, f"B should have died, but answered {answer.status}")
        _, how = await stage.compare(order)
        stage.say("shop", f"B is dead, and left this behind: {how}.")
        await stage.settled(since)
        who = "A" if stage.world.order_b.state is State.DOWN else "An order service"
        stage.say("shop", f"{who} found the open operation and completed it.")
        answer = await stage.repeat(lambda: ask("order-a"))
        stage.say("shop", f"Ann repeats her request under the same key: {_heard(answer)}.")

    async def control() -> None:
        kill = f"{lock_only.AFTER_INVOICE_WRITE}=kill"
        await stage.alone(control_order, 7, failpoints=kill, ends=frozenset({KILLED}))
        _, how = await stage.compare_control(control_order)
        stage.say("control", f"The process is dead, and left this behind: {how}.")
        stage.say("control", "Its lock will run out, and nobody knows what is owed.")

    await _together(shop(), control())
    return await stage.result(order, control_order)


async def sleeper(stage: Stage) -> Result:
    """A process that holds the lock pauses until the lock has expired, and writes anyway."""
    order, control_order = await stage.orders(2)
    since = await stage.now()

    async def shop() -> None:
        service = await stage.arm(
            steps.BEFORE_SEND, f"stall:{steps.NAP_SECONDS}", fate="fall asleep"
        )
        sleeping = asyncio.create_task(
            stage.customers.update(order, quantity=7, to="order-b", who="Ann")
        )
        await stage.until_hit(service, steps.BEFORE_SEND)
        await service.do("pause", heals_in_seconds=SETTLE_SECONDS)
        stage.say(
            "shop", "B has fallen asleep with the lock in its hand, for longer than it lasts."
        )
        other = await _ben(stage, order)
        stage.say("shop", f"The lock ran out, and Ben came through A: {_heard(other)}.")
        stood = await stage.stands(order)
        await service.heal()
        late = await sleeping
        await stage.settled(since)
        changed = await stage.stands(order) != stood
        stage.say("shop", f"B woke up and went on, {_heard(late)}: {_late(changed)}.")

    async def control() -> None:
        first = await _halfway(stage, control_order)
        stage.say("control", "The first has written the invoice, and fallen asleep.")
        await stage.alone(control_order, 3)
        _, how = await stage.compare_control(control_order)
        stage.say("control", f"The lock ran out. The second has written both: {how}.")
        await first.resume()
        _ended(await stage.control.finish(first), LATE)
        _, how = await stage.compare_control(control_order)
        stage.say("control", f"The first woke up, and wrote its order over it: {how}.")

    await _together(shop(), control())
    return await stage.result(order, control_order)


async def redis_forgets(stage: Stage) -> Result:
    """Redis loses all locks while two clients are at work."""
    order, control_order = await stage.orders(2)
    since = await stage.now()
    ready, wiped = asyncio.Barrier(2), asyncio.Event()

    async def shop() -> None:
        async with _awaited(ready):
            service = await stage.arm(
                steps.BEFORE_SEND, f"stall:{steps.NAP_SECONDS}", fate="stand still"
            )
            first = asyncio.create_task(
                stage.customers.update(order, quantity=7, to="order-b", who="Ann")
            )
            await stage.until_hit(service, steps.BEFORE_SEND)
            await service.do("pause", heals_in_seconds=SETTLE_SECONDS)
            stage.say("shop", "Ann's change is half way through, under the lock.")
        await stage.wipe()
        wiped.set()
        second = await _ben(stage, order)
        stage.say("shop", f"Ben was let in beside her: {_heard(second)}.")
        stood = await stage.stands(order)
        await service.heal()
        answer = await first
        await stage.settled(since)
        changed = await stage.stands(order) != stood
        stage.say("shop", f"Ann's service went on, {_heard(answer)}: {_late(changed)}.")

    async def control() -> None:
        async with _awaited(ready):
            first = await _halfway(stage, control_order)
            stage.say("control", "The first has written the invoice, under the lock.")
        await wiped.wait()
        await stage.alone(control_order, 3)
        _, how = await stage.compare_control(control_order)
        stage.say("control", f"The second was let in beside it, and wrote both: {how}.")
        await first.resume()
        _ended(await stage.control.finish(first), LATE)
        _, how = await stage.compare_control(control_order)
        stage.say("control", f"The first went on, and wrote its order over it: {how}.")

    await _together(shop(), control())
    return await stage.result(order, control_order)


async def _ben(stage: Stage, order: str) -> Answer:
    """Ben asks for 3, again and again under one key, until he has a final answer."""
    key, moment = str(uuid.uuid4()), now()
    return await stage.repeat(
        lambda: stage.customers.update(
            order, quantity=3, to="order-a", who="Ben", key=key, update_time=moment
        )
    )


async def _halfway(stage: Stage, order: UUID) -> Change:
    """A change by the lock alone that stands still after its first write."""
    point = lock_only.AFTER_INVOICE_WRITE
    rest = f"{point}=stall:{steps.NAP_SECONDS}*1"
    change = await stage.control.begin(order, _sum(7), failpoints=rest)
    await change.until_hit(point)
    await change.pause()
    return change


async def lost_answer(stage: Stage) -> Result:
    """An order is made, and the answer is lost; the client asks again."""
    since = await stage.now()
    wish, item = uuid.uuid4(), uuid.uuid4()
    made: list[str] = []

    async def shop() -> None:
        await stage.arm(steps.BEFORE_REPLY, "drop", fate="lose its answer")
        key = str(uuid.uuid4())

        async def ask(to: str) -> Answer:
            return await stage.customers.create(
                quantity=3, value=PRICE, to=to, who="Ann", user_id=wish, item_id=item, key=key
            )

        lost = await ask("order-b")
        _expect(lost.status is None, f"the answer should be lost, but was {lost.status}")
        stage.say("shop", "The order is made, and the answer is lost on its way.")
        await stage.settled(since)
        again = await stage.repeat(lambda: ask("order-a"))
        _expect(again.order_id is not None, f"answered {again.status} {again.detail}")
        made.append(str(again.order_id))
        stage.show(made[0])
        orders = await stage.orders_of(wish)
        stage.say("shop", f"Ann asks again under the same key: {_heard(again)}. {_there(orders)}.")

    async def control() -> None:
        drop = f"{lock_only.BEFORE_REPLY}=kill"
        first, second = uuid.uuid4(), uuid.uuid4()
        await stage.alone(first, 3, wish=wish, failpoints=drop, ends=frozenset({KILLED}))
        stage.show(first, control=True)
        stage.say("control", "The order is made, and the answer is lost on its way.")
        await stage.alone(second, 3, wish=wish)
        stage.show(second, control=True)
        stage.say("control", "The client asks again, and gets a second order.")

    await _together(shop(), control())
    orders = await stage.orders_of(wish)
    books = await stage.control.books()
    twice = sum(1 for pair in books.pairs if pair.order is not None and pair.order["wish"] == wish)
    equal, _ = await stage.compare(made[0])
    return Result(
        shop_equal=equal and orders == 1,
        shop=f"{_count(orders)}, {orders * _sum(3)} to pay",
        control_equal=twice == 1,
        control=f"{_count(twice)}, {twice * _sum(3)} to pay",
    )


SHOP_DEATHS: Final = (
    steps.AFTER_LOCK,
    steps.AFTER_INTENT,
    steps.AFTER_SEND,
    steps.IN_COMPLETION,
    steps.BEFORE_RELEASE,
    steps.BEFORE_REPLY,
)


async def lock_alone(stage: Stage) -> Result:
    """The process is killed at six steps, one after the other."""
    since = await stage.now()
    orders: list[str] = []
    controls: list[UUID] = []

    async def shop() -> None:
        for number, step in enumerate(SHOP_DEATHS, 1):
            order = await stage.order(2)
            orders.append(order)
            await stage.arm(step, "kill")
            answer = await stage.customers.update(
                order, quantity=6 + number, to="order-b", who="Ann"
            )
            killed = f"killed when {step.label}"
            came = killed if answer.status is None else f"not killed, but {_heard(answer)}"
            stage.say("shop", f"{number} of 6: {came}.")
        await stage.settled(since)

    async def control() -> None:
        for number, point in enumerate(lock_only.POINTS, 1):
            order = await stage.control_order(2)
            controls.append(order)
            kill = f"{point}=kill"
            await stage.alone(order, 6 + number, failpoints=kill, ends=frozenset({KILLED}))
            equal, how = await stage.compare_control(order)
            stage.say("control", f"{number} of 6: {how if not equal else 'equal this time'}.")

    stage.say("both", "A process is killed in the middle of a change, at six different steps.")
    await _together(shop(), control())
    shop_lost = [order for order in orders if not (await stage.compare(order))[0]]
    control_lost = [order for order in controls if not (await stage.compare_control(order))[0]]
    return Result(
        shop_equal=not shop_lost,
        shop=f"{len(shop_lost)} of {len(orders)} orders lost",
        control_equal=not control_lost,
        control=f"{len(control_lost)} of {len(controls)} orders lost",
    )


ACTS: Final[dict[str, Act]] = {
    "two-at-once": two_at_once,
    "crash": crash_between,
    "sleeper": sleeper,
    "redis-forgets": redis_forgets,
    "lost-answer": lost_answer,
    "lock-alone": lock_alone,
}
TEXTS: Final[dict[str, Text]] = {
    "two-at-once": Text(
        "Two at once",
        "Two clients change the same order at the same moment, through two order services. Watch"
        " one of them take the lock, and the other stand in line.",
        "One held the lock while the other waited, so both changes happened, one after the other."
        " This much a lock alone does as well: it keeps writers apart.",
    ),
    "crash": Text(
        "Crash between the two writes",
        "An order service dies the moment the invoice is changed and the order is not. Watch the"
        " bar of its lock run out, and the other service find what it left behind.",
        "The intent was written down before anything changed, so somebody else could finish the"
        " change. A lock knows nothing of what its holder was doing: it ran out, and the two"
        " tables differ for good.",
    ),
    "sleeper": Text(
        "The sleeper",
        "A process takes the lock and then pauses for longer than the lock lasts, as a paused"
        " virtual machine does. Somebody else gets the lock, and then the sleeper wakes up.",
        "The databases knew what had been decided, so the sleeper's late write changed nothing."
        " With a lock alone it wrote over what the next holder had done, believing that it still"
        " held the lock.",
    ),
    "redis-forgets": Text(
        "Redis forgets",
        "In the middle of a change Redis loses every lock, as after a restart without its data."
        " A second client is let in while the first is still at work.",
        "Both were inside at once, and the order's next version was given to one of them only."
        " With a lock alone the two wrote across each other: the lock was all there was.",
    ),
    "lost-answer": Text(
        "The lost answer",
        "An order is made, but the answer never arrives. The client does what every client does:"
        " it asks again.",
        "The second request came under the same key and got the first one's answer: one order, one"
        " invoice. A lock was free both times, so it let the same wish through twice.",
    ),
    "lock-alone": Text(
        "A lock alone",
        "Now the same process is killed at six different steps of a change, once with the whole"
        " protocol and once with the lock alone. Count what each of them loses.",
        "The shop lost none: a change that was not written down yet has never happened, and any"
        " other is completed from what was written down. The lock kept its promise each time, one"
        " holder at a time, and orders were lost all the same.",
    ),
}


def _sum(quantity: int) -> Decimal:
    return quantity * Decimal(PRICE)


def _heard(answer: Answer) -> str:
    return "no answer" if answer.status is None else f"answered {answer.status}"


def _late(changed: bool) -> str:  # noqa: FBT001
    return "the order has changed once more" if changed else "its late write changed nothing"


def _count(orders: int) -> str:
    return f"{orders} order{'' if orders == 1 else 's'}"


def _there(orders: int) -> str:
    return f"There {'is' if orders == 1 else 'are'} {_count(orders)}"


def _ended(status: int, ends: frozenset[int]) -> None:
    if status not in ends:
        raise SceneFailed(f"A process of the lock alone has ended with {status}.")


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a scene has failed", exc_info=error)


def _expect(holds: bool, otherwise: str) -> None:  # noqa: FBT001
    if not holds:
        raise SceneFailed(f"{otherwise}. Was something broken meanwhile? Play it again.")


@asynccontextmanager
async def _awaited(ready: asyncio.Barrier) -> AsyncIterator[None]:
    """Wait for the other side after the body; when it fails the other side shall not wait."""
    try:
        yield
        await ready.wait()
    except BaseException:
        await ready.abort()
        raise


async def _together(*sides: Awaitable[None]) -> None:
    """Play both sides; when one fails the other is ended, and the first failure is raised."""
    tasks = [asyncio.ensure_future(side) for side in sides]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() >= deadline:
            raise SceneFailed(f"This did not happen within {seconds:.0f} seconds: {what}.")
        await asyncio.sleep(POLL_SECONDS)
