"""Values that every line of the log carries while one piece of work is done.

structlog's own keep each value in a context variable, which is looked for among all there are, for
every request and every line.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from structlog.typing import EventDict, WrappedLogger

_values: Final[ContextVar[dict[str, str] | None]] = ContextVar("servicekit_log", default=None)


def begin() -> None:
    """Forget what was bound before, and let what tasks of this one bind be seen here."""
    _values.set({})


def bind(**values: str) -> None:
    """Add values to the lines of the present work."""
    present = _values.get()
    if present is None:
        _values.set(dict(values))
    else:
        present.update(values)


@contextmanager
def bound(**values: str) -> Iterator[None]:
    """Add values to the lines that are written inside the ``with``."""
    token = _values.set({**(_values.get() or {}), **values})
    try:
        yield
    finally:
        _values.reset(token)


def merge(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add what is bound to an event that does not say otherwise; a processor of structlog."""
    present = _values.get()
    return {**present, **event} if present else event
