"""The web application that both services start from: middlewares, problems, probes, telemetry."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import structlog
from fastapi import FastAPI
from starlette.middleware import Middleware

from servicekit import database, documentation, health, problems
from servicekit.access_log import AccessLogMiddleware
from servicekit.admission import AdmissionMiddleware
from servicekit.auth.authenticators import Tokens
from servicekit.auth.documentation import describe as describe_authentication
from servicekit.auth.middleware import AuthenticationMiddleware
from servicekit.auth.settings import is_loopback
from servicekit.body_limit import BodyLimitMiddleware
from servicekit.deadlines import DeadlineMiddleware
from servicekit.head import HeadMiddleware
from servicekit.request_metrics import RequestMetrics, RequestMetricsMiddleware
from servicekit.root_path import RootPathMiddleware
from servicekit.runtime import Runtime
from servicekit.settings import ServerSettings

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

# Probes are asked by what has no token, and the documentation says how one is shown.
_PUBLIC: Final = health.PATHS | documentation.PATHS
_log = structlog.stdlib.get_logger(__name__)


def build(
    *,
    runtime: Runtime,
    settings: ServerSettings,
    title: str,
    summary: str,
    description: str,
    checks: Mapping[str, health.Check],
    lifespan: Lifespan,
    tags: Mapping[str, str],
    deadline_grace_seconds: float = 0.0,
    before_admission: Sequence[Middleware] = (),
) -> FastAPI:
    """Return an application with everything but the service's own routes.

    Args:
        runtime: the parts of this process.
        settings: limits on bodies, time and concurrency, and who may call.
        title: the API's name in its documentation.
        summary: one line about it.
        description: Markdown about it.
        checks: what ``/readyz`` depends on, by name.
        lifespan: opens and closes the service's resources; must do no I/O before it yields, so
            that the service starts while a dependency is down.
        tags: the groups of the API's operations, each with what they are about.
        deadline_grace_seconds: see ``DeadlineMiddleware``.
        before_admission: what stands where requests have shown who they are and taken no place yet.

    Raises:
        ValueError: a file that says who may call cannot be read, or is wrong.
    """
    tokens = Tokens.create(settings)
    probes = health.Probes(lifecycle=runtime.lifecycle, checks=checks)
    app = FastAPI(
        title=title,
        summary=summary,
        description=description,
        version=runtime.version,
        telemetry=runtime.telemetry.fastapi_config(),
        lifespan=_flushing(_authenticating(lifespan, tokens, settings), runtime),
        contact={"name": "The maintainers of the shop"},
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        servers=[{"url": settings.root_path or "/", "description": "This service."}],
        openapi_tags=[
            {"name": name, "description": text} for name, text in {**tags, **health.TAG}.items()
        ],
        # Documentation has pages and a document of its own, made once.
        openapi_url=None,
        generate_unique_id_function=lambda route: route.name,
        # Media types are judged by StrictJsonRoute, which names the remedy.
        strict_content_type=False,
        redirect_slashes=False,
        middleware=[
            Middleware(health.ProbeMiddleware, probes=probes, root_path=settings.root_path),
            *_middleware(runtime, settings, tokens, deadline_grace_seconds, before_admission),
        ],
    )
    problems.install(app)
    database.install_problems(app)
    app.include_router(health.router(probes))
    documentation.install(app)
    _document_problems(app, authenticates=tokens is not None)
    return app


def _middleware(
    runtime: Runtime,
    settings: ServerSettings,
    tokens: Tokens | None,
    deadline_grace_seconds: float,
    before_admission: Sequence[Middleware],
) -> list[Middleware]:
    """Return the middlewares for all but probes, the outermost first."""
    return [
        Middleware(RootPathMiddleware, root_path=settings.root_path),
        Middleware(AccessLogMiddleware),
        Middleware(RequestMetricsMiddleware, metrics=RequestMetrics(runtime.registry)),
        Middleware(problems.UnhandledErrorMiddleware),
        # The deadline counts from the arrival, the wait for a place included.
        Middleware(
            DeadlineMiddleware,
            limit_seconds=settings.request_timeout_seconds,
            grace_seconds=deadline_grace_seconds,
        ),
        # Whom nobody knows takes no place.
        Middleware(AuthenticationMiddleware, authenticator=tokens, public_paths=_PUBLIC),
        *before_admission,
        Middleware(
            AdmissionMiddleware,
            maximum_requests=settings.max_concurrent_requests,
            registry=runtime.registry,
            limit_seconds=settings.request_timeout_seconds,
            apart_paths=documentation.PATHS,
        ),
        Middleware(HeadMiddleware),
        Middleware(BodyLimitMiddleware, maximum_bytes=settings.max_body_bytes),
    ]


def _authenticating(
    lifespan: Lifespan, tokens: Tokens | None, settings: ServerSettings
) -> Lifespan:
    """Close what authentication has open, and say so if anybody may call from anywhere."""

    @asynccontextmanager
    async def authenticating(app: FastAPI) -> AsyncIterator[None]:
        if tokens is None and not is_loopback(settings.host):
            _log.warning("authentication_is_off", host=settings.host)
        try:
            async with lifespan(app):
                yield
        finally:
            if tokens is not None:
                await tokens.aclose()

    return authenticating


def _flushing(lifespan: Lifespan, runtime: Runtime) -> Lifespan:
    """Send the last spans when the resources are closed: uvicorn ends the process right after."""

    @asynccontextmanager
    async def flushing(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with lifespan(app):
                yield
        finally:
            await runtime.telemetry.shutdown()

    return flushing


def _document_problems(app: FastAPI, *, authenticates: bool) -> None:
    """Put problem details into the OpenAPI document, in place of FastAPI's own error model."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            schemas["ProblemDocument"] = problems.ProblemDocument.model_json_schema(
                ref_template="#/components/schemas/{model}"
            )
            schemas.update(schemas["ProblemDocument"].pop("$defs", {}))
            schemas.pop("HTTPValidationError", None)
            schemas.pop("ValidationError", None)
            _complete(schema)
            describe_authentication(schema, required=authenticates, public_paths=_PUBLIC)
            app.openapi_schema = schema
        return app.openapi_schema

    # The documented way to change the document:
    # https://fastapi.tiangolo.com/how-to/extending-openapi/
    app.openapi = openapi  # type: ignore[method-assign]


def _complete(schema: dict[str, Any]) -> None:
    """Document what any operation can answer, and validation errors in our own form."""
    validation = problems.responses(problems.ValidationFailed)[422]
    anywhere = problems.responses(problems.InternalError, problems.ServiceUnavailable)
    with_body = problems.responses(
        problems.MalformedBody, problems.TooLarge, problems.UnsupportedMediaType
    )
    for path, operations in schema.get("paths", {}).items():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                parameter["schema"] = _present(parameter["schema"])
                if parameter["in"] == "query":
                    parameter["description"] += " To be given once at most."
            answers = operation.setdefault("responses", {})
            if "application/json" in answers.get("422", {}).get("content", {}):
                answers["422"] = validation
            added = {} if path in health.PATHS else anywhere
            if "requestBody" in operation:
                added = added | with_body
            for status, answer in added.items():
                answers.setdefault(str(status), answer)


def _present(schema: dict[str, Any]) -> dict[str, Any]:
    """Leave null out of a parameter's type: one that is left out is not null, it is not there."""
    kinds: list[dict[str, Any]] = [
        kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}
    ]
    if len(kinds) != 1:
        return schema
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    return kinds[0] | rest
