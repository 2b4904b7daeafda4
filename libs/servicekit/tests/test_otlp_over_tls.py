"""Traces over TLS: a private CA, a client's certificate, headers; by the standard variables."""

import os
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service

from servicekit import otel_environment
from servicekit.telemetry import Telemetry


@dataclass(frozen=True)
class Certificates:
    """A CA of our own, and what it has signed: each a file."""

    folder: Path

    def __getattr__(self, name: str) -> str:
        return str(self.folder / name.replace("_", "."))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not on the PATH")
    folder = tmp_path_factory.mktemp("tls")

    def run(*arguments: str) -> None:
        subprocess.run(
            [openssl, *arguments], cwd=folder, check=True, capture_output=True, timeout=60
        )

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run(
        "req",
        "-x509",
        *key,
        "-keyout",
        "ca.key",
        "-out",
        "ca.crt",
        "-subj",
        "/CN=private",
        "-days",
        "2",
    )
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for name in ("server", "client"):
        run(
            "req",
            "-new",
            *key,
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
            "-subj",
            f"/CN={name}",
        )
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
        run("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", "-days", "2", *signed)
    return Certificates(folder)


@dataclass
class Received:
    """Where a receiver listens, and what it got."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def over_http(certificates: Certificates) -> Iterator[Received]:
    """A receiver by HTTP that takes clients with a certificate of the CA only."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            received.headers.append({key.lower(): value for key, value in self.headers.items()})
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates.ca_crt)
    context.load_cert_chain(certificates.server_crt, certificates.server_key)
    context.verify_mode = ssl.CERT_REQUIRED
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        received.url = f"https://127.0.0.1:{server.server_port}"
        try:
            yield received
        finally:
            server.shutdown()
            thread.join(timeout=10)


@contextmanager
def over_grpc(certificates: Certificates) -> Iterator[Received]:
    """The same by gRPC."""
    received = Received()

    class Servicer(service.TraceServiceServicer):
        def Export(  # noqa: N802 - the method's name in the protocol
            self, request: Any, context: grpc.ServicerContext
        ) -> Any:
            received.bodies.append(request.SerializeToString())
            received.headers.append(
                {key: str(value) for key, value in context.invocation_metadata()}
            )
            return messages.ExportTraceServiceResponse()

    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        service.add_TraceServiceServicer_to_server(  # type: ignore[no-untyped-call]  # generated
            Servicer(), server
        )
        pair = (
            Path(certificates.server_key).read_bytes(),
            Path(certificates.server_crt).read_bytes(),
        )
        credentials = grpc.ssl_server_credentials(
            [pair], Path(certificates.ca_crt).read_bytes(), require_client_auth=True
        )
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        received.url = f"https://127.0.0.1:{port}"
        try:
            yield received
        finally:
            server.stop(grace=1).wait(10)


Receiver = Callable[[Certificates], AbstractContextManager[Received]]
TRUST = "OTEL_EXPORTER_OTLP_CERTIFICATE"
IDENTITY = {
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "client_crt",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY": "client_key",
}
RECEIVERS = pytest.mark.parametrize(
    ("receiver", "protocol"), [(over_http, "http/protobuf"), (over_grpc, "grpc")]
)


async def send(
    url: str, protocol: str, variables: dict[str, str], patch: pytest.MonkeyPatch
) -> None:
    """Send one span as a process with these variables does."""
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20abc,x-tenant=shop",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
        **variables,
    }
    environment = {**os.environ, **settings}
    otel_environment.tidy(environment)
    for name in os.environ.keys() - environment.keys():
        patch.delenv(name)
    for name in settings.keys() & environment.keys():
        patch.setenv(name, environment[name])
    telemetry = Telemetry.from_environment(service="kit", version="1")
    telemetry.tracer("t").start_span("over-tls").end()
    await telemetry.shutdown(timeout_seconds=20)


@RECEIVERS
async def test_traces_go_over_tls_with_a_private_ca_a_certificate_and_headers(
    certificates: Certificates,
    receiver: Receiver,
    protocol: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = {TRUST: "ca_crt", **IDENTITY}
    variables = {name: getattr(certificates, file) for name, file in names.items()}
    variables["REQUESTS_CA_BUNDLE"] = certificates.client_crt  # which is not to be asked
    with receiver(certificates) as received:
        await send(received.url, protocol, variables, monkeypatch)
    (body,) = received.bodies
    assert b"over-tls" in body
    (headers,) = received.headers
    assert (headers["authorization"], headers["x-tenant"]) == ("Bearer abc", "shop")


@RECEIVERS
@pytest.mark.parametrize("missing", [TRUST, *IDENTITY])
async def test_nothing_is_sent_to_whom_it_does_not_trust_or_who_does_not_trust_it(
    certificates: Certificates,
    receiver: Receiver,
    protocol: str,
    missing: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = {TRUST: "ca_crt", **IDENTITY}
    variables = {
        name: getattr(certificates, file) for name, file in names.items() if name != missing
    }
    with receiver(certificates) as received:
        await send(received.url, protocol, variables, monkeypatch)
    assert received.bodies == []


def test_half_an_identity_is_left_out_and_said_since_grpc_would_abort_the_process(
    certificates: Certificates,
) -> None:
    environment = {
        TRUST: certificates.ca_crt,
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": certificates.client_crt,
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/nowhere/tls.key",
    }
    complaints = otel_environment.tidy(environment)
    assert [line.split(":")[0] for line in complaints] == [
        "OTEL_EXPORTER_OTLP_CLIENT_KEY",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    ]
    assert environment[TRUST] == certificates.ca_crt
    assert not environment.keys() & IDENTITY.keys()
