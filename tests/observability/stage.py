"""A whole shop that is being watched: its spans, its metrics, its logs."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
from rich.console import Console
from tests.observability.otlp import Receiver

from devkit.errors import MissingTool
from devkit.layout import Layout
from devkit.observability.programs import Program
from devkit.observability.servers import JaegerServer, PrometheusServer
from devkit.progress import Progress
from devkit.shop import Shop
from devkit.traffic import Traffic

SCRAPE_SECONDS = 10.0
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def missing(program: Program) -> str | None:
    """Why a program cannot be used here; None if it can."""
    try:
        program.find()
    except MissingTool as error:
        return str(error)
    return None


def without(program: Program) -> NoReturn:
    """Skip the test for lack of a program; fail it where OBSERVED_REQUIRED=1 says it must run."""
    why = missing(program) or f"{program.name} was not started"
    if os.environ.get("OBSERVED_REQUIRED") == "1":
        pytest.fail(why)
    pytest.skip(why)


@dataclass(frozen=True)
class Stage:
    """The shop, what watches it, and its clients."""

    shop: Shop
    receiver: Receiver | None
    prometheus: PrometheusServer | None
    jaeger: JaegerServer | None
    traffic: Traffic

    def metrics(self, service: str, *, accept: str = OPENMETRICS) -> str:
        """What a service exports now."""
        port = self.shop.layout.ports[f"{service.upper()}_METRICS_PORT"]
        answer = httpx.get(
            f"http://127.0.0.1:{port}/metrics",
            headers={"Accept": accept},
            timeout=SCRAPE_SECONDS,
            trust_env=False,
        )
        return answer.raise_for_status().text

    def value(self, service: str, sample: str) -> float:
        """The sum of all samples whose line begins with this text."""
        lines = self.metrics(service).splitlines()
        found = [line.split("#")[0].split()[-1] for line in lines if line.startswith(sample)]
        return sum(map(float, found))

    def log(self, service: str) -> str:
        """All that a service has written so far."""
        return (self.shop.folder / f"{service}.log").read_text()

    def events(self, service: str) -> list[dict[str, Any]]:
        """Each line that a service has written so far."""
        return [json.loads(line) for line in self.log(service).splitlines()]


@contextmanager
def staged(
    folder: Path,
    *,
    settings: Mapping[str, str],
    rules: Sequence[Path],
    receiver: Receiver | None,
    jaeger: JaegerServer | None,
    prometheus: bool,
) -> Iterator[Stage]:
    """Run a shop, watched by Prometheus if asked to."""
    layout = Layout.on_free_ports()
    with ExitStack() as stack:
        shop = stack.enter_context(
            Shop(
                folder / "shop",
                layout,
                progress=Progress(Console(file=io.StringIO())),
                settings={
                    "ORDER_LOG_FORMAT": "json",
                    "INVOICE_LOG_FORMAT": "json",
                    **(receiver.environment if receiver else {}),
                    **settings,
                },
            )
        )
        server = None
        if prometheus:
            server = stack.enter_context(
                PrometheusServer(
                    folder / "prometheus",
                    targets={
                        name: layout.ports[f"{name.upper()}_METRICS_PORT"]
                        for name in ("order", "invoice")
                    },
                    rules=rules,
                    interval_seconds=1,
                )
            )
        traffic = Traffic(layout.order_url, layout.invoice_url)
        stack.callback(traffic.close)
        yield Stage(shop, receiver, server, jaeger, traffic)


@contextmanager
def jaeger_if(folder: Path, *, wanted: bool) -> Iterator[JaegerServer | None]:
    """Jaeger, or None where it is not wanted."""
    if not wanted:
        yield None
        return
    with JaegerServer(folder) as server:
        yield server


def traceparent(*, sampled: bool = True) -> tuple[str, dict[str, str]]:
    """A new trace's id, and the header that makes a request part of it."""
    trace_id = secrets.token_hex(16)
    header = f"00-{trace_id}-{secrets.token_hex(8)}-{int(sampled):02d}"
    return trace_id, {"traceparent": header}


def quick(rule_file: Path, folder: Path) -> Path:
    """A copy of a rule file that looks at seconds where the original looks at minutes or days."""
    text = rule_file.read_text()
    text = re.sub(r"\[\d+[mhd]\]", "[10s]", text)
    text = re.sub(r"offset \d+[mhd]", "offset 10s", text)
    text = re.sub(r"for: \d+[mhd]", "for: 1s", text)
    text = text.replace("shop_operation_oldest_seconds) > 60", "shop_operation_oldest_seconds) > 3")
    text = text.replace(") > 5\n", ") > 2\n")
    folder.mkdir(exist_ok=True)
    copy = folder / rule_file.name
    copy.write_text(text)
    return copy
