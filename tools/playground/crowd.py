"""Many clients at once on one order; they leave when the page that called them is closed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any, Final

from tools.playground.customers import Customers

MOST_CLIENTS: Final = 30
SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.2
NAMES: Final = ("order-a", "order-b")


class Crowd:
    """Clients that change one order again and again, for a minute at most."""

    def __init__(self, customers: Customers) -> None:
        """Describe it; nobody comes yet."""
        self._customers = customers
        self._task: asyncio.Task[None] | None = None
        self._page = ""
        self._clients = 0
        self._sent = 0

    @property
    def here(self) -> bool:
        """Whether clients are at work."""
        return self._task is not None and not self._task.done()

    def view(self) -> Mapping[str, Any]:
        """What the page shows."""
        return {"here": self.here, "clients": self._clients if self.here else 0, "sent": self._sent}

    async def once(self, order_id: str, *, clients: int) -> None:
        """Let each of some clients ask once, all at the same moment."""
        await asyncio.gather(*(self._ask(order_id, number) for number in range(clients)))

    def come(self, order_id: str, *, clients: int, page: str) -> None:
        """Let clients come again and again, until they are sent away, or a minute has passed."""
        self._page = page
        self._clients = clients
        self._sent = 0
        if not self.here:
            self._task = asyncio.create_task(self._work(order_id, clients))

    async def leave(self, page: str | None = None) -> None:
        """Send everybody away; with a page, only those that it called."""
        if self._task is None or (page is not None and page != self._page):
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self, order_id: str, clients: int) -> None:
        async def one(number: int) -> None:
            while True:
                await self._ask(order_id, number)
                await asyncio.sleep(PAUSE_SECONDS)

        try:
            async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
                for number in range(clients):
                    group.create_task(one(number))
        except TimeoutError:
            return

    async def _ask(self, order_id: str, number: int) -> None:
        self._sent += 1
        quantity = random.randint(1, 20)  # noqa: S311  (nothing secret about it)
        to = NAMES[number % len(NAMES)]
        await self._customers.update(order_id, quantity=quantity, to=to, who=f"Client {number + 1}")
