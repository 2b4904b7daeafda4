"""The scripts go short ways in the usual cases. They leave the server as the long way does.

The same steps are done twice, in two databases of one server: with the scripts as they are, and
with each short way closed. What is stored, answered and told must be the same but for times.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from devkit.servers import RedisServer
from fencelock._scripts import Script, assemble, source

# So long that nothing expires while the steps are done, however busy the machine is.
LONG_MS = "600000"
_TIME = re.compile(r"\b\d{15,}\b")

# What is replaced in which file.
Changes = dict[str, list[tuple[str, str]]]

# The condition of each, and what it is where the way is closed.
SHORT_WAYS: Changes = {
    "acquire": [
        ("if not limit and redis.call('EXISTS', unpack(KEYS, 2)) == 0 then", "if false then"),
        ("if count == 1 and not limit and mode ~= 'again' then", "if false then"),
    ],
    "release": [
        ("if line == false then", "if false then"),
        ("if released == 1 and count == 1 then", "if false then"),
    ],
    "grant": [("redis.call('HLEN', clients) > 1 and", "true and")],
}
# A grant to somebody who does not listen lasts, too.
_LASTING = ("grant", "local RECONNECT_MS = 300", f"local RECONNECT_MS = {LONG_MS}")
# Who does not listen here is one of three.
CLIENTS = ("listening1", "listening2", "deafclient")
NAMES = (("{a}",), ("b{a}",), ("{a}", "b{a}"))


def scripts(changes: Changes) -> tuple[Script, Script]:
    """Acquire and release with something replaced in the files that they are made of."""

    def read(name: str) -> str:
        text = source(name)
        if name == _LASTING[0]:
            text = text.replace(_LASTING[1], _LASTING[2])
        for old, new in changes.get(name, []):
            assert text.count(old) == 1, f"{old!r} is not in {name}.lua once"
            text = text.replace(old, new)
        return text

    made = assemble(read)
    return made.acquire, made.release


class Step(NamedTuple):
    """Something that a client does, or that happens to it."""

    what: str
    who: int
    names: tuple[str, ...]
    limit: str
    """Empty for an exclusive lock."""


class World:
    """One database, and the scripts that are run in it."""

    def __init__(self, url: str, db: int, made: tuple[Script, Script]) -> None:
        own = f"{url.rpartition('/')[0]}/{db}"
        self.redis: Any = redis.Redis.from_url(own, decode_responses=True)
        self._acquire, self._release = made
        self._since: dict[tuple[str, tuple[str, ...], str], str] = {}

    def do(self, step: Step) -> Any:
        """Do it; the answer."""
        owner = f"{CLIENTS[step.who % 3]}.owner{step.who}"
        names, claim = step.names, f"{LONG_MS}/{step.limit}" if step.limit else LONG_MS
        keys = ["fencelock:fence", *[f"fencelock:{kind}:{each}" for kind in "lq" for each in names]]
        mine = (owner, names, claim)
        if step.what in ("try", "queue", "again"):
            since = self._since.get(mine, "") if step.what == "again" else ""
            args = [owner, LONG_MS, claim, "-", step.what, LONG_MS, since, "0"]
            reply: Any = self.redis.eval(self._acquire.text, len(keys), *keys, *args)
            self._since[mine] = str(reply[1])
            return [reply[0], reply[4]]
        if step.what == "expire":
            return self.redis.delete(f"fencelock:l:{names[0]}")
        ticket = ""
        if step.what == "withdraw":
            ticket = " ".join([owner, self._since.get(mine, "0"), claim, "-", *names])
        elif step.what == "search":
            ticket = "?"
        return self.redis.eval(self._release.text, len(keys), *keys, owner, ticket)

    def state(self) -> dict[str, Any]:
        """All that is stored but for times; and whether it ends by itself."""
        read = {
            "string": self.redis.get,
            "list": lambda key: self.redis.lrange(key, 0, -1),
            "hash": self.redis.hgetall,
            "zset": lambda key: sorted(self.redis.zrange(key, 0, -1)),
        }
        found = {}
        for key in sorted(self.redis.scan_iter("*")):
            value = read[self.redis.type(key)](key)
            found[key] = (_TIME.sub("T", str(value)), self.redis.pttl(key) > 0)
        return found


class Ears:
    """The two clients that listen."""

    def __init__(self, url: str) -> None:
        self._redis: Any = redis.Redis.from_url(url, decode_responses=True)
        self._pubsub = self._redis.pubsub()  # type: ignore[no-untyped-call]
        self._pubsub.subscribe(*[f"fencelock:c:{each}" for each in CLIENTS[:2]])
        for _ in range(2):
            assert self._pubsub.get_message(timeout=5) is not None

    def close(self) -> None:
        """Listen no more."""
        self._pubsub.close()
        self._redis.close()

    def told(self, admin: Any) -> list[str]:
        """What they were told until now, in the order of the alphabet, but for times."""
        admin.publish(f"fencelock:c:{CLIENTS[0]}", "that is all")
        heard: list[str] = []
        while True:
            message = self._pubsub.get_message(timeout=5)
            assert message is not None
            if message["data"] == "that is all":
                return sorted(heard)
            heard.append(f"{message['channel']} {_TIME.sub('T', message['data'])}")


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from(
            ["queue"] * 4 + ["release"] * 4 + ["try", "again", "withdraw", "search", "expire"]
        ),
        st.integers(0, 5),
        st.sampled_from(NAMES + NAMES[:1] * 4),
        st.sampled_from([""] * 6 + ["0", "2"]),
    ),
    max_size=25,
)


@pytest.fixture
def url(redis_server: RedisServer) -> str:
    return redis_server.url


@pytest.fixture
def ears(url: str) -> Iterator[Ears]:
    listening = Ears(url)
    yield listening
    listening.close()


def compare(url: str, ears: Ears, done: list[Step], made: tuple[Script, Script]) -> None:
    """Raise unless both ways answer, store and tell the same after each step."""
    short, long = World(url, 1, made), World(url, 2, scripts(SHORT_WAYS))
    for each in (short, long):
        each.redis.flushdb()
    for step in done:
        answers, told, states = [], [], []
        for world in (short, long):
            answers.append(world.do(step))
            told.append(ears.told(world.redis))
            states.append(world.state())
        assert answers[0] == answers[1], step
        assert told[0] == told[1], step
        assert states[0] == states[1], step


def test_a_short_way_leaves_and_tells_what_the_long_way_does(url: str, ears: Ears) -> None:
    @settings(max_examples=100, derandomize=True, database=None)
    @given(done=steps)
    def whatever(done: list[Step]) -> None:
        compare(url, ears, done, scripts({}))

    whatever()


A, B, AB = NAMES
STORIES = {
    "asked twice": [Step("queue", 0, A, ""), Step("try", 0, A, "")],
    "three in line": [Step("queue", who, A, "") for who in (0, 1, 3)]
    + [Step("release", who, A, "") for who in (0, 1, 3)],
    "the next shares": [
        *[Step("queue", 0, A, ""), Step("queue", 1, A, "0"), Step("queue", 4, A, "0")],
        *[Step("release", 0, A, ""), Step("release", 1, A, "0")],
    ],
    "the next waits for more": [
        *[Step("queue", 0, A, ""), Step("queue", 3, B, ""), Step("queue", 1, AB, "")],
        *[Step("release", 0, A, ""), Step("release", 3, B, "")],
    ],
    "the next was frozen": [
        *[Step("queue", who, A, "") for who in (0, 1, 3, 4)],
        # It was granted to 1 and lapsed, which the next finds who asks: 4 is of the same client.
        *[Step("release", 0, A, ""), Step("expire", 1, A, ""), Step("try", 2, A, "")],
        Step("release", 3, A, ""),
    ],
    "the next was frozen and is back": [
        *[Step("queue", who, A, "") for who in (0, 1, 3, 4)],
        *[Step("release", 0, A, ""), Step("expire", 1, A, ""), Step("try", 2, A, "")],
        *[Step("queue", 1, A, ""), Step("release", 3, A, "")],
    ],
}


@pytest.mark.parametrize("story", STORIES)
def test_a_story_ends_the_same_both_ways(url: str, ears: Ears, story: str) -> None:
    compare(url, ears, STORIES[story], scripts({}))


@pytest.mark.parametrize(
    ("story", "change"),
    [
        (
            "three in line",
            ("acquire", "redis.call('EXISTS', unpack(KEYS, 2)) == 0 then", "true then"),
        ),
        ("asked twice", ("acquire", "and not owned(value, owner) then", "then")),
        ("the next was frozen and is back", ("acquire", "client, 1) > 1", "client, 1) > 99")),
        ("three in line", ("release", "left(body, client_of(owner), 1)", "")),
        ("three in line", ("release", "redis.call('DEL', KEYS[2], CLIENTS .. body)", "")),
        ("the next shares", ("release", "and not coming.limit", "")),
        ("the next waits for more", ("release", "and #coming.bodies == 1", "")),
        ("the next was frozen", ("release", "and not is_absent(body, coming.client)", "")),
        ("the next was frozen", ("grant", "redis.call('HLEN', clients) > 1", "false")),
    ],
)
def test_a_short_way_that_forgets_something_is_caught(
    url: str, ears: Ears, story: str, change: tuple[str, str, str]
) -> None:
    name, old, new = change
    with pytest.raises(AssertionError):
        compare(url, ears, STORIES[story], scripts({name: [(old, new)]}))
