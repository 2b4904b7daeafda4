"""One JSON line an event, with trace ids, and never a secret."""

import asyncio
import io
import json
import logging as stdlib
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from servicekit import log_context, logging
from servicekit.testing import spans
from servicekit.testing.logs import route_to_stdlib


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = stdlib.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    route_to_stdlib()


class Stream(io.StringIO):
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def stream() -> Stream:
    stream = Stream()
    logging.configure(service="shop", level="info", form="json", stream=stream)
    return stream


def test_an_event_is_one_json_line_with_service_severity_and_time(stream: Stream) -> None:
    structlog.stdlib.get_logger("x").warning("order_stuck", attempts=3)
    (event,) = stream.events()
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "order_stuck",
        "attempts": 3,
        "service": "shop",
        "severity": "warning",
        "logger": "x",
    }


def test_inside_a_span_an_event_carries_trace_id_and_span_id(stream: Stream) -> None:
    with spans.recorded() as (telemetry, _):
        with telemetry.tracer("t").start_as_current_span("s") as span:
            structlog.stdlib.get_logger().info("inside")
        context = span.get_span_context()
    (event,) = stream.events()
    assert event["trace_id"] == f"{context.trace_id:032x}"
    assert event["span_id"] == f"{context.span_id:016x}"


def test_the_standard_librarys_loggers_write_in_the_same_form(stream: Stream) -> None:
    stdlib.getLogger("lib").error("failed: %s", "why")
    (event,) = stream.events()
    assert (event["event"], event["severity"]) == ("failed: why", "error")


def test_less_severe_events_are_left_out(stream: Stream) -> None:
    structlog.stdlib.get_logger().debug("detail")
    stdlib.getLogger("lib").debug("detail")
    assert stream.events() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("password", "hunter2"),
        ("api_key", "hunter2"),
        ("Authorization", "Bearer hunter2"),
        ("lock_token", "hunter2"),
        ("Lock-Token", "hunter2"),
        ("proof", "hunter2"),
        ("url", "postgresql://user:hunter2@host/db"),
        ("detail", "cannot reach redis://:hunter2@host:6379/0"),
        ("dsn_text", "host=h password=hunter2 user=u"),
        ("headers", {"lock-token": "hunter2"}),
        ("urls", ["redis://:hunter2@a", "redis://:hunter2@b"]),
    ],
)
def test_no_secret_is_ever_written(stream: Stream, name: str, value: object) -> None:
    structlog.stdlib.get_logger().info("event", **{name: value})
    stdlib.getLogger("lib").warning("event", extra={name: value})
    assert "hunter2" not in stream.getvalue()
    assert len(stream.events()) == 2


def raise_with_a_secret_in_its_text() -> None:
    raise RuntimeError("postgresql://u:hunter2@h/d is down")


def raise_with_a_secret_in_a_local_variable() -> None:
    secret = "".join(["hunter", "2"])
    raise RuntimeError(f"{len(secret)} characters")


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_shows_no_local_variables(form: Any) -> None:
    stream = Stream()
    logging.configure(service="shop", form=form, stream=stream)
    try:
        raise_with_a_secret_in_a_local_variable()
    except RuntimeError:
        structlog.stdlib.get_logger().exception("failed")
    assert "7 characters" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_values_that_are_bound_are_on_every_line_until_the_next_request(stream: Stream) -> None:
    log_context.begin()
    log_context.bind(order_id="o")
    structlog.stdlib.get_logger().info("first", order_id="its own")
    with log_context.bound(operation_id="p"):
        stdlib.getLogger("lib").warning("second")
    structlog.stdlib.get_logger().info("third")
    log_context.begin()
    structlog.stdlib.get_logger().info("fourth")
    told = [(event.get("order_id"), event.get("operation_id")) for event in stream.events()]
    assert told == [("its own", None), ("o", "p"), ("o", None), (None, None)]


async def test_what_a_task_of_a_request_binds_is_on_the_requests_own_line(stream: Stream) -> None:
    async def part() -> None:
        log_context.bind(operation_id="p")

    log_context.begin()
    await asyncio.create_task(part())
    structlog.stdlib.get_logger().info("request")
    assert stream.events()[0]["operation_id"] == "p"


def test_what_is_no_text_is_written_escaped_rather_than_not_at_all() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8")
    logging.configure(service="shop", form="json", stream=stream)
    structlog.stdlib.get_logger().info("request", path="/\udcff", detail="ü")
    assert b"/\\udcff" in raw.getvalue()
    assert json.loads(raw.getvalue())["event"] == "request"


def test_a_stream_that_is_gone_fails_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    stream = Stream()
    logging.configure(service="shop", form="json", stream=stream)
    stream.close()
    structlog.stdlib.get_logger().info("request")
    assert "a line of the log was lost" in capsys.readouterr().err


def test_a_secret_in_an_exceptions_text_is_redacted(stream: Stream) -> None:
    try:
        raise_with_a_secret_in_its_text()
    except RuntimeError:
        structlog.stdlib.get_logger().exception("failed")
    assert "hunter2" not in stream.getvalue()


def test_on_a_terminal_it_writes_in_colour() -> None:
    class Terminal(Stream):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    logging.configure(service="shop", form="auto", stream=terminal)
    structlog.stdlib.get_logger().info("hello")
    assert "\x1b[" in terminal.getvalue()


def test_a_terminal_is_never_sent_what_it_would_obey() -> None:
    stream = io.StringIO()
    logging.configure(service="s", form="console", stream=stream)
    structlog.get_logger().info(
        "event", path="/\x1b[2Jx\x07", text="a\nFAKE\u202e", **{"key\x9b": ["\x1b[1m"]}
    )
    written = stream.getvalue()
    for control in ("\x1b[2J", "\x07", "\x9b", "\u202e", "\nFAKE"):
        assert control not in written
    assert "\\x1b[2Jx\\x07" in written
