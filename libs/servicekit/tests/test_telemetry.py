"""Tracing: off by default, set up from the standard variables, Postgres and the exporter."""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Self

import pytest
from opentelemetry.sdk.trace import TracerProvider
from sqlalchemy import text

from devkit.servers import PostgresServer
from servicekit import statement_spans
from servicekit.database import create_engine
from servicekit.telemetry import Telemetry
from servicekit.testing import spans


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_without_an_endpoint_nothing_is_traced(environment: Mapping[str, str]) -> None:
    telemetry = Telemetry.from_environment(service="s", version="1", environment=environment)
    assert not telemetry.enabled
    assert not telemetry.tracer("t").start_span("s").is_recording()


def test_an_unknown_protocol_is_refused() -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "carrier-pigeon",
    }
    with pytest.raises(ValueError, match="carrier-pigeon"):
        Telemetry.from_environment(service="s", version="1", environment=environment)


class Collector:
    """Counts what is posted to it."""

    def __init__(self) -> None:
        received = self.received = list[tuple[str, bytes]]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                received.append((self.path, self.rfile.read(length)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - overrides
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(timeout=10)


def test_the_console_exporter_needs_no_endpoint_and_prints_a_span_a_line() -> None:
    program = (
        "import asyncio; from servicekit.telemetry import Telemetry;"
        "telemetry = Telemetry.from_environment(service='s', version='1');"
        "[telemetry.tracer('t').start_span(name).end() for name in ('one', 'two')];"
        "asyncio.run(telemetry.shutdown(timeout_seconds=30))"
    )
    environment = {name: text for name, text in os.environ.items() if not name.startswith("OTEL_")}
    finished = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | {"OTEL_TRACES_EXPORTER": "console"},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert [json.loads(line)["name"] for line in finished.stdout.splitlines()] == ["one", "two"]


@pytest.mark.parametrize("signal", ["", "_TRACES"])
async def test_spans_reach_the_endpoint_of_the_environment_at_the_latest_at_the_stop(
    monkeypatch: pytest.MonkeyPatch, signal: str
) -> None:
    with Collector() as collector:
        url = f"http://127.0.0.1:{collector.server.server_port}"
        path = "" if not signal else "/v1/traces"
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP{signal}_ENDPOINT", url + path)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "from-environment")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        telemetry = Telemetry.from_environment(service="default-name", version="9.9")
        assert telemetry.enabled
        telemetry.tracer("t").start_span("the-last-span").end()
        await telemetry.shutdown(timeout_seconds=30)
        assert [path for path, _ in collector.received] == ["/v1/traces"]
        body = collector.received[0][1]
    assert b"the-last-span" in body
    assert b"from-environment" in body
    assert b"default-name" not in body
    assert b"9.9" in body


async def test_postgres_statements_are_spans_of_the_request(
    postgres_server: PostgresServer,
) -> None:
    url = postgres_server.url()
    with spans.recorded() as (telemetry, recorded):
        assert isinstance(telemetry.provider, TracerProvider)
        statement_spans.trace_statements(telemetry.provider)
        engine = create_engine(url, application_name="kit")
        try:
            with telemetry.tracer("t").start_as_current_span("request") as request:
                async with engine.begin() as connection:
                    statement = text("SELECT CAST(:value AS text)")
                    found = await connection.execute(statement, {"value": "hunter2"})
                    assert found.scalar_one() == "hunter2"
        finally:
            await engine.dispose()
            statement_spans.untrace_statements()
        statements = [span for span in recorded.all() if span.name.startswith("SELECT")]
    assert len(statements) >= 1
    for span in statements:
        assert span.context is not None
        assert span.context.trace_id == request.get_span_context().trace_id
        assert "hunter2" not in str(dict(span.attributes or {}))


async def test_an_exporter_that_is_down_does_not_hold_up_the_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    telemetry = Telemetry.from_environment(service=uuid.uuid4().hex, version="1")
    telemetry.tracer("t").start_span("lost").end()
    async with asyncio.timeout(60):
        await telemetry.shutdown(timeout_seconds=0.2)
