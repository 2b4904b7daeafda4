import asyncio
from typing import Any, cast

import pytest
from libs.lock.tests.eventually import eventually

from fencelock import ConfigurationError, RedisUnavailable
from fencelock._clock import now
from fencelock._connection import Answer, Connection
from fencelock._protocol import RENEWED_KEYS_MAX, Command, Request, Term
from fencelock._replication import Replication
from fencelock._scripts import packaged


class Server:
    """Answers when it is let, as it is told."""

    def __init__(self) -> None:
        self.questions: list[Command] = []
        self.left: list[float] = []
        self.answering = asyncio.Event()
        self.held = True
        self.seen = 1
        self.error: Exception | None = None
        self.closed = False

    async def witness(
        self, command: Command, replicas: int, *, seconds: float, deadline: float
    ) -> tuple[Answer, int]:
        self.questions.append(command)
        self.left.append(deadline - now())
        sent = now()
        await self.answering.wait()
        if self.error is not None:
            raise self.error
        reply = [int(self.held)] * (len(command.args) // 3)
        return Answer(reply, sent, repeated=False, link=cast("Any", None)), self.seen

    async def close(self) -> None:
        self.closed = True


def replication_of(server: Server) -> Replication:
    loop = asyncio.get_running_loop()
    return Replication(loop, cast("Connection", server), packaged(), 1)


def granted(name: str = "order:1") -> tuple[Request, Term]:
    term = Term(10.0, 300.0)
    term.grant(now(), 10.0)
    return Request((name,), "client", 10.0), term


def asking(replication: Replication, request: Request, term: Term) -> asyncio.Task[None]:
    return asyncio.create_task(replication.confirm(request, term, 5.0))


async def asked(server: Server) -> None:
    async def once() -> bool:
        return len(server.questions) == 1

    await eventually(once, "it has asked")


async def test_those_who_come_while_it_waits_share_the_next_question() -> None:
    server = Server()
    replication = replication_of(server)
    first = asking(replication, *granted("order:1"))
    await asked(server)
    others = [asking(replication, *granted(f"order:{number}")) for number in (2, 3)]
    await asyncio.sleep(0)
    server.answering.set()
    await asyncio.gather(first, *others)
    assert [len(each.keys) for each in server.questions] == [1, 2]


async def test_nobody_asks_for_one_that_gave_up() -> None:
    server = Server()
    replication = replication_of(server)
    first = asking(replication, *granted())
    await asked(server)
    doomed = asking(replication, *granted("order:2"))
    kept, term = granted("order:3")
    patient = asking(replication, kept, term)
    await asyncio.sleep(0)
    doomed.cancel()
    await asyncio.sleep(0)
    server.answering.set()
    await asyncio.gather(first, patient)
    assert server.questions[1].keys == kept.lock_keys
    assert len(server.questions) == 2


async def test_one_who_has_little_time_gives_up_and_leaves_the_others_theirs() -> None:
    server = Server()
    replication = replication_of(server)
    first = asking(replication, *granted())
    await asked(server)
    patient = asking(replication, *granted("order:2"))
    hasty = asyncio.create_task(replication.confirm(*granted("order:3"), 0.05))
    late = asyncio.create_task(replication.confirm(*granted("order:4"), 0.0))
    async with asyncio.timeout(30):
        with pytest.raises(RedisUnavailable, match="order:4: no replica confirmed"):
            await late
    server.answering.set()
    await asyncio.gather(first, patient)
    await asyncio.gather(hasty, return_exceptions=True)
    # Of the five seconds of the patient one next to nothing is over.
    assert server.left[1] > 1.0


async def test_when_all_gave_up_the_next_is_served_as_ever() -> None:
    server = Server()
    replication = replication_of(server)
    first = asking(replication, *granted())
    await asked(server)
    doomed = asking(replication, *granted("order:2"))
    await asyncio.sleep(0)
    doomed.cancel()
    server.answering.set()
    await first
    await asyncio.sleep(0)
    assert len(server.questions) == 1
    await replication.confirm(*granted("order:3"), 5.0)


async def test_one_question_is_about_no_more_keys_than_one_script_renews() -> None:
    server = Server()
    replication = replication_of(server)
    first = asking(replication, *granted())
    await asked(server)
    many = [asking(replication, *granted(f"n:{i}")) for i in range(RENEWED_KEYS_MAX + 1)]
    await asyncio.sleep(0)
    server.answering.set()
    await asyncio.gather(first, *many)
    assert [len(each.keys) for each in server.questions] == [1, RENEWED_KEYS_MAX, 1]


@pytest.mark.parametrize(
    ("held", "seen", "said"),
    [
        (True, 0, "0 of 1 replicas confirmed the grant in time"),
        (False, 1, "the grant did not last"),
        (False, 0, "the grant did not last"),
    ],
)
async def test_what_is_not_confirmed_is_an_error(held: bool, seen: int, said: str) -> None:
    server = Server()
    server.held, server.seen = held, seen
    server.answering.set()
    with pytest.raises(RedisUnavailable, match=f"order:1: {said}"):
        await replication_of(server).confirm(*granted(), 5.0)


async def test_a_lease_counts_from_the_question_that_wrote_it_again() -> None:
    server = Server()
    server.answering.set()
    request, term = granted()
    before = term.deadline
    await asyncio.sleep(0.01)
    await replication_of(server).confirm(request, term, 5.0)
    assert term.deadline > before


@pytest.mark.parametrize("error", [RedisUnavailable("gone"), ConfigurationError("not allowed")])
async def test_everybody_is_told_why_it_could_not_be_asked(error: Exception) -> None:
    server = Server()
    server.error = error
    replication = replication_of(server)
    waiting = [asking(replication, *granted(f"order:{number}")) for number in (1, 2)]
    await asyncio.sleep(0)
    server.answering.set()
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert told == [error, error]


async def test_closing_tells_those_who_wait_and_those_who_have_not_asked_yet() -> None:
    server = Server()
    replication = replication_of(server)
    waiting = [asking(replication, *granted())]
    await asked(server)
    waiting.append(asking(replication, *granted("order:2")))
    await asyncio.sleep(0)
    await replication.close()
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(each) for each in told] == ["the client was closed"] * 2
    assert server.closed
