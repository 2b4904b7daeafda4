"""Waiting for what the cluster brings about in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(
    look: Callable[[], T],
    *,
    until: Callable[[T], bool] = bool,
    what: str,
    timeout_seconds: float,
    every_seconds: float = 0.5,
) -> T:
    """Look again and again until what is seen will do, and return it.

    Args:
        look: Reads the present state.
        until: Tells whether that state is the one waited for.
        what: Names the state, for the message.
        timeout_seconds: How long to go on looking.
        every_seconds: The pause between two looks.

    Raises:
        TimeoutError: It was not so in time; says what was seen last.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        seen = look()
        if until(seen):
            return seen
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{what}: not in {timeout_seconds} s; last seen: {seen!r}")
        time.sleep(every_seconds)
