"""Re-entry: code that runs under a lock calls code that takes the same lock.

Who may re-enter is found through the context (`contextvars`), so that no lease has to be passed
down; but only the very task or thread that took the lock is let in again. A task that was started
under a lock inherits the context and runs beside its parent: it must wait like anybody else.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Generic, NamedTuple, Protocol, TypeVar

from fencelock import _names
from fencelock._errors import ConfigurationError, LeaseLost, NotOwner
from fencelock._kinds import Kind


class Held(Protocol):
    """What is asked of a lease that may be entered again."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names held."""

    @property
    def kind(self) -> Kind:
        """How they are held."""

    def check(self) -> None:
        """Raise unless it is held now."""


L = TypeVar("L", bound=Held)


class _Entry(NamedTuple):
    client: object
    runner: object
    lease: Held


_entered: ContextVar[tuple[_Entry, ...]] = ContextVar("fencelock_entered", default=())


class Reentry(Generic[L]):
    """What one lock, which may be entered again, wants."""

    def __init__(self, client: object, names: tuple[str, ...], kind: Kind) -> None:
        self._client = client
        self._bodies = {_names.body(name) for name in _names.normalise(names)}
        self._kind = kind

    def held(self) -> L | None:
        """The lease under which we run and that is enough; None if there is none.

        Raises:
            ConfigurationError: we hold a part of what is wanted, and would wait for ourselves.
            LeaseLost: the lease was lost.
        """
        for entry in self._own():
            common = self._bodies & _bodies(entry.lease)
            if not common or _is_over(entry.lease):
                continue
            if common == self._bodies and entry.lease.kind.covers(self._kind):
                return entry.lease  # type: ignore[return-value]  # this client made it
            raise ConfigurationError(
                f"{', '.join(sorted(common))}: held here as {entry.lease.kind}; who asks for "
                "more under it would wait for itself. Take it all in the outer block"
            )
        return None

    def enter(self, lease: L) -> None:
        """We run under a lease from now on."""
        _entered.set((*_entered.get(), _Entry(self._client, _runner(), lease)))

    def leave(self, lease: L) -> None:
        """We do not run under it any more."""
        _entered.set(tuple(each for each in _entered.get() if each.lease is not lease))

    def _own(self) -> Iterator[_Entry]:
        runner = _runner()
        for entry in _entered.get():
            if entry.client is self._client and entry.runner is runner:
                yield entry


def end_inner(lease: Held, exc: BaseException | None) -> None:
    """An inner block ends; it gives nothing back.

    Raises:
        LeaseLost: the lease was lost, and the block did not raise anything.
    """
    try:
        with contextlib.suppress(NotOwner):  # it was released early, which a block may do
            lease.check()
    except LeaseLost as lost:
        if exc is None:
            raise
        exc.add_note(str(lost))


def _is_over(lease: Held) -> bool:
    """Whether it was given back early. Raises :class:`LeaseLost` if it was lost."""
    try:
        lease.check()
    except NotOwner:
        return True
    return False


def _bodies(lease: Held) -> set[str]:
    return {_names.body(name) for name in lease.names}


def _runner() -> object:
    with contextlib.suppress(RuntimeError):  # no event loop runs in this thread
        return asyncio.current_task()
    return threading.current_thread()
