"""Spans of Postgres that say what they are about: ``UPDATE orders``, ``COMMIT``.

The instrumentation of psycopg names a span by the first word of its statement, makes one for each
ping of the pool and none for a commit, which is where a transaction may wait for the disk.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import psycopg
import wrapt
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.instrumentation.utils import unwrap
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.semconv.attributes import db_attributes as db
from opentelemetry.semconv.attributes import server_attributes as server
from opentelemetry.trace import SpanKind, Tracer
from psycopg.pq import TransactionStatus

# What psycopg sends to see whether a connection still works.
_PINGS: Final = frozenset({"", ";"})
_TABLE: Final = r'"?(?P<table>[a-z_][a-z0-9_.]*)"?'
# A statement that changes something is about that, whatever it reads besides. Not meant are
# `FOR UPDATE` and `DO UPDATE`, which are clauses.
_CHANGE: Final = re.compile(
    r"\b(?:(?P<insert>INSERT)\s+INTO|(?P<delete>DELETE)\s+FROM"
    r"|(?<!FOR )(?<!DO )(?P<update>UPDATE))"
    rf"\s+(?:ONLY\s+)?{_TABLE}",
    re.IGNORECASE,
)
_READ: Final = re.compile(rf"\bFROM\s+{_TABLE}(?![\w.(])", re.IGNORECASE)

_OPEN: Final = (TransactionStatus.INTRANS, TransactionStatus.INERROR)
_CONNECT: Final = vars(psycopg.AsyncConnection)["connect"]


def is_ping(span: ReadableSpan) -> bool:
    """Tell whether a span is one of Postgres that asks for nothing."""
    attributes = span.attributes or {}
    if db.DB_QUERY_TEXT not in attributes:
        return False
    return str(attributes[db.DB_QUERY_TEXT]).strip() in _PINGS


def subject(statement: str) -> tuple[str, str]:
    """Return a statement's operation and its table; ``""`` for one without."""
    if changed := _CHANGE.search(statement):
        operation = changed["insert"] or changed["update"] or changed["delete"]
        return operation.upper(), changed["table"]
    words = statement.split(maxsplit=1)
    operation = words[0].upper().rstrip(";") if words else ""
    if operation == "WITH":
        operation = "SELECT"
    read = _READ.search(statement) if operation == "SELECT" else None
    return operation, read["table"] if read else ""


class NamedStatements(SpanExporter):
    """Gives the spans of statements their names, on their way out and off the request's path."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send the spans on."""
        return self._exporter.export([_named(span) for span in spans])

    def shutdown(self) -> None:
        """Stop the exporter."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Send what the exporter still has; give up after ``timeout_millis``."""
        return self._exporter.force_flush(timeout_millis)


def _named(span: ReadableSpan) -> ReadableSpan:
    attributes = span.attributes or {}
    statement = attributes.get(db.DB_QUERY_TEXT)
    if not isinstance(statement, str):
        return span
    operation, table = subject(statement)
    summary = f"{operation} {table}".strip()
    more = {db.DB_OPERATION_NAME: operation, db.DB_QUERY_SUMMARY: summary}
    if table:
        more[db.DB_COLLECTION_NAME] = table
    return ReadableSpan(
        name=summary,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes={**attributes, **more},
        events=span.events,
        links=span.links,
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def trace_statements(provider: TracerProvider) -> None:
    """Make a span of every statement of psycopg's cursors in this process."""
    PsycopgInstrumentor().instrument(tracer_provider=provider, skip_dep_check=True)


def untrace_statements() -> None:
    """Undo :func:`trace_statements`."""
    PsycopgInstrumentor().uninstrument()
    # It leaves a method that makes connections of that class whichever subclass is asked for one.
    setattr(psycopg.AsyncConnection, "connect", _CONNECT)  # noqa: B010 - typed as a method


def trace_commits(tracer: Tracer) -> None:
    """Make a span of every commit of psycopg's async connections in this process."""

    def commit(
        wrapped: Callable[[], Awaitable[None]],
        connection: psycopg.AsyncConnection[Any],
        _args: object,
        _kwargs: object,
    ) -> Awaitable[None]:
        if connection.info.transaction_status not in _OPEN:
            return wrapped()  # nothing is sent
        return _traced_commit(tracer, connection, wrapped)

    wrapt.wrap_function_wrapper(psycopg, "AsyncConnection.commit", commit)


async def _traced_commit(
    tracer: Tracer,
    connection: psycopg.AsyncConnection[Any],
    commit: Callable[[], Awaitable[None]],
) -> None:
    info = connection.info
    attributes: dict[str, str | int] = {
        db.DB_SYSTEM_NAME: db.DbSystemNameValues.POSTGRESQL.value,
        db.DB_NAMESPACE: info.dbname,
        db.DB_OPERATION_NAME: "COMMIT",
        server.SERVER_ADDRESS: info.host,
        server.SERVER_PORT: info.port,
    }
    with tracer.start_as_current_span("COMMIT", kind=SpanKind.CLIENT, attributes=attributes):
        await commit()


def untrace_commits() -> None:
    """Undo :func:`trace_commits`."""
    unwrap(psycopg.AsyncConnection, "commit")
