"""The way to a Cluster: one connection to each master, chosen by the slot of the names.

The map of slots is read from the nodes: before the first command, when one says MOVED, and for as
long as a master cannot be reached. Of the answers of a majority the one of the latest epoch counts.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import NamedTuple

from fencelock import _slots
from fencelock._clock import now
from fencelock._connection import Answer, Connection, Redirected
from fencelock._conversation import Partner, accept, ask_all, conversation
from fencelock._errors import ConfigurationError, FencelockError, RedisUnavailable
from fencelock._link import Link, Reply
from fencelock._protocol import Command
from fencelock._route import Fixed
from fencelock._scripts import Scripts
from fencelock._target import Target
from fencelock._topology import Cluster

logger = logging.getLogger("fencelock")

Address = tuple[str, int]

NODE = Partner(
    "node", b"cluster", "A user for locks on a Cluster needs also +cluster|slots and +cluster|info"
)
RETRY_SECONDS = 0.1
# While a master cannot be reached the others are asked who serves its slots, for so long after
# somebody last wanted to know.
REFRESH_SECONDS = 0.3
INTEREST_SECONDS = 30.0
LEARN_SECONDS = 2.0
# Who is sent on again and again waits a little: the nodes do not agree yet.
_REDIRECTIONS_AT_ONCE = 3
_REMEMBERED_GRANTS = 1024


class Map(NamedTuple):
    """Which master serves a slot, as of an epoch."""

    epoch: int
    served: dict[int, Address]


class _Node:
    """One master."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.connection: Connection
        # The newest connection to it, from before it is given to others.
        self.link: Link | None = None
        self.retired = False


class _Errand:
    """A command on its way through a Cluster."""

    def __init__(self, command: Command, repeat: Callable[[], Command] | None) -> None:
        self.slot = _slots.slot_of_command(command)
        self._first = _slots.placed(command)
        self._repeat = repeat
        self.again = None if repeat is None else self._again
        # How the last try failed that may have reached its node.
        self.before: RedisUnavailable | None = None
        self.asked: Redirected | None = None
        self.redirections = 0

    def command(self) -> Command:
        """What to run now."""
        return self._first if self.before is None or self._repeat is None else self._again()

    def sent_on(self, redirected: Redirected) -> None:
        """A node did nothing this time, but said where to go."""
        self.asked = redirected if redirected.ask else None
        self.before = redirected if redirected.reached else self.before
        self.redirections += 1

    def abandoned(self, error: RedisUnavailable) -> None:
        """Its node serves the slot no more: another one does."""
        self.asked = None
        self.before = error if error.reached else self.before

    def _again(self) -> Command:
        assert self._repeat is not None  # noqa: S101 (set together)
        return _slots.placed(self._repeat())


class ClusterConnection:
    """Connections to all masters that are needed; what :class:`Connection` is to one server."""

    def __init__(
        self,
        cluster: Cluster,
        scripts: Scripts,
        *,
        channel: str,
        connect_timeout: float,
        reply_timeout: float,
        on_push: Callable[[object], None],
        on_down: Callable[[], None],
        on_up: Callable[[Link], Awaitable[None]],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._cluster = cluster
        self._on_push = on_push
        self._on_down = on_down
        self._on_up = on_up
        self._make = partial(
            Connection,
            scripts=scripts,
            channel=channel,
            connect_timeout=connect_timeout,
            reply_timeout=reply_timeout,
            on_push=self._pushed,
            on_down=self._down,
        )
        self._map = Map(-1, {})
        self._nodes: dict[Address, _Node] = {}
        self._grants: OrderedDict[bytes, None] = OrderedDict()
        self._learning: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._interest_until = 0.0
        self._retiring: set[asyncio.Task[None]] = set()
        self._closed = False

    def tracks(self, command: Command) -> bool:
        """Whether the master that has the keys of a command is connected, and tells of changes."""
        node = self._nodes.get(self._map.served.get(_slots.slot_of_command(command), ("", 0)))
        return node is not None and node.connection.tracks(command)

    async def call(
        self,
        command: Command,
        *,
        deadline: float,
        limit: float | None = None,
        repeat: Callable[[], Command] | None = None,
    ) -> Answer:
        """Run a script where its names are; see :meth:`Connection.call`."""
        errand = _Errand(command, repeat)
        while True:
            node = await self._next(errand, deadline)
            try:
                answer = await node.connection.call(
                    errand.command(),
                    deadline=deadline,
                    limit=limit,
                    repeat=errand.again,
                    asking=errand.asked is not None,
                )
            except Redirected as redirected:
                if now() >= deadline:
                    raise
                if not redirected.ask:
                    self._map.served[errand.slot] = redirected.address
                    self._refresh()
                errand.sent_on(redirected)
            except RedisUnavailable as error:
                if not node.retired or self._closed or now() >= deadline:
                    raise
                errand.abandoned(error)
            else:
                return answer._replace(repeated=answer.repeated or errand.before is not None)

    async def _next(self, errand: "_Errand", deadline: float) -> _Node:
        """Where an errand is to be tried next."""
        if errand.redirections > _REDIRECTIONS_AT_ONCE:
            await asyncio.sleep(RETRY_SECONDS)
        if errand.asked is not None:
            return self._at(errand.asked.address)
        node = await self._serving(errand.slot, deadline)
        if not node.connection.up:
            self._refresh()
        return node

    async def ping(self, *, deadline: float) -> None:
        """Raise unless every master answers, and every slot is served."""
        await self._learn(deadline)
        if len(self._map.served) < _slots.SLOTS:
            missing = _slots.SLOTS - len(self._map.served)
            raise RedisUnavailable(f"{self._cluster}: nobody serves {missing} slots")
        masters = [self._at(address) for address in sorted(set(self._map.served.values()))]
        await asyncio.gather(*[node.connection.ping(deadline=deadline) for node in masters])

    def send_now(self, command: Command) -> asyncio.Future[Reply] | None:
        """Send a script ahead of everything that is sent later to its node, if connected."""
        node = self._nodes.get(self._map.served.get(_slots.slot_of_command(command), ("", 0)))
        return None if node is None else node.connection.send_now(_slots.placed(command))

    async def evaluate(self, link: Link, command: Command) -> Reply:
        """Run a script on a link that is not given to others yet. Error replies are returned."""
        node = next(each for each in self._nodes.values() if each.link is link)
        return await node.connection.evaluate(link, _slots.placed(command))

    def serves(self, link: Link, command: Command) -> bool:
        """Whether a link leads to where the names of a command are."""
        node = self._nodes.get(self._map.served.get(_slots.slot_of_command(command), ("", 0)))
        return node is not None and node.link is link

    def look_again(self) -> None:
        """Something vanished before its time: see soon whether the servers still are fit."""
        for node in self._nodes.values():
            node.connection.look_again()

    async def links(self, *, deadline: float) -> list[Link]:
        """Be connected to every master that can be reached.

        Raises:
            RedisUnavailable: there is none.
        """
        await self._learn(deadline)
        masters = [self._at(address) for address in set(self._map.served.values())]
        found = await asyncio.gather(
            *[node.connection.ready(deadline=deadline) for node in masters], return_exceptions=True
        )
        links = [each for each in found if isinstance(each, Link)]
        if not links:
            raise next((each for each in found if isinstance(each, FencelockError)), _nobody())
        return links

    def reconnect(self) -> None:
        """Begin to connect to those that are not, without waiting for it."""
        for node in self._nodes.values():
            if not node.connection.up:
                node.connection.reconnect()

    async def close(self) -> None:
        """Close for good. Commands without a reply fail."""
        self._closed = True
        tasks = [each for each in (self._learning, self._refreshing) if each is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.gather(*[node.connection.close() for node in self._nodes.values()])
        if self._retiring:
            await asyncio.wait(self._retiring)

    async def _serving(self, slot: int, deadline: float) -> _Node:
        while True:
            if self._closed:
                raise RedisUnavailable("the client was closed")
            address = self._map.served.get(slot)
            if address is not None:
                return self._at(address)
            try:
                await self._learn(deadline)
                trouble = RedisUnavailable(f"{self._cluster}: nobody serves slot {slot}")
            except RedisUnavailable as error:
                trouble = error
            if slot in self._map.served:
                continue
            if now() + RETRY_SECONDS >= deadline:
                trouble.reached = False
                raise trouble
            await asyncio.sleep(RETRY_SECONDS)

    def _at(self, address: Address) -> _Node:
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = _Node(self._target(address))
            node.connection = self._make(
                Fixed(node.target, b"cluster"),
                on_up=partial(self._came_up, node),
                probe_tag=partial(self._tag_at, address),
            )
        return node

    def _target(self, address: Address) -> Target:
        return self._cluster.seeds[0].at(*address)

    def _tag_at(self, address: Address) -> str:
        """A hash tag of a slot that a node serves."""
        served = self._map.served.items()
        return _slots.tag(next((slot for slot, where in served if where == address), 0))

    async def _came_up(self, node: _Node, link: Link) -> None:
        node.link = link
        await self._on_up(link)

    def _down(self) -> None:
        if not self._closed:
            self._refresh()
            self._on_down()

    def _pushed(self, message: object) -> None:
        """A node passes on what others publish, so a grant comes once over each connection."""
        match message:
            case [b"message", _, bytes(payload)] if payload.startswith(b"grant "):
                if payload in self._grants:
                    return
                self._grants[payload] = None
                if len(self._grants) > _REMEMBERED_GRANTS:
                    self._grants.popitem(last=False)
        self._on_push(message)

    def _refresh(self) -> None:
        """Find out soon who serves what, and again while a master cannot be reached."""
        self._interest_until = now() + INTEREST_SECONDS
        if self._refreshing is None and not self._closed:
            task = self._loop.create_task(self._keep_learning(), name="fencelock-cluster")
            self._refreshing = None if task.done() else task

    async def _keep_learning(self) -> None:
        try:
            while True:
                try:
                    await self._learn(now() + LEARN_SECONDS)
                except (RedisUnavailable, ConfigurationError) as error:
                    logger.debug("%s does not say who serves what: %s", self._cluster, error)
                await asyncio.sleep(REFRESH_SECONDS)
                up = all(node.connection.up for node in self._nodes.values())
                if up or now() >= self._interest_until:
                    return
        finally:
            self._refreshing = None

    async def _learn(self, deadline: float) -> None:
        """Read the map; those that want it at the same time share it."""
        if self._learning is None or self._learning.done():
            self._learning = self._loop.create_task(self._read_map(), name="fencelock-slots")
            self._learning.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            async with asyncio.timeout(max(0.0, deadline - now())):
                await asyncio.shield(self._learning)
        except TimeoutError as error:
            late = RedisUnavailable(f"{self._cluster} did not say in time who serves what")
            late.reached = False
            raise late from error
        except asyncio.CancelledError:
            if self._closed:
                raise RedisUnavailable("the client was closed") from None
            raise

    async def _read_map(self) -> None:
        known = {(each.host, each.port): each for each in self._cluster.seeds}
        # Those of the URL may be gone by now, and so may the few that were needed so far.
        known |= {each: self._target(each) for each in {*self._nodes, *self._map.served.values()}}
        self._accept(await read_map(known.values()))

    def _accept(self, found: Map) -> None:
        self._map = found
        masters = set(found.served.values())
        for address in [each for each in self._nodes if each not in masters]:
            self._retire(address)

    def _retire(self, address: Address) -> None:
        """It serves nothing any more: whoever waits for it goes elsewhere."""
        node = self._nodes.pop(address)
        node.retired = True
        task = self._loop.create_task(node.connection.close(), name="fencelock-retire")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)


async def read_map(nodes: Iterable[Target]) -> Map:
    """Ask nodes who serves what; of the answers of a majority the one of the latest epoch counts.

    Of two of one epoch, that of more slots: a node that was taken out of the Cluster, or is on its
    way in, may know its epoch and nothing else.

    Raises:
        RedisUnavailable: no node answered.
        ConfigurationError: none did, and one refuses us or is no node of a Cluster.
    """
    maps = await ask_all(_ask(target) for target in nodes)
    return max(maps, key=lambda each: (each.epoch, len(each.served)))


async def _ask(target: Target) -> Map:
    async with conversation(target, NODE) as link:
        replies = await asyncio.gather(
            link.send(("CLUSTER", "SLOTS")), link.send(("CLUSTER", "INFO"))
        )
    slots, info = [accept(NODE, target, reply) for reply in replies]
    text = info.decode() if isinstance(info, bytes) else str(info)
    facts = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    try:
        served = dict(_served(target, slots))
        return Map(int(facts.get("cluster_current_epoch", "0")), served)
    except (TypeError, ValueError, AttributeError) as error:
        raise RedisUnavailable(f"the answer of node {target} makes no sense") from error


def _served(target: Target, slots: object) -> Iterable[tuple[int, Address]]:
    if not isinstance(slots, list):
        raise TypeError("no list of slots")
    for first, last, master, *_ in slots:
        # A node that does not know its own address is where it was reached.
        host = (master[0] or b"").decode() or target.host
        for slot in range(first, last + 1):
            yield slot, (host, int(master[1]))


def _nobody() -> RedisUnavailable:
    return RedisUnavailable("no master of the Cluster can be reached")
