"""Spans kept in memory, for asserting on a trace."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from servicekit.telemetry import Telemetry


class RecordedSpans:
    """The spans that ended so far."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def all(self) -> tuple[ReadableSpan, ...]:
        """Return every ended span, the first ended first."""
        return self._exporter.get_finished_spans()

    def names(self) -> list[str]:
        """Return the names of the ended spans."""
        return [span.name for span in self.all()]


@contextmanager
def recorded() -> Iterator[tuple[Telemetry, RecordedSpans]]:
    """Yield tracing that records every span at once, and what it records."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    try:
        yield Telemetry(provider), RecordedSpans(exporter)
    finally:
        provider.shutdown()
