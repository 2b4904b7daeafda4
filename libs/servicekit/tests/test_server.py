"""What a process does around its server."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI

from servicekit import server
from servicekit.failpoints import Failpoints
from servicekit.runtime import Runtime
from servicekit.settings import ServerSettings


@pytest.fixture
def collector() -> Iterator[None]:
    """Sets the garbage collector back."""
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


@pytest.mark.usefixtures("collector")
def test_who_serves_does_not_go_through_all_that_it_is_made_of_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left: list[int] = []

    def serve(self: server.DrainingServer, **_: Any) -> None:
        left.append(len(gc.get_objects()))

    monkeypatch.setattr(server.DrainingServer, "run", serve)
    runtime = Runtime.bare(service="test", failpoints=Failpoints([]))
    settings = ServerSettings.model_validate(
        {"port": 0, "metrics_port": 0, "request_timeout_seconds": 1}
    )
    assert server.run(FastAPI(), runtime=runtime, settings=settings) == 0
    assert left[0] < 1000 < gc.get_freeze_count()
