"""The slots of a Cluster: which a key lies in, and a hash tag that leads to each."""

from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from itertools import count

from redis.crc import key_slot

from fencelock._protocol import FENCE_KEY, Command, fence_key

SLOTS = 16384
# So many digits of a tag are looked up, and those before them counted through.
DIGITS = 3
NULS = "\0" * DIGITS


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
    return command._replace(keys=(fence_key(tag(slot_of(keys[1]))), *keys[1:]))


@lru_cache(maxsize=SLOTS)
def tag(slot: int) -> str:
    """The first hexadecimal number that leads to a slot: the same in every process."""
    return _shortest().get(slot) or next(_longer(slot))


def _longer(slot: int) -> Iterator[str]:
    """Numbers of more digits that lead to a slot.

    For some a third of a million would have to be tried. But of texts of one length, what stands
    before the last digits changes the slots that those lead to by an exclusive or.
    """
    for number in count(1):
        start = f"{number:x}"
        end = _last_digits().get(slot ^ key_slot(f"{start}{NULS}".encode()))
        if end is not None:
            yield start + end


def _first_to_each(texts: Iterable[str]) -> dict[int, str]:
    """Of the texts that lead to one slot the first."""
    found: dict[int, str] = {}
    for text in texts:
        found.setdefault(key_slot(text.encode()), text)
    return found


@cache
def _shortest() -> dict[int, str]:
    return _first_to_each(f"{number:x}" for number in range(16**DIGITS))


@cache
def _last_digits() -> dict[int, str]:
    return _first_to_each(f"{number:0{DIGITS}x}" for number in range(16**DIGITS))
