"""What the service kit costs a request, beside FastAPI alone: ``python -m bench.kit``.

Both applications have the same routes and are called in this process, without a socket, so that
nothing is measured but them. Rounds alternate; the figure is the CPU time of the best one, which
other programs disturb least.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import uvloop
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, ConfigDict
from starlette.types import ASGIApp, Message, Scope

from servicekit import application, logging
from servicekit.failpoints import Failpoints
from servicekit.json_body import StrictJsonRoute
from servicekit.runtime import Runtime
from servicekit.settings import ServerSettings

ID: Final = "1333648e-0000-4000-8000-000000000000"
BODY: Final = json.dumps({"user_id": ID, "item_id": ID, "quantity": 2, "value": "9.50"}).encode()


class Order(BaseModel):
    """As much as an order brings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user_id: UUID
    item_id: UUID
    quantity: int
    value: Decimal


def main() -> int:
    """Measure, print the table, and fail if the kit costs more than was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.kit", description=__doc__)
    parser.add_argument("--requests", type=int, default=50, help="in a round (default 50)")
    parser.add_argument("--rounds", type=int, default=100, help="(default 100)")
    parser.add_argument("--share", type=float, help="exit 1 if the kit costs more of FastAPI")
    options = parser.parse_args()
    found = uvloop.run(_measure(options.requests, options.rounds))
    worst = 0.0
    print("| request | FastAPI alone | with the kit | the kit, of FastAPI |")  # noqa: T201
    print("|---|---|---|---|")  # noqa: T201
    for work, (alone, kit) in found.items():
        share = (kit - alone) / alone
        worst = max(worst, share)
        print(f"| {work} | {alone:.0f} µs | {kit:.0f} µs | {share:.2f} |")  # noqa: T201
    return int(options.share is not None and worst > options.share)


async def _measure(requests: int, rounds: int) -> dict[str, tuple[float, float]]:
    with open(os.devnull, "w") as nowhere:  # noqa: ASYNC230, PTH123 - opened once
        logging.configure(service="bench", form="json", stream=nowhere)
        apps: dict[str, FastAPI] = {"alone": _bare(), "kit": _kit()}
        found: dict[str, tuple[float, float]] = {}
        for work, scope, body in (("read", _scope("GET"), b""), ("change", _scope("POST"), BODY)):
            best = dict.fromkeys(apps, float("inf"))
            for _ in range(rounds):
                for name, app in apps.items():
                    best[name] = min(best[name], await _round(app, scope, body, requests))
            found[work] = (best["alone"], best["kit"])
    return found


async def _round(app: ASGIApp, scope: Callable[[], Scope], body: bytes, requests: int) -> float:
    """Return the microseconds of CPU time that a request took."""
    request: Message = {"type": "http.request", "body": body, "more_body": False}
    statuses: set[int] = set()

    async def receive() -> Message:
        return request

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.add(message["status"])

    started = time.process_time()
    for _ in range(requests):
        await app(scope(), receive, send)
    seconds = time.process_time() - started
    if statuses != {200}:
        raise RuntimeError(f"answered {statuses}")
    return seconds / requests * 1_000_000


def _scope(method: str) -> Callable[[], Scope]:
    path = f"/orders/{ID}"
    headers = [(b"host", b"127.0.0.1:3000"), (b"accept", b"*/*"), (b"user-agent", b"bench")]
    if method == "POST":
        headers += [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(BODY)).encode()),
        ]

    def scope() -> Scope:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 3000),
            "client": ("127.0.0.1", 50_000),
            "scheme": "http",
            "root_path": "",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": list(headers),
            "state": {},
        }

    return scope


def _routes(router: APIRouter) -> APIRouter:
    @router.get("/orders/{order_id}")
    async def read(order_id: UUID) -> dict[str, Any]:
        return {"id": order_id}

    @router.post("/orders/{order_id}")
    async def change(order_id: UUID, order: Order) -> dict[str, Any]:
        return {"id": order_id, "quantity": order.quantity}

    return router


def _bare() -> FastAPI:
    app = FastAPI()
    app.include_router(_routes(APIRouter()))
    return app


def _kit() -> FastAPI:
    @asynccontextmanager
    async def nothing(_: FastAPI) -> AsyncIterator[None]:
        yield

    runtime = Runtime.bare(service="bench", failpoints=Failpoints([]))
    app = application.build(
        runtime=runtime,
        settings=ServerSettings(port=0, metrics_port=0, request_timeout_seconds=15.0),
        title="Bench",
        summary="",
        description="",
        checks={},
        lifespan=nothing,
        tags={},
    )
    app.include_router(_routes(APIRouter(route_class=StrictJsonRoute)))
    return app


if __name__ == "__main__":
    sys.exit(main())
