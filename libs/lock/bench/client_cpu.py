"""What a lock costs its own process: ``python -m libs.lock.bench.client_cpu``.

64 tasks lock and release 64 names over a connection whose other end is a few lines in the same
event loop that always agree, so neither a server nor a network nor other programs count: processor
time, the least of many short rounds. The limit of the benchmark goes through the same.
"""

import argparse
import asyncio
import re
import sys
import time
from typing import cast

from libs.lock.bench.bare import BareLink
from libs.lock.bench.contestants import Contestant, Fencelock, Limit

from fencelock._clock import now
from fencelock._connection import Connection
from fencelock._engine import Engine
from fencelock._link import Link
from fencelock._scripts import packaged

TASKS = 64
TIMES = 1
FENCE = b"$16\r\n1764157829123456\r\n"
GRANTED = b"*5\r\n$7\r\ngranted\r\n" + FENCE + b"$5\r\n10000\r\n" + FENCE + b"$1\r\n-\r\n"
FIT = b"%1\r\n$16\r\nmaxmemory-policy\r\n$10\r\nnoeviction\r\n"
Protocol = asyncio.Protocol | asyncio.BufferedProtocol


class Agreeing:
    """The other end: answers what it knows in the next turn of the loop."""

    def __init__(self, link: Protocol, answers: dict[bytes, bytes]) -> None:
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._answers = answers
        self._asked = re.compile(b"|".join(answers))
        self._out: list[bytes] = []

    def is_closing(self) -> bool:
        """It is always there."""
        return False

    def write(self, data: bytes) -> None:
        """Read commands."""
        if not self._out:
            self._loop.call_soon(self._answer)
        self._out += [self._answers[each] for each in self._asked.findall(data)]

    def _answer(self) -> None:
        out, self._out = self._out, []
        _receive(self._link, b"".join(out))


def _receive(link: Protocol, data: bytes) -> None:
    """Hand over what came, as an event loop does."""
    if isinstance(link, asyncio.Protocol):
        link.data_received(data)
        return
    while data:
        room = memoryview(link.get_buffer(len(data)))
        part = data[: len(room)]
        room[: len(part)] = part
        link.buffer_updated(len(part))
        data = data[len(part) :]


def _agree(link: Protocol, answers: dict[bytes, bytes]) -> None:
    """Connect a link to the one that agrees."""
    link.connection_made(cast("asyncio.BaseTransport", Agreeing(link, answers)))


def _ours(answers: dict[bytes, bytes]) -> Fencelock:
    """A client that believes to be connected."""
    made = Fencelock("redis://localhost")
    engine = made.client._engine()  # noqa: SLF001 (there is no server to connect to)
    connection = engine._connection if isinstance(engine, Engine) else None  # noqa: SLF001
    if not isinstance(connection, Connection):
        raise TypeError("not the client of one server")
    loop = asyncio.get_running_loop()
    link = Link(loop, reply_timeout=60.0, on_push=lambda _: None, on_lost=lambda _: None)
    _agree(link, answers)
    connection._fitness.settings_read({}, now())  # noqa: SLF001
    connection._link = link  # noqa: SLF001
    link.clock.read(now(), time.time())
    return made


def contestants() -> list[Contestant]:
    """The limit, and this library."""
    bare = {b"a" * 40: b":1\r\n", b"b" * 40: b":1\r\n"}
    link = BareLink(lambda _: None)
    _agree(link, bare)
    limit = Limit(link, "channel", ("a" * 40, "b" * 40))
    scripts = packaged()
    answers = {
        scripts.acquire.digest.encode(): GRANTED,
        scripts.release.digest.encode(): b":1\r\n",
        b"maxmemory": FIT,
    }
    return [limit, _ours(answers)]


async def measure(rounds: int) -> dict[str, float]:
    """Microseconds of processor time a pair."""
    made = contestants()
    least = {each.name: float("inf") for each in made}
    for _ in range(rounds):
        for each in made:
            began = time.process_time()
            await asyncio.gather(*[_often(each, f"bench:{index}") for index in range(TASKS)])
            took = (time.process_time() - began) / (TASKS * TIMES) * 1e6
            least[each.name] = min(least[each.name], took)
    return least


async def _often(contestant: Contestant, name: str) -> None:
    for _ in range(TIMES):
        async with contestant.hold(name):
            pass


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m libs.lock.bench.client_cpu", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=400, help="short rounds (default 400)")
    found = asyncio.run(measure(parser.parse_args().rounds))
    for name, micros in found.items():
        share = found["limit"] / micros
        sys.stdout.write(f"{name:14} {micros:6.1f} us a pair   {share:.2f} of limit\n")


if __name__ == "__main__":
    main()
