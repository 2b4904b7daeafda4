"""Spans of Postgres: named by operation and table, with the commits, without the pings."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation import _semconv
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import text

from devkit.servers import PostgresServer
from servicekit import otel_environment, statement_spans, telemetry
from servicekit.database import create_engine
from servicekit.telemetry import Telemetry


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT orders.id, orders.value FROM orders WHERE orders.id = $1", ("SELECT", "orders")),
        ('SELECT count(*) FROM "orders"', ("SELECT", "orders")),
        ("SELECT id FROM orders FOR UPDATE SKIP LOCKED", ("SELECT", "orders")),
        ("SELECT now() AS moment", ("SELECT", "")),
        ("SELECT set_config($1, $2, $3)", ("SELECT", "")),
        ("SELECT n FROM generate_series(1, 3) AS n", ("SELECT", "")),
        (
            "INSERT INTO orders (id) VALUES ($1) ON CONFLICT DO UPDATE SET n = 1",
            ("INSERT", "orders"),
        ),
        ("update only shop.orders SET n = 1", ("UPDATE", "shop.orders")),
        ("DELETE FROM idempotency_keys WHERE a < now()", ("DELETE", "idempotency_keys")),
        ("WITH gone AS (SELECT id FROM a) DELETE FROM b USING gone", ("DELETE", "b")),
        ("WITH page AS (SELECT id FROM orders) SELECT * FROM page", ("SELECT", "orders")),
        ("LISTEN operations;", ("LISTEN", "")),
        ("COMMIT;", ("COMMIT", "")),
        (" ", ("", "")),
    ],
)
def test_a_statement_is_about_what_it_changes_or_else_what_it_reads_first(
    statement: str, expected: tuple[str, str]
) -> None:
    assert statement_spans.subject(statement) == expected


@pytest.fixture
def stable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names that a service's process uses: chosen once, when the first thing is traced."""
    environment: dict[str, str] = {}
    otel_environment.tidy(environment)
    monkeypatch.setenv(*next(iter(environment.items())))
    conventions = _semconv._OpenTelemetrySemanticConventionStability
    monkeypatch.setattr(conventions, "_initialized", False)
    before = conventions._OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING
    monkeypatch.setattr(conventions, "_OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING", dict(before))


@dataclass(frozen=True)
class Traced:
    """A process that is traced, and what it has sent."""

    telemetry: Telemetry
    provider: TracerProvider
    exporter: InMemorySpanExporter

    def sent(self) -> tuple[ReadableSpan, ...]:
        """All spans that went out, in the order in which they ended."""
        self.provider.force_flush()
        return self.exporter.get_finished_spans()


@pytest.fixture
def traced(stable: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Traced]:
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(telemetry, "_exporter", lambda _: exporter)
    monkeypatch.setattr(trace, "set_tracer_provider", lambda _: None)
    made = Telemetry.from_environment(
        service="kit", version="1", environment={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}
    )
    assert isinstance(made.provider, TracerProvider)
    made.instrument()
    try:
        yield Traced(made, made.provider, exporter)
    finally:
        made.uninstrument()
        made.provider.shutdown()


class Kind(psycopg.AsyncConnection[Any]):
    """Connections of one's own kind."""


async def kind_of_connection(server: PostgresServer) -> type:
    async with await Kind.connect(server.url()) as connection:
        return type(connection)


async def test_connections_are_of_the_kind_that_is_asked_for_while_and_after_they_are_traced(
    postgres_server: PostgresServer, traced: Traced
) -> None:
    assert await kind_of_connection(postgres_server) is Kind
    traced.telemetry.uninstrument()
    assert await kind_of_connection(postgres_server) is Kind


async def test_a_transaction_shows_its_statements_and_its_commit_and_no_ping(
    postgres_server: PostgresServer, traced: Traced
) -> None:
    engine = create_engine(postgres_server.url(), application_name="kit", pool_size=1)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("CREATE TEMPORARY TABLE things (id int)"))
        with traced.telemetry.tracer("t").start_as_current_span("request"):
            async with engine.begin() as connection:  # used before: the pool pings it
                await connection.execute(text("INSERT INTO things VALUES (:id)"), {"id": 1})
            async with engine.connect() as connection:
                await connection.execute(text("SELECT id FROM things"))
    finally:
        await engine.dispose()

    spans = traced.sent()
    assert [span.name for span in spans] == [
        "INSERT things",
        "COMMIT",
        "SELECT things",
        "request",
    ]
    request = spans[-1]
    for span in spans[:-1]:
        assert span.parent is not None
        assert request.context is not None
        assert span.parent.span_id == request.context.span_id
        assert of_postgres(span) == of_postgres(spans[0])
    insert = dict(spans[0].attributes or {})
    assert insert["db.collection.name"] == "things"
    assert insert["db.query.summary"] == "INSERT things"


def of_postgres(span: ReadableSpan) -> dict[str, object]:
    """The attributes by which the views of a trace know the server; of one generation only."""
    attributes = dict(span.attributes or {})
    assert not attributes.keys() & {"db.system", "db.name", "db.statement", "net.peer.name"}
    names = ("db.system.name", "db.namespace", "server.address", "server.port")
    found: dict[str, object] = {name: attributes[name] for name in names}
    assert found["db.system.name"] == "postgresql"
    return found


def test_what_is_not_a_statement_goes_out_as_it_is(traced: Traced) -> None:
    tracer = traced.telemetry.tracer("t")
    tracer.start_span("lock.hold order", attributes={"lock.fence": 3}).end()
    (sent,) = traced.sent()
    assert (sent.name, dict(sent.attributes or {})) == ("lock.hold order", {"lock.fence": 3})
