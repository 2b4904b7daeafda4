"""What goes wrong between the services and their databases while requests are made."""

import random
import threading
from types import TracebackType
from typing import Self

from devkit.database_proxy import DatabaseProxy, Loss

_PAUSE_SECONDS = (0.1, 0.5)
_DARK_SECONDS = (0.05, 0.5)
_DARK_CHANCE = 0.08
# A connection that stays open and silent is the rarest of losses, and each holds one for a while.
_LOSSES = (
    (Loss.REPLY_CUT,) * 8
    + (Loss.REQUEST_CUT,) * 8
    + (Loss.REPLY_SILENT,)
    + (Loss.REQUEST_LATE,) * 2
)
_DELIVERY_CHANCE = 0.05


class Weather:
    """Loses COMMITs and lets databases go silent, until its end."""

    def __init__(self, proxies: dict[str, DatabaseProxy], *, seed: int) -> None:
        self._proxies = proxies
        self._dice = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.nights = 0
        """How often a database went silent."""

    @property
    def lost(self) -> int:
        """How many COMMITs, or their replies, were lost."""
        return sum(proxy.lost for proxy in self._proxies.values())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        for proxy in self._proxies.values():
            proxy.forget()
            proxy.deliver()
            proxy.go_dark(dark=False)

    def _run(self) -> None:
        while not self._over.wait(self._dice.uniform(*_PAUSE_SECONDS)):
            proxy = self._dice.choice(list(self._proxies.values()))
            if self._dice.random() < _DELIVERY_CHANCE:
                proxy.deliver()
            if self._dice.random() < _DARK_CHANCE:
                self.nights += 1
                proxy.go_dark()
                self._over.wait(self._dice.uniform(*_DARK_SECONDS))
                proxy.go_dark(dark=False)
            else:
                proxy.lose(self._dice.choice(_LOSSES))
