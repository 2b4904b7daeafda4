"""Structured logs: one JSON line an event, or colours on a terminal; never a secret.

``configure`` is called once by the composition root. Afterwards ``structlog.get_logger()`` and the
standard library's loggers (uvicorn, SQLAlchemy, Alembic) write in the same form. Our own events do
not go through the standard library, whose records cost more than everything else about a line.
"""

import json
import logging
import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from threading import Lock
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from servicekit import log_context
from servicekit.settings import LogFormat, LogLevel
from servicekit.trace_ids import current_ids

REDACTED = "[redacted]"
_SECRET_KEY = re.compile(
    r"pass(word|wd)?$|secret|authorization|cookie|api_?key|(^|[_-])(token|proof|dsn)$",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s@/]+@", re.IGNORECASE)
_KEYWORD_PASSWORD = re.compile(r"\b(password\s*=\s*)('[^']*'|\S+)", re.IGNORECASE)


def configure(
    *,
    service: str,
    level: LogLevel = "info",
    form: LogFormat = "auto",
    stream: TextIO | None = None,
) -> None:
    """Send every event of this process to ``stream`` (standard output by default).

    Args:
        service: the name every line carries.
        level: the least severe events to write.
        form: ``json``, ``console``, or ``auto`` for colours on a terminal and JSON elsewhere.
        stream: where to write.
    """
    target = sys.stdout if stream is None else stream
    console = form == "console" or (form == "auto" and target.isatty())
    tail = _console_tail() if console else _json_tail()
    lines = _Lines(target)
    structlog.configure(
        processors=[
            log_context.merge,
            structlog.processors.add_log_level,
            _add_logger_name,
            *_shared(service),
            *tail,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lines.logger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(lines)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                log_context.merge,
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                *_shared(service),
                structlog.stdlib.ExtraAdder(),
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    _quieten()


def _shared(service: str) -> list[Processor]:
    return [
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        _ServiceName(service),
        _add_trace,
        structlog.processors.StackInfoRenderer(),
    ]


class _Lines:
    """The stream that all lines go to, one at a time whatever thread they come from."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = Lock()

    def write(self, text: str) -> None:
        """Write ``text``, which ends in a line feed."""
        with self._lock:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                # What a client sent need not be text, nor a terminal show all that is.
                shown, encoding = text.encode("utf-8", "backslashreplace"), self._stream.encoding
                self._stream.write(shown.decode().encode(encoding, "replace").decode(encoding))
            self._stream.flush()

    def flush(self) -> None:
        """Do nothing: each line is flushed."""

    def logger(self, name: str = "") -> "_Logger":
        """Return what structlog writes to."""
        return _Logger(self, name)


class _Logger:
    """The end of structlog's chain."""

    def __init__(self, lines: _Lines, name: str) -> None:
        self.name = name
        self._lines = lines

    def msg(self, message: str) -> None:
        """Write one line; a stream that is gone must not fail the request that is told about."""
        try:
            self._lines.write(message + "\n")
        except (OSError, ValueError) as error:
            print(f"a line of the log was lost: {error}", file=sys.stderr)  # noqa: T201 - the last resort

    debug = info = warning = error = critical = exception = msg


def _add_logger_name(logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if logger.name:
        event["logger"] = logger.name
    return event


def _json_tail() -> list[Processor]:
    return [structlog.processors.format_exc_info, _rename_level, redact_secrets, _as_json]


# Made once: `json.dumps` makes one for each call that asks for anything special.
_encode = json.JSONEncoder(default=str, ensure_ascii=False).encode


def _as_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return _encode(event)


def _console_tail() -> list[Processor]:
    # The pretty traceback shows every local variable: secrets among them, and it takes seconds.
    renderer = structlog.dev.ConsoleRenderer(
        colors=True, exception_formatter=structlog.dev.plain_traceback
    )
    return [redact_secrets, _escape_controls, renderer]


# C0, DEL and C1: what a terminal obeys. Line ends and tabs of tracebacks stay as they are.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def _escape_controls(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Show control characters instead of letting a terminal obey what a client has sent."""
    return {_escaped(str(key)): _visible(key, value) for key, value in event.items()}


def _visible(key: str, value: object) -> object:
    if not isinstance(value, str):
        # The renderer shows these by repr, which escapes.
        return value
    if key not in {"exception", "stack"}:
        value = value.replace("\n", "\\n").replace("\t", "\\t")
    return _escaped(value)


def _escaped(text: str) -> str:
    return _CONTROLS.sub(lambda match: ascii(match[0])[1:-1], text)


def _quieten() -> None:
    """Keep libraries from writing in sentences what our own events say already."""
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("uvicorn.access").disabled = True
    for name in ("httpx", "httpcore", "aiohttp", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # A warning each for requests that are no HTTP: we count those.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


class _ServiceName:
    """Adds the service's name to each event."""

    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = self._service
        return event


def _add_trace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    trace_id, span_id = current_ids()
    if trace_id is not None:
        event["trace_id"] = trace_id
    if span_id is not None:
        event["span_id"] = span_id
    return event


def _rename_level(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["severity"] = event.pop("level", "info")
    return event


def redact_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace values of secret-sounding keys and passwords inside URLs, at any depth."""
    for key, value in event.items():
        event[key] = _clean(key, value)
    return event


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def _clean(key: str, value: object) -> object:
    if _is_secret(key):
        return REDACTED
    if isinstance(value, str):
        # Nearly no text has either, and to look for a character is cheap.
        if "@" in value:
            value = _URL_PASSWORD.sub(rf"\g<scheme>:{REDACTED}@", value)
        return _KEYWORD_PASSWORD.sub(rf"\1{REDACTED}", value) if "=" in value else value
    if isinstance(value, Mapping):
        return {name: _clean(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean("", inner) for inner in value]
    return value
