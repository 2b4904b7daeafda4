"""`make up OBSERVE=1`: Prometheus and Jaeger beside the shop, where this machine has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from rich.console import Console

from devkit.errors import MissingTool
from devkit.layout import Layout
from devkit.observability.programs import JAEGER, PROMETHEUS, Program
from devkit.observability.servers import JaegerServer, PrometheusServer
from devkit.progress import Progress
from devkit.services import SERVICES

# The ports that both programs have by default; each can be changed by a variable.
PORTS: Final = {"PROMETHEUS_PORT": 9090, "JAEGER_PORT": 16686, "OTLP_PORT": 4318}
RULES: Final = "charts/*/files/alerts/*.yaml"


class Observers:
    """What watches the shop: Prometheus with our alert rules, and Jaeger for its traces.

    What is not on this machine is left out, and the person is told how to get it.
    """

    def __init__(
        self,
        folder: Path,
        layout: Layout,
        *,
        console: Console,
        environment: Mapping[str, str],
        inherit: Sequence[int] = (),
    ) -> None:
        """Describe them; nothing runs yet, and nothing will unless ``OBSERVE`` is set.

        Args:
            folder: Where their data and logs are kept.
            layout: Where the shop exports its metrics.
            console: Told what starts, and what is missing.
            environment: Says whether they are wanted, and on which ports.
            inherit: File descriptors of ours that stay open until they have ended.
        """
        self.settings: dict[str, str] = {}
        self.guide = ""
        self.traces_url = ""
        """Where a trace is shown, up to its id; empty without Jaeger."""
        self._wanted = environment.get("OBSERVE", "") not in {"", "0"}
        self._ports = {name: int(environment.get(name) or port) for name, port in PORTS.items()}
        self._folder = folder
        self._layout = layout
        self._console = console
        self._progress = Progress(console)
        self._inherit = inherit
        self._running = ExitStack()

    def __enter__(self) -> Self:
        """Start what is wanted and here.

        Raises:
            DevkitError: Something is here but did not start.
        """
        with ExitStack() as stack:
            if self._wanted and self._is_here(JAEGER):
                self._start_jaeger(stack)
            if self._wanted and self._is_here(PROMETHEUS):
                self._start_prometheus(stack)
            self._running = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what was started."""
        self._running.close()

    def _is_here(self, program: Program) -> bool:
        try:
            program.find()
        except MissingTool as missing:
            self._console.print(f"  [yellow]-[/] {missing} Going on without it.")
            return False
        return True

    def _start_jaeger(self, stack: ExitStack) -> None:
        server = JaegerServer(
            self._folder / "jaeger",
            port=self._ports["JAEGER_PORT"],
            otlp_port=self._ports["OTLP_PORT"],
            inherit=self._inherit,
        )
        with self._progress.step(f"Jaeger on {server.url}"):
            stack.enter_context(server)
        self.settings |= server.environment
        self.traces_url = f"{server.url}/trace/"
        self.guide += f"  traces    {server.url}/search?service=order\n"

    def _start_prometheus(self, stack: ExitStack) -> None:
        server = PrometheusServer(
            self._folder / "prometheus",
            targets={name: self._layout.ports[f"{name.upper()}_METRICS_PORT"] for name in SERVICES},
            rules=sorted(Path.cwd().glob(RULES)),
            port=self._ports["PROMETHEUS_PORT"],
            inherit=self._inherit,
        )
        with self._progress.step(f"Prometheus on {server.url}"):
            stack.enter_context(server)
        self.guide += f"  metrics   {server.url}/query\n  alerts    {server.url}/alerts\n"
