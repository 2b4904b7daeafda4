"""What the services are set to by their environment: bad values end them in one clear line."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from devkit.services import SERVICES
from servicekit.start import EXIT_BAD_SETTINGS, start

GOOD = {
    "DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:9/d",
    "REDIS_URL": "redis://:hunter2@127.0.0.1:9",
}
SECRET = "hunter2"
BAD_DATABASE_URLS = (
    "",
    " ",
    f"mysql://u:{SECRET}@h/d",
    f"u:{SECRET}@h/d",
    f"postgresql://u:{SECRET}@h1:1,h2:2/d",
    f"postgresql://u:{SECRET}@h1,h2/d",
    f"postgresql://u:{SECRET}@h:99999/d",
    f"postgresql://u:{SECRET}@h:port/d",
    f"postgresql://u:p@h/d?{SECRET}=1",
)
BAD_REDIS_URLS = (
    "",
    f"redis://:{SECRET}#tail@h",
    f"redis://:{SECRET}/tail@h",
    f"redis://:{SECRET}@",
    f"redis://:{SECRET}@h1:1,h2:2",
    f"redis://:{SECRET}@h:99999",
    f"redis://:{SECRET}@h/name",
    f"redis://:{SECRET}@h#tail",
    f"redis://:{SECRET}@h/\n",
    f"h:6379:{SECRET}",
    "rediss://h?ssl_ca_certs=/no/such/file",
)
OUT_OF_RANGE = {
    "PORT": "70000",
    "HOST": "",
    "LOG_LEVEL": "critical",
    "MAX_BODY_BYTES": "1" + "0" * 30,
    "DATABASE_POOL_SIZE": "0",
    "DATABASE_POOLER": "statement",
    "STATEMENT_TIMEOUT_SECONDS": "0.0001",
    "REQUEST_TIMEOUT_SECONDS": "inf",
    "IDEMPOTENCY_RETENTION_SECONDS": "1" + "0" * 30,
}
ORDERS_ALONE = {
    "LOCK_TTL_SECONDS": "0.01",
    "LOCK_WAIT_SECONDS": "nan",
    "INVOICE_TIMEOUT_SECONDS": "20",
    "INVOICE_URL": "127.0.0.1:3001",
}
CASES = [
    *((name, "DATABASE_URL", url) for name in SERVICES for url in BAD_DATABASE_URLS),
    *((name, "REDIS_URL", url) for name in SERVICES for url in BAD_REDIS_URLS),
    *((name, key, value) for name in SERVICES for key, value in OUT_OF_RANGE.items()),
    *(("order", key, value) for key, value in ORDERS_ALONE.items()),
]


def refusal(
    command: list[str], capsys: pytest.CaptureFixture[str], *, service: str = "order"
) -> str:
    """The one line with which a command that is refused ends."""
    assert start(service, command) == EXIT_BAD_SETTINGS
    shown = capsys.readouterr().err
    lines = [line for line in shown.splitlines() if line.startswith(f"{service}:")]
    assert len(lines) == 1, shown
    assert "Traceback" not in shown
    return lines[0]


@pytest.fixture(autouse=True)
def good(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("ORDER_", "INVOICE_", "OTEL_")):
            monkeypatch.delenv(name)
    for service in SERVICES:
        for name, value in GOOD.items():
            monkeypatch.setenv(f"{service.upper()}_{name}", value)


@pytest.mark.parametrize(("service", "name", "value"), CASES)
def test_a_bad_setting_is_refused_in_a_line_that_names_it_and_not_its_value(
    service: str,
    name: str,
    value: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(f"{service.upper()}_{name}", value)
    line = refusal(["serve"], capsys, service=service)
    assert SECRET not in line
    assert f"{service.upper()}_{name}" in line


@pytest.mark.parametrize("url", BAD_DATABASE_URLS)
def test_migrate_refuses_the_same_database_urls_in_the_same_words(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ORDER_DATABASE_URL", url)
    assert refusal(["serve"], capsys) == refusal(["migrate"], capsys)


@pytest.mark.parametrize("url", BAD_DATABASE_URLS[2:])
def test_audit_refuses_a_bad_database_in_a_line_without_its_value(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start("order", ["audit", "--order-dsn", url]) == EXIT_BAD_SETTINGS
    shown = capsys.readouterr().err
    assert "the database URL" in shown
    assert SECRET not in shown


def test_a_misspelt_variable_is_said_with_the_one_that_may_be_meant(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ORDER_LOKC_TTL_SECONDS", "3")
    monkeypatch.setenv("ORDER_SERVICE_HOST", "10.0.0.1")  # Kubernetes sets it, nobody misspelt it
    monkeypatch.setenv("ORDER_PORT", "none")  # so that it ends
    assert start("order", ["serve"]) == EXIT_BAD_SETTINGS
    said = capsys.readouterr().err
    assert "ORDER_LOKC_TTL_SECONDS is not a setting: is ORDER_LOCK_TTL_SECONDS meant?" in said
    assert "ORDER_SERVICE_HOST" not in said


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_variables_that_opentelemetry_would_end_the_process_for_cost_a_line_each(
    protocol: str,
) -> None:
    wrong = {
        "OTEL_PROPAGATORS": "b3,tracecontext,nonsense",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "-1",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "many",
        "OTEL_BSP_MAX_QUEUE_SIZE": "0",
        "OTEL_TRACES_SAMPLER_ARG": "2",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "soon",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "zip",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:9",
        "OTEL_TRACES_EXPORTER": "zipkin",
    }
    environment = os.environ | wrong | {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    ended = subprocess.run(
        [sys.executable, "-m", "order", "serve"],
        env=environment | {"ORDER_HOST": "host.invalid"},  # so that it ends, after all is made
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode in {1, EXIT_BAD_SETTINGS}
    assert "Traceback" not in ended.stderr, ended.stderr
    for name in wrong:
        assert f"order: {name}: " in ended.stderr, ended.stderr
