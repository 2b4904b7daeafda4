"""Fixtures for pytest, there wherever fencelock is installed.

A module of its own, so that pytest does not load fencelock before a test uses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fencelock import LockClient
    from fencelock.testing import FakeLockClient, FakeServer


@pytest.fixture
def fake_lock_server() -> FakeServer:
    """A lock server in memory, whose time stands still until ``.clock.advance(seconds)``."""
    from fencelock.testing import FakeServer  # noqa: PLC0415

    return FakeServer()


@pytest.fixture
def fake_lock_client(fake_lock_server: FakeServer) -> FakeLockClient:
    """An asyncio client of ``fake_lock_server``."""
    return fake_lock_server.client()


@pytest.fixture
def fake_blocking_lock_client(fake_lock_server: FakeServer) -> Iterator[LockClient]:
    """A client of ``fake_lock_server`` for threads."""
    with fake_lock_server.blocking_client() as client:
        yield client
