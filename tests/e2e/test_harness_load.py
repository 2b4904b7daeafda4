"""The load generator against a server whose failures are known."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest
from tests.e2e.harness import load
from tests.e2e.harness.load import Tally, generate

SUCCESS = {"POST": 201, "PATCH": 204, "GET": 200, "DELETE": 204}
# containerd and CRI-O cut longer lines in pieces; kubectl logs counts and shows the pieces.
CONTAINER_LOG_LINE_BYTES = 16 * 1024


@contextmanager
def server(status_of: Callable[[str, int], int], *, new_ids: bool = False) -> Iterator[str]:
    """Answers the nth request with ``status_of(method, n)``; 0 closes the connection instead."""
    numbers = itertools.count(1)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            number = next(numbers)
            status = status_of(self.command, number)
            if status == 0:
                self.close_connection = True
                return
            body = (
                b"" if status == 204 else json.dumps({"id": str(number if new_ids else 7)}).encode()
            )
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    for method in SUCCESS:
        setattr(Handler, f"do_{method}", Handler.answer)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        thread = Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()
            thread.join()


class Enough(Tally):
    """Ends the load after so many requests."""

    def __init__(self, requests: int, stop: asyncio.Event) -> None:
        super().__init__()
        self._requests, self._stop = requests, stop

    def count(self, outcome: str, detail: str, *, seconds: float) -> None:
        super().count(outcome, detail, seconds=seconds)
        if self.sent >= self._requests:
            self._stop.set()


async def load_on(url: str, *, requests: int, workers: int = 2) -> Tally:
    stop = asyncio.Event()
    tally = Enough(requests, stop)
    await generate(url, workers=workers, stop=stop, tally=tally, limit_seconds=60)
    return tally


async def test_a_service_without_a_fault_has_no_failed_request() -> None:
    with server(lambda method, _: SUCCESS[method]) as url:
        tally = await load_on(url, requests=60)
    assert tally.sent >= 60
    assert tally.failed == 0
    assert tally.failures == []


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (202, "undecided"),
        (409, "conflict"),
        (423, "locked"),
        (503, "unavailable"),
        (500, "server error"),
        (502, "server error"),
        (404, "refused"),
        (0, "broken connection"),
    ],
)
async def test_each_failure_is_counted_once_and_by_its_kind(status: int, outcome: str) -> None:
    with server(lambda method, n: status if n % 10 == 0 else SUCCESS[method]) as url:
        tally = await load_on(url, requests=40)
    assert set(tally.outcomes) == {"ok", outcome}
    assert tally.failed == tally.outcomes[outcome] == tally.sent // 10
    assert all(f" {outcome} after " in failure for failure in tally.failures)


async def test_a_service_that_is_away_fails_every_request() -> None:
    with server(lambda method, _: SUCCESS[method]) as url:
        pass
    tally = await load_on(url, requests=3)
    assert tally.outcomes["no connection"] == tally.sent == tally.failed


def test_an_outage_is_as_long_as_nothing_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([100.0, 101.0, 113.5, 114.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    tally = Tally()
    for outcome in ("ok", "ok", "unavailable", "unavailable", "ok", "ok"):
        tally.count(outcome, "", seconds=0.1)
    assert tally.longest_gap_seconds == 12.5
    assert json.loads(tally.as_json(done=True))["longest_gap_seconds"] == 12.5


async def test_what_the_service_confirmed_is_remembered_for_each_order() -> None:
    with server(lambda method, _: SUCCESS[method], new_ids=True) as url:
        tally = await load_on(url, requests=40, workers=1)
    known = [(order.quantity, order.deleted) for order in tally.orders.values()]
    assert known[:2] == [(3, False), (3, True)]
    assert all(order.certain for order in tally.orders.values())


@pytest.mark.parametrize(
    ("status", "certain"), [(423, True), (503, True), (500, False), (0, False)]
)
async def test_an_order_is_uncertain_after_a_failure_that_may_have_had_an_effect(
    status: int, certain: bool
) -> None:
    with server(lambda method, _: status if method == "PATCH" else SUCCESS[method]) as url:
        tally = await load_on(url, requests=3, workers=1)
    (order,) = tally.orders.values()
    assert order == load.Acknowledged(quantity=1, certain=certain)


async def test_deleting_an_order_does_not_make_a_doubtful_quantity_certain() -> None:
    with server(
        lambda method, _: 500 if method == "PATCH" else SUCCESS[method], new_ids=True
    ) as url:
        tally = await load_on(url, requests=14, workers=1)
    second = list(tally.orders.values())[1]
    assert second == load.Acknowledged(quantity=1, deleted=True, certain=False)


def test_a_reply_that_comes_too_late_is_a_timeout() -> None:
    assert load.outcome_of_error(httpx.ReadTimeout("late")) == "timeout"


async def test_it_ends_by_itself_at_its_limit() -> None:
    tally, stop = Tally(), asyncio.Event()
    with server(lambda method, _: SUCCESS[method]) as url:
        await generate(url, workers=1, stop=stop, tally=tally, limit_seconds=0.2)
    assert stop.is_set()
    assert tally.failed == 0


def test_the_program_reports_as_it_goes_and_ends_with_the_final_count() -> None:
    with server(lambda method, n: 500 if n == 5 else SUCCESS[method]) as url:
        options = ["--url", url, "--workers", "2", "--limit-seconds", "60"]
        with subprocess.Popen(
            [sys.executable, load.__file__, *options], stdout=subprocess.PIPE, text=True
        ) as program:
            assert program.stdout is not None
            lines = map(json.loads, program.stdout)
            running = next(line for line in lines if line["sent"] >= 10)
            program.terminate()
            last = list(lines)[-1]
    assert not running["done"]
    assert last["done"]
    assert last["failed"] == last["outcomes"]["server error"] == 1
    assert last["sent"] == sum(last["outcomes"].values()) >= running["sent"]
    assert program.returncode == 0


def test_the_final_count_comes_back_whole_though_no_line_is_too_long_for_a_container_log() -> None:
    orders = {f"order-{number}": load.Acknowledged(quantity=number) for number in range(500)}
    tally = load.Tally(sent=500, orders=orders)
    tally.outcomes["ok"] = 500
    lines = [tally.as_json(done=False), *tally.final_lines()]

    assert max(map(len, lines)) < CONTAINER_LOG_LINE_BYTES
    assert load.read_final(lines[:-1]) is None
    final = load.read_final(lines)
    assert final is not None
    assert final["outcomes"] == {"ok": 500}
    assert final["orders"]["order-7"] == {"quantity": 7, "deleted": False, "certain": True}
    assert len(final["orders"]) == 500
