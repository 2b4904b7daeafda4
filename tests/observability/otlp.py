"""A receiver of OTLP traces in this process: it keeps the spans, and may pass them on."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

FORWARD_SECONDS = 10.0


@dataclass(frozen=True)
class Link:
    """Where a span points."""

    trace_id: str
    span_id: str


@dataclass(frozen=True)
class Span:
    """One span as it was exported."""

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    links: tuple[Link, ...]
    resource: dict[str, Any]


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return None if kind is None else getattr(value, kind)


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource_spans in request.resource_spans:
        resource = {each.key: _value(each.value) for each in resource_spans.resource.attributes}
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield Span(
                    service=str(resource["service.name"]),
                    name=span.name,
                    kind=span.kind,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    attributes={each.key: _value(each.value) for each in span.attributes},
                    links=tuple(
                        Link(each.trace_id.hex(), each.span_id.hex()) for each in span.links
                    ),
                    resource=resource,
                )


class Receiver:
    """Takes spans by OTLP over HTTP on a port of its own."""

    def __init__(self, *, forward_to: str | None = None) -> None:
        self._forward_to = forward_to
        self._lock = threading.Lock()
        self._spans: list[Span] = []
        self._bytes = bytearray()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=FORWARD_SECONDS)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """The standard variables that make a service send its traces here, soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }

    def spans(self, keep: Callable[[Span], bool] = lambda _: True) -> list[Span]:
        """The spans so far that are wanted."""
        with self._lock:
            return [span for span in self._spans if keep(span)]

    def trace(self, trace_id: str) -> list[Span]:
        """The spans so far of one trace."""
        return self.spans(lambda span: span.trace_id == trace_id)

    def holds(self, text: str) -> bool:
        """Whether anything received has this text in it."""
        with self._lock:
            return text.encode() in self._bytes

    def take(self, body: bytes) -> None:
        """Keep one request's spans, and pass it on."""
        request = ExportTraceServiceRequest.FromString(body)
        with self._lock:
            self._spans.extend(_spans(request))
            self._bytes += body
        if self._forward_to is not None:
            httpx.post(
                f"{self._forward_to}/v1/traces",
                content=body,
                headers={"Content-Type": "application/x-protobuf"},
                timeout=FORWARD_SECONDS,
                trust_env=False,
            ).raise_for_status()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver.take(body)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        return Handler
