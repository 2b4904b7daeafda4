"""Load from inside the cluster, through the Service, as the shop's customers bring it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.e2e.harness import load
from tests.e2e.harness.namespace import Namespace
from tests.e2e.harness.runner import running
from tests.e2e.harness.waiting import eventually

LIMIT_SECONDS: Final = 600
END_SECONDS: Final = 90
MORE_SECONDS: Final = 180

log = logging.getLogger(__name__)


@dataclass
class Load:
    """The load of one pod, and what became of it so far."""

    namespace: Namespace
    pod: str
    result: dict[str, Any] = field(default_factory=dict)

    def wait_more(self, successes: int, *, timeout_seconds: float = MORE_SECONDS) -> None:
        """Wait until so many more requests have succeeded than had so far."""
        enough = self.succeeded() + successes
        eventually(
            self.succeeded,
            until=lambda seen: seen >= enough,
            what=f"{successes} more successful requests",
            timeout_seconds=timeout_seconds,
        )

    def wait_kept_alive(self, count: int, *, timeout_seconds: float = MORE_SECONDS) -> None:
        """Wait until so many requests in all were sent over connections that are kept."""
        eventually(
            lambda: self._told().get("kept_alive", 0),
            until=lambda seen: seen >= count,
            what=f"{count} requests over kept connections",
            timeout_seconds=timeout_seconds,
        )

    def succeeded(self) -> int:
        """How many requests have succeeded so far."""
        count: int = self._told().get("outcomes", {}).get("ok", 0)
        return count

    def _told(self) -> dict[str, Any]:
        """What the load has said last."""
        lines = self.namespace.logs(self.pod, lines=1).splitlines()
        told: dict[str, Any] = json.loads(lines[-1]) if lines else {}
        return told

    def stop(self) -> None:
        """Let the requests in flight finish, and keep the final count."""
        self.namespace.exec(self.pod, "python", "-c", "import os; os.kill(1, 15)")
        ended = eventually(
            lambda: load.read_final(self.namespace.logs(self.pod).splitlines()),
            what="the end of the load",
            timeout_seconds=END_SECONDS,
        )
        assert ended is not None
        self.result = ended
        shown = {key: value for key, value in self.result.items() if key != "orders"}
        log.info("load: %s", shown)


@contextmanager
def under_load(
    namespace: Namespace, *, url: str, image: str, workers: int, successes: int = 50
) -> Iterator[Load]:
    """Load a service while the context lasts; it begins once the load has really begun.

    Args:
        namespace: Where the load's pod runs.
        url: The order service, as a pod reaches it.
        image: Has Python and httpx.
        workers: How many customers there are at once.
        successes: Requests that succeed before the context begins, and after it has ended.
    """
    program = Path(load.__file__).read_text()
    options = {"--url": url, "--workers": workers, "--limit-seconds": LIMIT_SECONDS}
    command = ["python", "-c", program, *(str(each) for pair in options.items() for each in pair)]
    with running(namespace, "load", image=image, command=command) as pod:
        load_now = Load(namespace, pod)
        load_now.wait_more(successes)
        yield load_now
        load_now.wait_more(successes)
        load_now.stop()
