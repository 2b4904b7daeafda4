"""The demo's last step: a crash in the middle of an update, and how it is put right."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Final

import httpx

from devkit.claim import Run
from devkit.client import TIMEOUT_SECONDS, Client, now
from devkit.ports import HOST, free_port
from devkit.processes import Process
from devkit.shop import wait_ready
from devkit.stage import Stage

# The invoice service has decided and recorded; the order service has not heard of it yet.
FAILPOINT: Final = "order.after_send"
HEAL_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.1
KILLED: Final = 128 + signal.SIGKILL


def heal(stage: Stage, client: Client, run: Run) -> None:
    """Kill an order service in the middle of an update, and watch the other one finish it."""
    order = str(client.create(quantity=2, value="9.50").raise_for_status().json()["id"])
    key = str(uuid.uuid4())
    body = {"update_time": now(), "quantity": 9}
    crash(stage, run, order, key, body)
    recover(stage, client, order)
    repeat(stage, client, order, key, body)


def crash(stage: Stage, run: Run, order: str, key: str, body: dict[str, object]) -> None:
    """Send an update to an order service that dies between the two databases."""
    stage.step("Kill an order service with SIGKILL in the middle of an update from 2 to 9")
    with doomed(run) as (process, url):
        try:
            reply = httpx.patch(
                f"{url}/orders/{order}",
                json=body,
                headers={"Idempotency-Key": key},
                timeout=TIMEOUT_SECONDS,
                trust_env=False,
            )
        except httpx.TransportError as failure:
            came = f"no answer ({type(failure).__name__})"
        else:
            came = f"{reply.status_code}"
        code = process.wait(timeout_seconds=TIMEOUT_SECONDS)
    stage.check(
        expected=f"no answer, and the process ended by SIGKILL ({KILLED})",
        came=f"{came}, and the process ended ({code})",
        holds=came.startswith("no answer") and code == KILLED,
    )


def recover(stage: Stage, client: Client, order: str) -> None:
    """Watch the running order service finish what the dead one began."""
    stage.step("Watch the surviving order service finish it")
    started = time.monotonic()
    shown = ""
    while True:
        sides = client.sides(order)
        seconds = time.monotonic() - started
        if str(sides) != shown:
            shown = str(sides)
            stage.note(f"after {seconds:4.1f} s  {shown}")
        if (sides.agree and not sides.pending) or seconds > HEAL_SECONDS:
            break
        time.sleep(POLL_SECONDS)
    stage.check(
        expected=f"within {HEAL_SECONDS:.0f} s both sides at 9 x 9.50 = 85.50, nothing pending",
        came=f"after {seconds:.1f} s {sides}",
        holds=sides.agree
        and not sides.pending
        and Decimal(sides.invoice["total"]) == Decimal("85.50"),
    )


def repeat(stage: Stage, client: Client, order: str, key: str, body: dict[str, object]) -> None:
    """Do what a client does that got no answer: ask again under the same key."""
    stage.step("Send the unanswered request again, under the same Idempotency-Key")
    before = client.sides(order)
    reply = client.orders.patch(f"/orders/{order}", json=body, headers={"Idempotency-Key": key})
    after = client.sides(order)
    stage.check(
        expected="204, and no second change",
        came=f"{reply.status_code}; version {before.order['version']} before, "
        f"{after.order['version']} after",
        holds=reply.status_code == httpx.codes.NO_CONTENT and after == before,
    )


@contextmanager
def doomed(run: Run) -> Iterator[tuple[Process, str]]:
    """A second order service on the same databases, made to die at the failpoint."""
    port, metrics_port = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="shop-") as folder:
        process = Process(
            [sys.executable, "-m", "order", "serve"],
            log=Path(folder) / "order.log",
            environment={
                **os.environ,
                **run.order_environment,
                "ORDER_PORT": str(port),
                "ORDER_METRICS_PORT": str(metrics_port),
                "ORDER_FAILPOINTS": f"{FAILPOINT}=kill",
            },
        )
        url = f"http://{HOST}:{port}"
        with process:
            wait_ready("The second order service", process, url)
            yield process, url
