"""Traces by OpenTelemetry, set up from the standard ``OTEL_*`` variables only.

Without an OTLP endpoint nothing is traced and nothing is instrumented. With one, spans go out in
batches from a thread of their own: an exporter that is down costs requests nothing.
"""

import asyncio
import os
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from threading import Thread
from typing import Any, Final

import structlog
from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

from servicekit import health, statement_spans

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
# https://opentelemetry.io/docs/specs/otel/protocol/exporter/: the default there.
_DEFAULT_PROTOCOL: Final = "http/protobuf"
_UNTRACED: Final = health.PATHS | {"/docs", "/redoc", "/openapi.json", "/metrics"}
_log = structlog.stdlib.get_logger(__name__)


class Telemetry:
    """The tracing of one process; off without a provider."""

    def __init__(self, provider: TracerProvider | None) -> None:
        self._provider = provider

    @classmethod
    def from_environment(
        cls, *, service: str, version: str, environment: Mapping[str, str] = os.environ
    ) -> "Telemetry":
        """Return tracing as the ``OTEL_*`` variables say; off unless an endpoint is given.

        ``OTEL_TRACES_EXPORTER=console`` needs none: it prints one span a line.

        The exporter, sampler and batch processor read their own variables. ``OTEL_SERVICE_NAME``
        and ``OTEL_RESOURCE_ATTRIBUTES`` win over ``service`` and ``version``.

        Raises:
            ValueError: the protocol is neither ``grpc`` nor ``http/protobuf``.
        """
        exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
        if (
            (exporter == "otlp" and not any(environment.get(name) for name in _ENDPOINTS))
            or environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
            or exporter == "none"
        ):
            return cls(None)
        provider = TracerProvider(
            resource=_resource(service=service, version=version), shutdown_on_exit=False
        )
        provider.add_span_processor(
            _AskedForProcessor(statement_spans.NamedStatements(_exporter(environment)))
        )
        return cls(provider)

    @property
    def enabled(self) -> bool:
        """Whether spans are made."""
        return self._provider is not None

    @property
    def provider(self) -> trace.TracerProvider:
        """Where spans come from; one that makes none when tracing is off."""
        return self._provider or trace.NoOpTracerProvider()

    def tracer(self, name: str) -> trace.Tracer:
        """Return a tracer for the module ``name``."""
        return self.provider.get_tracer(name)

    def instrument(self) -> None:
        """Trace Postgres in this process, and make the provider the global one.

        Redis is left out: it keeps nothing but locks, which have spans that say more.

        Called once, by the process's entry point, before the first connection is made.
        """
        if self._provider is None:
            return
        trace.set_tracer_provider(self._provider)
        statement_spans.trace_statements(self._provider)
        statement_spans.trace_commits(self.tracer(statement_spans.__name__))

    def uninstrument(self) -> None:
        """Undo ``instrument``, except for the global provider, which can only be set once."""
        if self._provider is None:
            return
        statement_spans.untrace_statements()
        statement_spans.untrace_commits()

    def fastapi_config(self) -> TelemetryConfig:
        """Return what ``FastAPI(telemetry=...)`` needs for one server span a request.

        FastAPI traces itself; its spans for dependencies and serialization are left out, and so
        are its metrics and logs, which we have in our own form.
        """
        return TelemetryConfig(
            tracing=self.enabled,
            tracer_provider=self._provider,
            metrics=False,
            logs=False,
            operation_spans=False,
            auto_configure=False,
            exclude=_is_untraced,
        )

    async def shutdown(self, *, timeout_seconds: float = 5.0) -> None:
        """Send the spans that are still here and stop; give up after ``timeout_seconds``."""
        if self._provider is None:
            return
        flushed = _flushed_in_background(self._provider)
        try:
            async with asyncio.timeout(timeout_seconds):
                await flushed.wait()
        except TimeoutError:
            _log.warning("spans_lost_at_stop", timeout_seconds=timeout_seconds)


class _AskedForProcessor(BatchSpanProcessor):
    """Leaves out client spans that have no parent, and the pings of the connection pool.

    The former are the statements of readiness probes and of recovery's regular look into the
    database: a trace each, several a second, that nobody would ever open.
    """

    def on_end(self, span: ReadableSpan) -> None:
        """Queue the span for export if it is part of something and says something."""
        alone = span.parent is None and span.kind is trace.SpanKind.CLIENT
        if not alone and not statement_spans.is_ping(span):
            super().on_end(span)


def _flushed_in_background(provider: TracerProvider) -> asyncio.Event:
    """Flush in a thread that the process does not wait for at its end; set when it is done.

    A flush has no limit of its own: it lasts as long as the exporter's tries. The event loop waits
    at its end for threads of its executor, so this one is not among them.
    """
    loop, flushed = asyncio.get_running_loop(), asyncio.Event()

    def flush() -> None:
        provider.force_flush()
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(flushed.set)

    Thread(target=flush, name="flush-spans", daemon=True).start()
    return flushed


def _is_untraced(scope: MutableMapping[str, Any]) -> bool:
    return scope.get("path") in _UNTRACED


def _resource(*, service: str, version: str) -> Resource:
    defaults = Resource(
        {
            "service.name": service,
            "service.version": version,
            "service.instance.id": os.environ.get("HOSTNAME", "") or str(os.getpid()),
        }
    )
    given = dict(Resource.create().attributes)
    # Resource.create() fills in a placeholder when the environment names no service.
    if str(given["service.name"]).startswith("unknown_service"):
        del given["service.name"]
    return defaults.merge(Resource(given))


def _exporter(environment: Mapping[str, str]) -> SpanExporter:
    """Return the exporter for the protocol; imported here, since gRPC is slow to load."""
    if environment.get("OTEL_TRACES_EXPORTER", "").strip() == "console":
        return ConsoleSpanExporter(formatter=lambda span: span.to_json(indent=None) + "\n")
    protocol = next(filter(None, map(environment.get, _PROTOCOLS)), _DEFAULT_PROTOCOL)
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter as GrpcExporter,
        )

        return GrpcExporter()
    if protocol == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter as HttpExporter,
        )

        return HttpExporter()
    raise ValueError(f"OTLP protocol {protocol!r} is not supported: use grpc or http/protobuf")
