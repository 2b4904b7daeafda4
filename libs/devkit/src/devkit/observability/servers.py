"""Prometheus and Jaeger as servers of ours: a folder, a port, one process."""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from devkit.observability.programs import JAEGER, PROMETHEUS, Found, Program
from devkit.ports import HOST, free_port, is_free
from devkit.servers.server import STOP_SECONDS, Server

ASK_SECONDS: Final = 10.0
ANY_PORT: Final = f"{HOST}:0"
TRACES_KEPT: Final = 20_000
AGENT_PROCESSORS: Final = ("jaeger-binary", "jaeger-compact", "zipkin-compact")


class _Backend(Server):
    """A server that may run in a container."""

    program: Program
    stop_signal = signal.SIGTERM

    def __init__(self, folder: Path, *, port: int | None, inherit: Sequence[int]) -> None:
        super().__init__(folder, port=port, inherit=inherit)
        self._found: Found | None = None
        self._container = f"shop-{self.program.executable}-{secrets.token_hex(4)}"

    @property
    def url(self) -> str:
        """Where its pages and its API are."""
        return f"http://{HOST}:{self.port}"

    def stop(self, *, timeout_seconds: float = STOP_SECONDS) -> None:
        """Stop it; a container goes with it."""
        super().stop(timeout_seconds=timeout_seconds)
        if self._found is not None:
            self._found.remove(self._container)

    def get(self, path: str, **parameters: str | float) -> dict[str, Any]:
        """Ask its API; the JSON it answers.

        Raises:
            httpx.HTTPError: It did not answer, or refused the question.
        """
        reply = httpx.get(self.url + path, params=parameters, timeout=ASK_SECONDS, trust_env=False)
        answer: dict[str, Any] = reply.raise_for_status().json()
        return answer

    def find(self, path: str) -> dict[str, Any] | None:
        """Ask its API for one thing; None while it has no such thing.

        Raises:
            httpx.HTTPError: It did not answer, or refused the question.
        """
        try:
            return self.get(path)
        except httpx.HTTPStatusError as refusal:
            if refusal.response.status_code == httpx.codes.NOT_FOUND:
                return None
            raise

    def _prepare(self, timeout_seconds: float) -> None:  # noqa: ARG002  (the others need it)
        self._found = self.program.find()

    def _run(self, arguments: Sequence[str], *, reads: Sequence[Path] = ()) -> list[str]:
        assert self._found is not None  # noqa: S101  (found before the first launch)
        return self._found.command(
            arguments, folder=self.folder, reads=reads, container=self._container
        )

    def _ok(self, path: str) -> bool:
        try:
            return httpx.get(self.url + path, timeout=2.0, trust_env=False).is_success
        except httpx.TransportError:
            return False


class PrometheusServer(_Backend):
    """Prometheus: scrapes the targets given, keeps exemplars, evaluates the rule files given."""

    name = "Prometheus"
    program = PROMETHEUS

    def __init__(
        self,
        folder: Path,
        *,
        targets: Mapping[str, int],
        rules: Sequence[Path] = (),
        interval_seconds: int = 5,
        port: int | None = None,
        inherit: Sequence[int] = (),
    ) -> None:
        """Describe the server; nothing runs yet.

        Args:
            folder: Where its data, configuration and log are; made if missing.
            targets: The port of ``/metrics`` on 127.0.0.1, by job.
            rules: Files of rules.
            interval_seconds: Time between two scrapes, and between two evaluations.
            port: The port of its pages and API; a free one by default.
            inherit: File descriptors of ours that stay open until it has ended.
        """
        super().__init__(folder, port=port, inherit=inherit)
        self._targets = targets
        self._rules = [path.resolve() for path in rules]
        self._interval_seconds = interval_seconds

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The samples that an expression has now."""
        result: list[dict[str, Any]] = self.get("/api/v1/query", query=expr)["data"]["result"]
        return result

    def _command(self) -> list[str]:
        configuration = {
            "global": {
                "scrape_interval": f"{self._interval_seconds}s",
                "scrape_timeout": f"{self._interval_seconds}s",
                "evaluation_interval": f"{self._interval_seconds}s",
            },
            "rule_files": [str(path) for path in self._rules],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [f"{HOST}:{port}"]}]}
                for job, port in self._targets.items()
            ],
        }
        path = self.folder / "prometheus.yml"
        path.write_text(json.dumps(configuration, indent=2))  # JSON is YAML
        arguments = [
            f"--config.file={path}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={HOST}:{self.port}",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
        ]
        return self._run(arguments, reads=sorted({rule.parent for rule in self._rules}))

    def _answers(self) -> bool:
        return self._ok("/-/ready")


class JaegerServer(_Backend):
    """Jaeger: takes spans by OTLP and keeps them in memory."""

    name = "Jaeger"
    program = JAEGER

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        otlp_port: int | None = None,
        inherit: Sequence[int] = (),
    ) -> None:
        """Describe the server; nothing runs yet.

        Args:
            folder: Where its log is; made if missing.
            port: The port of its pages and query API; a free one by default.
            otlp_port: The port for OTLP over HTTP; a free one by default.
            inherit: File descriptors of ours that stay open until it has ended.
        """
        super().__init__(folder, port=port, inherit=inherit)
        self._otlp_port = otlp_port
        self._grpc_port = free_port()

    @property
    def otlp_port(self) -> int:
        """The port on which it takes spans by OTLP over HTTP."""
        if self._otlp_port is None:
            self._otlp_port = free_port()
        return self._otlp_port

    @property
    def otlp_url(self) -> str:
        """Where it takes spans by OTLP over HTTP."""
        return f"http://{HOST}:{self.otlp_port}"

    @property
    def environment(self) -> dict[str, str]:
        """The standard variables that make a service send its traces here."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.otlp_url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }

    def _command(self) -> list[str]:
        unused = (
            *("admin.http.host-port", "http-server.host-port", "query.grpc-server.host-port"),
            *("collector.grpc-server.host-port", "collector.http-server.host-port"),
            *(f"processor.{kind}.server-host-port" for kind in AGENT_PROCESSORS),
        )
        return self._run(
            [
                f"--query.http-server.host-port={HOST}:{self.port}",
                f"--collector.otlp.http.host-port={HOST}:{self.otlp_port}",
                f"--collector.otlp.grpc.host-port={HOST}:{self._grpc_port}",
                *(f"--{flag}={ANY_PORT}" for flag in unused),
                f"--memory.max-traces={TRACES_KEPT}",
                "--log-level=warn",
            ]
        )

    def _answers(self) -> bool:
        return self._ok("/api/services") and not is_free(self.otlp_port)
