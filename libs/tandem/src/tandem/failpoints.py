"""Where tests make the protocol fail."""

from typing import Protocol


class Failpoints(Protocol):
    """The failpoints of a process."""

    async def hit(self, name: str) -> None:
        """Do what the failpoint is armed with, if it is."""
        ...


class NoFailpoints:
    """Failpoints of which none is ever armed."""

    async def hit(self, name: str) -> None:
        """Do nothing."""
