"""The slots of a Cluster: which a key lies in, and a hash tag that leads to each."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import count

from redis.crc import key_slot

from fencelock._protocol import FENCE_KEY, Command

SLOTS = 16384


@lru_cache(maxsize=65536)
def slot_of(key: str) -> int:
    """The slot that a key lies in."""
    return key_slot(key.encode())


def slot_of_command(command: Command) -> int:
    """The slot of all that a command touches."""
    keys = command.keys
    return slot_of(keys[1] if keys[0] == FENCE_KEY else keys[0])


def placed(command: Command) -> Command:
    """The command with the fence counter of its slot: there is one a slot, as scripts need."""
    keys = command.keys
    if keys[0] != FENCE_KEY:
        return command
    return command._replace(keys=(fence_key(slot_of(keys[1])), *keys[1:]))


def fence_key(slot: int) -> str:
    """Where the fence counter of a slot is."""
    return f"{FENCE_KEY}:{{{tag(slot)}}}"


def tag(slot: int) -> str:
    """The first short text that leads to a slot: the same in every process, found by trying."""
    while slot not in _tags:
        text = next(_texts)
        _tags.setdefault(slot_of.__wrapped__(text), text)
    return _tags[slot]


def _all_texts() -> Iterator[str]:
    for number in count():
        yield f"{number:x}"


_tags: dict[int, str] = {}
_texts = _all_texts()
