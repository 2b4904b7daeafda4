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
    """Run each promise on both loops; that its check can fail at all is shown on one."""
    asyncio_alone = {"asyncio": asyncio.new_event_loop}
    return asyncio_alone if "caught" in item.name else asyncio_alone | _LOOPS
