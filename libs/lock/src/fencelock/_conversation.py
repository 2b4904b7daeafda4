"""A short talk with a server that knows where others are: a Sentinel, or a node of a Cluster."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import hiredis

from fencelock._attempt import Attempt
from fencelock._errors import ConfigurationError, RedisUnavailable
from fencelock._link import Link
from fencelock._target import Target

# How long one server may take to answer; one that is gone must not hold up the others.
ASK_SECONDS = 0.5
T = TypeVar("T")
_REFUSED = ("NOAUTH", "WRONGPASS", "NOPERM", "ERR AUTH", "NOPROTO", "ERR unknown")


class Partner(NamedTuple):
    """Whom one talks to."""

    what: str
    """What people call such a server; nothing if it keeps locks."""
    mode: bytes | None
    """What it must say that it is; None if that does not matter."""
    hint: str
    """What to do when it refuses us."""

    def name(self, address: Target) -> str:
        """What to call one of them."""
        return f"{self.what} {address}".lstrip()


@asynccontextmanager
async def conversation(
    address: Target,
    partner: Partner,
    on_push: Callable[[object], None] = lambda _: None,
    *,
    seconds: float = ASK_SECONDS,
) -> AsyncIterator[Link]:
    """An open connection; to make it, and each reply, takes as many seconds at most.

    Raises:
        RedisUnavailable: it cannot be reached, or broke.
        ConfigurationError: it refuses us, or is something else.
    """
    loop = asyncio.get_running_loop()

    def make() -> Link:
        return Link(loop, reply_timeout=seconds, on_push=on_push, on_lost=lambda _: None)

    attempt = Attempt(address, make, name=partner.name(address))
    try:
        async with asyncio.timeout(seconds):
            link = await attempt.connect()
    except (OSError, TimeoutError, UnicodeError) as error:
        raise attempt.failed(error, seconds) from error
    try:
        try:
            greeted = await link.send(address.hello)
        except RedisUnavailable as error:
            raise attempt.failed(error, seconds) from error
        reply = accept(partner, address, greeted)
        said = reply.get(b"mode") if isinstance(reply, dict) else None
        if isinstance(said, bytes) and partner.mode not in (None, said):
            mode = said.decode("ascii", "replace")
            raise ConfigurationError(f"{address} is no {partner.what}: it runs in {mode} mode")
        yield link
    finally:
        link.abort("asked enough")


def accept(partner: Partner, address: Target, reply: object) -> object:
    """The reply, unless it is an error."""
    if not isinstance(reply, hiredis.ReplyError):
        return reply
    text = str(reply)
    if text.startswith(_REFUSED):
        raise ConfigurationError(f"{partner.name(address)} refuses us: {text}. {partner.hint}")
    raise RedisUnavailable(f"{partner.name(address)}: {text}")


async def ask_all(asking: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Talk with several at once: the answers of a majority, or of those that answer in time.

    Raises:
        RedisUnavailable: nobody answered.
        ConfigurationError: nobody did, and one refuses us or is something else.
    """
    asked = [asyncio.ensure_future(each) for each in asking]
    answers: list[T] = []
    errors: list[Exception] = []
    try:
        for answer in asyncio.as_completed(asked):
            try:
                answers.append(await answer)
            except (RedisUnavailable, ConfigurationError) as error:
                errors.append(error)
            if len(answers) > len(asked) // 2:
                break
    finally:
        for each in asked:
            each.cancel()
        await asyncio.wait(asked)
    if not answers:
        refused = [each for each in errors if isinstance(each, ConfigurationError)]
        raise (refused or errors)[0]
    return answers
