"""Lock names: what is allowed, which Cluster slot they live in, which class they belong to."""

import re
from collections.abc import Iterable
from functools import lru_cache

from redis.crc import key_slot

from fencelock._errors import CrossSlot, InvalidName
from fencelock._shown import shown

OTHER_CLASS = "other"
MAX_NAME_LENGTH = 256
# What one script does stays below a few milliseconds, and a ticket below 256 KiB.
MAX_NAMES = 1000
_SLOTS_SHOWN = 4
# Printable ASCII without white space: names become fields of space-separated records in Redis.
# At most one pair of braces, the Cluster hash tag, and it is not empty.
_NAME = re.compile(r"[!-z|~]*(?:\{[!-z|~]+\}[!-z|~]*)?")


def normalise(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names sorted and without duplicates; ``x`` and ``{x}`` are one name.

    Raises:
        InvalidName: no name at all, too many, or one outside the rules.
        CrossSlot: the names would live on different nodes of a Redis Cluster.
    """
    given = names if type(names) is tuple else _listed(names)
    if len(given) > _REMEMBERED_NAMES:
        return _normalise(given)
    try:
        return _normalised(given)
    except TypeError:  # what cannot be looked up is no name either
        return _normalise(given)


def _listed(names: object) -> tuple[str, ...]:
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise InvalidName(f"{shown(names)}: names are a list of str, even if it is one name")
    return tuple(names)


# A few megabytes at most, whatever the names are.
_REMEMBERED = 1024
_REMEMBERED_NAMES = 8


def _normalise(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not isinstance(name, str):
            raise InvalidName(f"{shown(name)}: a lock name is a str")
    chosen = tuple(sorted(set(names)))
    if not chosen:
        raise InvalidName("a lock needs at least one name")
    if len(chosen) > MAX_NAMES:
        raise InvalidName(f"{len(chosen)} names: one lock has {MAX_NAMES} at most")
    for name in chosen:
        _validate(name)
    if len(chosen) > 1:
        chosen = tuple(sorted({body(name): name for name in reversed(chosen)}.values()))
        _require_one_slot(chosen)
    return chosen


_normalised = lru_cache(_REMEMBERED)(_normalise)


def body(name: str) -> str:
    """What every Redis key of ``name`` ends with: it always has a Cluster hash tag."""
    return name if "{" in name else "{" + name + "}"


def lock_class(name: str) -> str:
    """What kind of thing the name locks: the part before the first ``:``.

    ``other`` if there is no such part, or it has a hash tag: whole names are no classes.
    """
    kind, colon, _ = name.partition(":")
    return kind if colon and kind and "{" not in kind else OTHER_CLASS


def _validate(name: str) -> None:
    if not 0 < len(name) <= MAX_NAME_LENGTH or not _NAME.fullmatch(name):
        raise InvalidName(
            f"{shown(name)}: a lock name is 1 to {MAX_NAME_LENGTH} printable ASCII characters "
            "without spaces; one pair of braces may mark the Cluster hash tag, and must not be "
            "empty"
        )


def _require_one_slot(names: tuple[str, ...]) -> None:
    slots = {name: key_slot(body(name).encode()) for name in names}
    if len(set(slots.values())) == 1:
        return
    some = list(slots.items())[:_SLOTS_SHOWN]
    where = ", ".join(f"{name} in slot {slot}" for name, slot in some)
    if len(slots) > len(some):
        where += f", and {len(slots) - len(some)} more"
    example = " and ".join(f"{name.partition(':')[0]}:{{42}}" for name in names[:2])
    raise CrossSlot(
        f"one lock, several Cluster slots ({where}). Give the names a common hash tag in braces, "
        f"for example {example}"
    )
