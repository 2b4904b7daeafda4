"""The application that both services start from, over real HTTP."""

import asyncio
import json
import logging as stdlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
import httpx
import pytest
from fastapi import APIRouter, FastAPI
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from servicekit import access_log, application, deadlines, health
from servicekit.failpoints import Failpoints
from servicekit.health import NotReady
from servicekit.json_body import StrictJsonRoute
from servicekit.lifecycle import Lifecycle
from servicekit.problems import PreconditionFailed
from servicekit.runtime import Runtime
from servicekit.settings import ServerSettings
from servicekit.telemetry import Telemetry
from servicekit.testing import spans
from servicekit.testing.metrics import exposition
from servicekit.testing.polling import eventually
from servicekit.testing.server import serving


class Thing(BaseModel):
    size: int


class World:
    """What the routes below do, and what they wait for."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.entered = asyncio.Semaphore(0)
        self.cancelled = False
        self.problem: Exception | None = None
        self.checked = 0

    def router(self) -> APIRouter:
        router = APIRouter(route_class=StrictJsonRoute)

        @router.get("/things/{thing_id}")
        async def read(thing_id: int) -> dict[str, float]:
            access_log.bind(operation_id="op-1")
            return {"left": deadlines.remaining_seconds(at_most_seconds=1000)}

        @router.post("/things")
        async def create(thing: Thing) -> Thing:
            return thing

        @router.get("/gate")
        async def wait() -> None:
            self.entered.release()
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise

        @router.get("/bug")
        async def bug() -> None:
            raise ZeroDivisionError("hunter2")

        @router.get("/problem")
        async def problem() -> None:
            raise PreconditionFailed("no", headers={"ETag": '"1"'}, extensions={"hint": 17})

        return router

    async def check(self) -> None:
        self.checked += 1
        if self.problem is not None:
            raise self.problem


@pytest.fixture
def world() -> World:
    return World()


def runtime_with(telemetry: Telemetry) -> Runtime:
    return Runtime(
        service="things",
        version="1",
        lifecycle=Lifecycle(),
        registry=CollectorRegistry(),
        telemetry=telemetry,
        failpoints=Failpoints(()),
    )


def build(
    world: World, runtime: Runtime, *, grace_seconds: float = 0.0, **settings: float | str
) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield

    app = application.build(
        runtime=runtime,
        settings=ServerSettings.model_validate(
            {"port": 0, "metrics_port": 0, "request_timeout_seconds": 60, **settings}
        ),
        title="Things",
        summary="",
        description="",
        checks={"dependency": world.check},
        lifespan=lifespan,
        tags={"things": "Things."},
        deadline_grace_seconds=grace_seconds,
    )
    app.include_router(world.router())
    return app


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(app) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture
def runtime() -> Runtime:
    return runtime_with(Telemetry(None))


@pytest.fixture
async def client(world: World, runtime: Runtime) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(build(world, runtime)) as client:
        yield client


async def test_a_problem_is_answered_with_its_members_headers_and_a_trace_id(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/problem")
    body = answer.json()
    assert len(body.pop("trace_id")) == 32
    assert body == {
        "type": "/problems/precondition-failed",
        "title": "The version does not match",
        "status": 412,
        "detail": "no",
        "instance": "/problem",
        "hint": 17,
    }
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["etag"] == '"1"'


async def test_an_unforeseen_error_is_logged_counted_and_answered_without_its_text(
    client: httpx.AsyncClient, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await client.get("/bug")
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal-error")
    assert "hunter2" not in answer.text
    assert "ZeroDivisionError: hunter2" in caplog.text
    metrics = exposition(runtime.registry)
    assert 'route="/bug",status="500"' in metrics


async def test_every_request_is_logged_once_with_route_status_and_what_the_endpoint_bound(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(stdlib.INFO):
        await client.get("/things/1")
        await client.get("/things/2")
        await client.get("/livez")
    lines = [record.message for record in caplog.records if "event='request'" in record.message]
    assert len(lines) == 2
    assert all("route='/things/{thing_id}'" in line for line in lines)
    assert all("status=200" in line and "duration_ms=" in line for line in lines)
    assert all("operation_id='op-1'" in line for line in lines)


async def test_the_metric_names_the_route_not_the_path(
    client: httpx.AsyncClient, runtime: Runtime
) -> None:
    for thing in range(3):
        await client.get(f"/things/{thing}")
        await client.get(f"/nothing/{thing}")
    metrics = exposition(runtime.registry)
    name = "http_server_request_duration_seconds_count"
    assert f'{name}{{method="GET",route="/things/{{thing_id}}",status="200"}} 3.0' in metrics
    assert f'{name}{{method="GET",route="unmatched",status="404"}} 3.0' in metrics


async def test_the_callers_deadline_is_taken_if_it_is_the_shorter_one(
    client: httpx.AsyncClient,
) -> None:
    own = (await client.get("/things/1")).json()["left"]
    assert 20 < own <= 60
    callers = await client.get("/things/1", headers={"Request-Timeout-Ms": "20000"})
    assert callers.json()["left"] <= 20
    longer = await client.get("/things/1", headers={"Request-Timeout-Ms": "900000"})
    assert longer.json()["left"] <= 60


async def test_work_beyond_the_deadline_is_cancelled_and_answered_with_503(
    client: httpx.AsyncClient, world: World
) -> None:
    answer = await client.get("/gate", headers={"Request-Timeout-Ms": "50"})
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/deadline-exceeded")
    assert "retry-after" in answer.headers
    assert world.cancelled


async def test_the_grace_after_a_deadline_is_for_changes(world: World, runtime: Runtime) -> None:
    async with client_of(build(world, runtime, grace_seconds=3600.0)) as client:
        answer = await client.get("/gate", headers={"Request-Timeout-Ms": "50"})
    assert answer.status_code == 503


async def test_more_requests_than_it_takes_are_shed_but_probes_are_answered(
    world: World, runtime: Runtime
) -> None:
    async with client_of(build(world, runtime, max_concurrent_requests=1)) as client:
        first = asyncio.create_task(client.get("/gate"))
        await world.entered.acquire()
        shed = await client.get("/things/1", headers={"Request-Timeout-Ms": "200"})
        probe = await client.get("/livez")
        world.gate.set()
        assert (await first).status_code == 200
        after = await client.get("/things/1")
    assert (shed.status_code, shed.json()["type"]) == (503, "/problems/overloaded")
    assert "retry-after" in shed.headers
    assert (probe.status_code, after.status_code) == (200, 200)


async def test_what_is_refused_is_refused_before_any_of_it_is_read(
    world: World, runtime: Runtime
) -> None:
    app = build(world, runtime, max_concurrent_requests=1)
    received, sent = 0, list[Message]()

    async def receive() -> Message:
        nonlocal received
        received += 1
        return {"type": "http.request", "body": b"{}"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": "/no such path",
        "query_string": b"",
        "headers": [(b"request-timeout-ms", b"50"), (b"content-type", b"text/rubbish")],
    }
    async with client_of(app) as client:
        first = asyncio.create_task(client.get("/gate"))
        await world.entered.acquire()
        await app(scope, receive, send)
        world.gate.set()
        await first
    assert (sent[0]["status"], received) == (503, 0)
    assert dict(sent[0]["headers"])[b"retry-after"].isdigit()


async def test_readiness_names_each_check_and_liveness_depends_on_none(
    client: httpx.AsyncClient, world: World, runtime: Runtime
) -> None:
    assert (await client.get("/readyz")).json()["checks"] == {"draining": "ok", "dependency": "ok"}
    for problem, shown in [
        (NotReady("needs 0002: run migrate"), "needs 0002: run migrate"),
        (ValueError("password=hunter2"), "failed: ValueError"),
    ]:
        world.problem = problem

        async def says(shown: str = shown) -> bool:
            answer = await client.get("/readyz")
            return answer.status_code == 503 and answer.json()["checks"]["dependency"] == shown

        await eventually(says)
    world.problem = None

    async def ready() -> bool:
        return (await client.get("/readyz")).status_code == 200

    await eventually(ready)
    runtime.lifecycle.start_draining()
    draining = await client.get("/readyz")
    assert (draining.status_code, draining.json()["checks"]["draining"]) == (503, "draining")
    for path in ("/livez", "/ping"):
        assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("silent", [False, True])
async def test_why_a_check_fails_is_in_the_log_once_and_not_with_every_probe(
    world: World, caplog: pytest.LogCaptureFixture, *, silent: bool
) -> None:
    async def check() -> None:
        world.checked += 1
        if silent:
            await asyncio.Event().wait()
        raise ValueError("port 5432 failed")

    probes = health.Probes(
        lifecycle=Lifecycle(), checks={"database": check}, timeout_seconds=0.01, fresh_seconds=0
    )
    app = FastAPI()
    app.include_router(health.router(probes))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://pod") as client:
        for _ in range(3):
            assert (await client.get("/readyz")).status_code == 503
    assert world.checked == 3
    assert caplog.text.count("readiness_check_failed") == 1
    assert ("no answer within 0.01 s" if silent else "port 5432 failed") in caplog.text


async def test_a_flood_of_probes_shares_one_check(client: httpx.AsyncClient, world: World) -> None:
    answers = await asyncio.gather(*(client.get("/readyz") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert world.checked < 10


@pytest.mark.parametrize("prefix", ["", "/shop"])
async def test_a_probe_is_answered_before_anything_else_is_done_for_it(
    world: World, runtime: Runtime, caplog: pytest.LogCaptureFixture, prefix: str
) -> None:
    reached: list[str] = []

    class Reached:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                reached.append(scope["path"])
            await self.app(scope, receive, send)

    app = build(world, runtime, root_path=prefix)
    app.user_middleware.insert(1, Middleware(Reached))
    world.problem = NotReady("no")
    async with client_of(app) as client:
        with caplog.at_level(stdlib.INFO):
            for path, status in [("/ping", 200), ("/livez", 200), ("/readyz", 503)]:
                read = await client.get(f"{prefix}{path}")
                looked = await client.head(f"{prefix}{path}")
                assert (read.status_code, looked.status_code) == (status, status)
                assert looked.headers["content-length"] == str(len(read.content))
            assert not reached
            assert "event='request'" not in caplog.text
        assert 'route="/' not in exposition(runtime.registry)
        # What is no probe is a request like any other.
        assert (await client.post(f"{prefix}/livez")).status_code == 405
    assert reached == [f"{prefix}/livez"]


async def test_one_span_a_request_named_by_its_route_in_the_callers_trace(world: World) -> None:
    trace_id, parent_id = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    with spans.recorded() as (telemetry, recorded):
        runtime = runtime_with(telemetry)
        async with client_of(build(world, runtime)) as client:
            for path in ("/livez", "/readyz", "/ping", "/docs", "/openapi.json"):
                await client.get(path)
            await client.post("/things", json={"size": 1})
            answer = await client.get(
                "/problem", headers={"traceparent": f"00-{trace_id}-{parent_id}-01"}
            )
            await client.get("/bug")
        created, refused, failed = recorded.all()
    assert [span.name for span in (created, refused, failed)] == [
        "POST /things",
        "GET /problem",
        "GET /bug",
    ]
    assert all(span.kind is SpanKind.SERVER for span in (created, refused, failed))
    assert refused.context is not None
    assert refused.parent is not None
    assert f"{refused.context.trace_id:032x}" == trace_id == answer.json()["trace_id"]
    assert f"{refused.parent.span_id:016x}" == parent_id
    assert failed.status.status_code is StatusCode.ERROR


async def test_the_request_metric_carries_the_trace_id_as_its_exemplar(world: World) -> None:
    with spans.recorded() as (telemetry, recorded):
        runtime = runtime_with(telemetry)
        async with client_of(build(world, runtime)) as client:
            await client.get("/things/1")
        (span,) = recorded.all()
    assert span.context is not None
    metrics = exposition(runtime.registry)
    assert f'# {{trace_id="{span.context.trace_id:032x}"}}' in metrics


async def test_the_files_of_the_documentation_need_the_disk_and_threads_only_once(
    world: World, runtime: Runtime
) -> None:
    app = build(world, runtime)
    path = "/docs-assets/swagger-ui-bundle.js"
    parts: list[int] = []

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        async def counting(message: Message) -> None:
            parts.append(len(message.get("body", b"")))
            await send(message)

        await app(scope, receive, counting)

    transport = httpx.ASGITransport(counted)
    async with httpx.AsyncClient(transport=transport, base_url="http://pod") as client:
        first = await client.get(path)
        threads = anyio.to_thread.current_default_thread_limiter()
        threads.total_tokens, usual = 1, threads.total_tokens
        try:
            async with threads:  # nobody else gets one
                again = await asyncio.wait_for(client.get(path), 60)
        finally:
            threads.total_tokens = usual
    assert first.status_code == 200
    assert first.headers["content-type"].partition(";")[0].endswith("javascript")
    assert first.headers["cache-control"] == "public, max-age=3600"
    assert int(first.headers["content-length"]) == len(first.content) > 1_000_000
    assert again.content == first.content
    # Whoever reads slowly holds no more than that.
    assert max(parts) <= 65_536


async def test_the_api_document_is_made_once_however_often_it_is_asked_for(
    world: World, runtime: Runtime
) -> None:
    app = build(world, runtime)
    make, made = app.openapi, 0

    def counted() -> dict[str, Any]:
        nonlocal made
        made += 1
        return make()

    app.openapi = counted  # type: ignore[method-assign]
    async with client_of(app) as client:
        answers = await asyncio.gather(*(client.get("/openapi.json") for _ in range(3)))
        head = await client.head("/openapi.json")
    assert made == 1
    (text,) = {answer.text for answer in answers}
    assert answers[0].headers["content-type"] == "application/json"
    assert head.headers["content-length"] == str(len(answers[0].content))
    assert "ProblemDocument" in json.loads(text)["components"]["schemas"]
