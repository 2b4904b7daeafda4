"""The promises hold on every event loop that people use."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

try:
    import uvloop
except ImportError:  # the library does not need it
    _LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {}
else:
    _LOOPS = {"uvloop": uvloop.new_event_loop}


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run each promise on both loops, but what has a loop of its own or none on one.

    That a check can fail at all is shown on one, too.
    """
    asyncio_alone = {"asyncio": asyncio.new_event_loop}
    once = any(
        word in item.name
        for word in ("caught", "blocking", "the_fake", "thousand", "semaphore_of_one")
    )
    return asyncio_alone if once else asyncio_alone | _LOOPS
