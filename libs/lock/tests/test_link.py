import asyncio
import gc
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

import pytest
from libs.lock.tests.eventually import eventually

from fencelock import RedisUnavailable
from fencelock._clock import now
from fencelock._link import _WRITE_COMMANDS, Link


class Peer:
    """The server's end of a link: reads what comes, answers what it is told to."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.received = asyncio.Event()
        self.writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        while data := await reader.read(65536):
            self.chunks.append(data)
            self.received.set()
        writer.close()

    def say(self, data: bytes) -> None:
        assert self.writer is not None
        self.writer.write(data)


class Linked:
    """A link, its peer, and what came out of it."""

    def __init__(self, reply_timeout: float) -> None:
        self.peer = Peer()
        self.pushes: list[object] = []
        self.lost: list[Link] = []
        self._reply_timeout = reply_timeout

    async def __aenter__(self) -> Self:
        self.server = await asyncio.start_server(self.peer.serve, "127.0.0.1", 0)
        port = self.server.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        made = await loop.create_connection(
            lambda: Link(
                loop,
                reply_timeout=self._reply_timeout,
                on_push=self.pushes.append,
                on_lost=self.lost.append,
            ),
            "127.0.0.1",
            port,
        )
        self.link = made[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.link.abort("end of test")
        await self.link.closed
        self.server.close()
        await self.server.wait_closed()


async def test_replies_come_back_in_order_and_pushes_go_elsewhere() -> None:
    async with Linked(30.0) as linked:
        one, two = linked.link.send(("ECHO", "1")), linked.link.send(("ECHO", "2"))
        await linked.peer.received.wait()
        linked.peer.say(b"$1\r\n1\r\n>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n$1\r\n2\r\n")
        assert await one == b"1"
        assert await two == b"2"
        assert linked.pushes == [[b"message", b"c", b"x"]]


async def test_what_is_longer_than_one_read_comes_whole() -> None:
    async with Linked(30.0) as linked:
        text = bytes(range(256)) * 1000
        one, two = linked.link.send(("ECHO", "1")), linked.link.send(("ECHO", "2"))
        await linked.peer.received.wait()
        linked.peer.say(b"$%d\r\n%s\r\n$1\r\n2\r\n" % (len(text), text))
        assert await one == text
        assert await two == b"2"


async def test_who_is_told_by_a_push_goes_before_who_is_answered() -> None:
    async with Linked(30.0) as linked:
        went: list[str] = []
        loop = asyncio.get_running_loop()

        def tell(_: object) -> None:
            loop.call_soon(went.append, "told")

        linked.link._on_push = tell
        reply = linked.link.send(("ECHO", "1"))
        reply.add_done_callback(lambda _: went.append("answered"))
        await linked.peer.received.wait()
        linked.peer.say(b"$1\r\n1\r\n>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n")
        await reply
        assert went == ["told", "answered"]


async def test_what_is_sent_in_one_turn_leaves_in_few_writes() -> None:
    async with Linked(30.0) as linked:
        futures = [linked.link.send(("PING", str(index))) for index in range(64)]
        await linked.peer.received.wait()
        linked.peer.say(b"+PONG\r\n" * 64)
        await asyncio.gather(*futures)
        # The first leaves at once, the others together.
        assert len(linked.peer.chunks) <= 2


async def test_the_server_may_begin_with_what_a_turn_sends_before_it_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Linked(30.0) as linked:
        writes: list[bytes] = []
        monkeypatch.setattr(linked.link._transport, "write", writes.append)
        count = 1 + 2 * _WRITE_COMMANDS + 1
        for index in range(count):
            linked.link.send(("ECHO", str(index)))
        assert len(writes) == 1 + 2, "the first alone, then so many together"
        await asyncio.sleep(0)
        assert len(writes) == 1 + 2 + 1, "and what is left at the end of the turn"
        sent = [b"*2\r\n$4\r\nECHO\r\n$%d\r\n%d\r\n" % (len(str(n)), n) for n in range(count)]
        assert b"".join(writes) == b"".join(sent)


async def test_the_reply_to_a_cancelled_command_is_thrown_away() -> None:
    async with Linked(30.0) as linked:
        cancelled, wanted = linked.link.send(("ECHO", "1")), linked.link.send(("ECHO", "2"))
        cancelled.cancel()
        await linked.peer.received.wait()
        linked.peer.say(b"$1\r\n1\r\n$1\r\n2\r\n")
        assert await wanted == b"2"


async def test_a_command_without_a_reply_ends_the_link() -> None:
    async with Linked(0.05) as linked:
        with pytest.raises(RedisUnavailable, match=r"no reply within 0\.05 s"):
            await linked.link.send(("PING",))
        assert linked.lost == [linked.link]
        with pytest.raises(RedisUnavailable):
            await linked.link.send(("PING",))


async def test_an_idle_link_stays() -> None:
    async with Linked(0.02) as linked:
        done = linked.link.send(("PING",))
        await linked.peer.received.wait()
        linked.peer.say(b"+PONG\r\n")
        await done
        later = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.1, later.set_result, None)
        await later
        assert linked.link.usable


async def test_the_end_of_the_connection_fails_what_is_open() -> None:
    async with Linked(30.0) as linked:
        waiting = linked.link.send(("PING",))
        await linked.peer.received.wait()
        assert linked.peer.writer is not None
        linked.peer.writer.close()
        with pytest.raises(RedisUnavailable):
            await waiting
        assert not linked.link.usable


async def test_another_protocol_ends_the_link() -> None:
    async with Linked(30.0) as linked:
        waiting = linked.link.send(("PING",))
        await linked.peer.received.wait()
        linked.peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(RedisUnavailable, match="does not speak"):
            await waiting


@asynccontextmanager
async def unread() -> AsyncIterator[tuple[Link, socket.socket, asyncio.Future[object]]]:
    """A link, the server's end of it, which reads nothing, and a command that does not fit."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        accepting = asyncio.ensure_future(loop.sock_accept(listening))
        made = await loop.create_connection(
            lambda: Link(loop, reply_timeout=30.0, on_push=print, on_lost=lambda _: None),
            *listening.getsockname(),
        )
        server, _ = await accepting
    with server:
        yield made[1], server, made[1].send(("ECHO", "x" * 50_000_000))


async def test_a_server_that_says_no_more_and_reads_no_more_ends_the_link() -> None:
    """Else what is not sent yet would keep it closing for ever, and its successor from coming."""
    async with unread() as (link, server, waiting), asyncio.timeout(10.0):
        server.shutdown(socket.SHUT_WR)
        await link.closed
        with pytest.raises(RedisUnavailable, match="closed by the server"):
            await waiting


async def test_a_link_that_is_closing_is_dropped_when_it_is_to_be() -> None:
    async with unread() as (link, _, waiting), asyncio.timeout(10.0):
        assert link._transport is not None
        link._transport.close()
        link.abort("given up")
        await link.closed
        with pytest.raises(RedisUnavailable):
            await waiting


async def test_that_nobody_waits_for_a_reply_is_nothing_to_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Linked(30.0) as linked:
        linked.link.send(("CLIENT", "CACHING", "YES"))
        linked.link.abort("broken")
        await linked.link.closed
        linked.link.send(("CLIENT", "CACHING", "YES"))
        gc.collect()
    assert caplog.records == []


@pytest.mark.parametrize(
    ("overdue", "heard", "usable"),
    [
        (1.0, 10.0, True),  # it is busy with others
        (1.0, 31.0, False),  # it is silent
        (121.0, 10.0, False),  # but not for ever
    ],
)
async def test_a_server_that_is_busy_with_others_is_not_dead(
    overdue: float, heard: float, usable: bool
) -> None:
    """To give it everything anew would keep it busy for ever."""
    async with Linked(30.0) as linked:
        link = linked.link
        waiting = link.send(("PING",))
        moment = now()
        link._pending[0] = (link._pending[0][0], moment - overdue, 30.0)
        link._heard_at = moment - heard
        link._watch()
        assert link.usable == usable
        if not usable:
            with pytest.raises(RedisUnavailable, match="no reply"):
                await waiting


async def test_a_reply_is_heard_and_a_push_is_none() -> None:
    async with Linked(30.0) as linked:
        reply = linked.link.send(("PING",))
        await linked.peer.received.wait()
        linked.peer.say(b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n")

        async def pushed() -> bool:
            return linked.pushes != []

        await eventually(pushed, "the push is there")
        assert linked.link._heard_at == 0.0
        linked.peer.say(b"+PONG\r\n")
        await reply
        assert linked.link._heard_at > 0.0
