"""Problem details (RFC 9457): every answer that is not a success has this one form.

A service derives its errors from ``Problem`` with a fixed status, slug and title, and raises them
anywhere below an endpoint; ``install`` makes FastAPI answer them, and every other error, alike.
"""

import http
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import structlog
from fastapi import FastAPI
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from servicekit.exchange import watch
from servicekit.trace_ids import current_trace_id

MEDIA_TYPE = "application/problem+json"
_log = structlog.stdlib.get_logger(__name__)


class FieldError(TypedDict):
    """One field of a request that was refused, and why."""

    field: str
    message: str


class Problem(Exception):
    """An answer that is not a success; derive one class per kind."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[FieldError] = (),
        extensions: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = dict(headers or {})
        self.errors = list(errors)
        self.extensions = dict(extensions or {})


class InternalError(Problem):
    """Something unforeseen went wrong; the log has it under the same trace id."""


class ValidationFailed(Problem):
    """A field, parameter or header of the request is not acceptable."""

    status = 422
    slug = "validation-failed"
    title = "The request is not valid"

    @classmethod
    def of(cls, field: str, message: str) -> "ValidationFailed":
        """Return the problem for one field."""
        return cls(f"{field}: {message}", errors=[FieldError(field=field, message=message)])


class PreconditionFailed(Problem):
    """The resource is not at the version that If-Match names."""

    status = 412
    slug = "precondition-failed"
    title = "The version does not match"


class PreconditionRequired(Problem):
    """The request must carry a header that it lacks."""

    status = 428
    slug = "precondition-required"
    title = "A required header is missing"


class IdempotencyKeyReused(Problem):
    """The idempotency key was used before for a different request."""

    status = 422
    slug = "idempotency-key-reused"
    title = "The idempotency key belongs to another request"


class ServiceUnavailable(Problem):
    """A dependency is down or the service is overloaded; nothing was written."""

    status = 503
    slug = "service-unavailable"
    title = "Temporarily unavailable"

    def __init__(self, detail: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)})


class Overloaded(ServiceUnavailable):
    """More requests at once than the service takes; this one was not begun."""

    slug = "overloaded"
    title = "Too many requests at once"


class DeadlineExceeded(ServiceUnavailable):
    """The request's time ran out."""

    slug = "deadline-exceeded"
    title = "Out of time"


class ProblemDocument(BaseModel):
    """Problem details as in RFC 9457."""

    type: str = Field(examples=["/problems/validation-failed"])
    title: str
    status: int
    detail: str
    instance: str
    trace_id: str | None = None
    errors: list[FieldError] | None = None


class MalformedBody(Problem):
    """The body is not one JSON document."""

    status = 400
    slug = "malformed-json"
    title = "The body is not valid JSON"


class TooLarge(Problem):
    """The body is larger than the service takes."""

    status = 413
    slug = "body-too-large"
    title = "The body is too large"


class UnsupportedMediaType(Problem):
    """The body is not declared as JSON."""

    status = 415
    slug = "unsupported-media-type"
    title = "The body must be JSON"


class NotFound(Problem):
    """There is nothing at this path."""

    status = 404
    slug = "not-found"
    title = "Not found"


class MethodNotAllowed(Problem):
    """The method is not possible at this path."""

    status = 405
    slug = "method-not-allowed"
    title = "Method not allowed"


_OF_STATUS: dict[int, type[Problem]] = {
    kind.status: kind
    for kind in (MalformedBody, TooLarge, UnsupportedMediaType, NotFound, MethodNotAllowed)
}


def document(problem: Problem, *, instance: str) -> dict[str, Any]:
    """Return the problem's JSON members."""
    body: dict[str, Any] = {
        "type": f"/problems/{problem.slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": instance,
    }
    if (trace_id := current_trace_id()) is not None:
        body["trace_id"] = trace_id
    if problem.errors:
        body["errors"] = problem.errors
    body.update(jsonable_encoder(problem.extensions))
    return body


def response(problem: Problem, *, instance: str) -> Response:
    """Return the HTTP response of a problem."""
    return JSONResponse(
        document(problem, instance=instance),
        status_code=problem.status,
        headers=problem.headers,
        media_type=MEDIA_TYPE,
    )


def responses(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI ``responses`` of an endpoint that can answer these problems."""
    found: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        known = found.get(kind.status)
        description = f"{kind.title} (`/problems/{kind.slug}`)"
        if known is not None:
            description = f"{known['description']}; {description}"
        found[kind.status] = {
            "description": description,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
        }
    return found


def install(app: FastAPI) -> None:
    """Make ``app`` answer problems, validation errors and HTTP errors as problem details."""
    app.add_exception_handler(Problem, _answer_problem)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_exception_handler(HTTPException, _answer_http)


async def _answer_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - the handler is registered for it
    return response(error, instance=request.url.path)


async def _answer_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    errors = [
        FieldError(field=_field_name(item["loc"]), message=_message(item))
        for item in error.errors()
    ]
    detail = "; ".join(f"{item['field']}: {item['message']}" for item in errors)
    return response(ValidationFailed(detail, errors=errors), instance=request.url.path)


# Where pydantic speaks of its own classes, or of "input" where people have a field.
_MESSAGES: Final = {
    "extra_forbidden": "is not a known field",
    "missing": "is required",
    "model_attributes_type": "must be a JSON object",
}


def _message(item: Mapping[str, Any]) -> str:
    """Return what is wrong in the words of the API's users."""
    known = _MESSAGES.get(item["type"])
    return known or str(item["msg"]).removeprefix("Value error, ")


def _field_name(location: Sequence[str | int]) -> str:
    """Drop the part that says where the field stood, unless it is all there is."""
    parts = [str(part) for part in location]
    if len(parts) > 1 and parts[0] in {"body", "query", "path", "header"}:
        parts = parts[1:]
    return ".".join(parts)


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    kind = _OF_STATUS.get(error.status_code)
    if kind is None:
        kind = _kind_of(error.status_code)
    headers = dict(error.headers or {})
    if kind is MethodNotAllowed:
        headers["Allow"] = ", ".join(_allowed(request))
    problem = kind(_http_detail(request, error), headers=headers)
    return response(problem, instance=request.url.path)


def _allowed(request: Request) -> list[str]:
    """Return every method of this path; the router names those of one of its routes only."""
    return [
        method
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
        if any(
            route.matches({**request.scope, "method": _standing_for(method)})[0] is Match.FULL
            for route in request.app.router.routes
        )
    ]


def _standing_for(method: str) -> str:
    """Return the method by which the router knows it."""
    return "GET" if method == "HEAD" else method


def _kind_of(status_code: int) -> type[Problem]:
    """Return a problem for a status that we have no name for."""
    phrase = http.HTTPStatus(status_code).phrase
    return type(
        "OtherProblem",
        (Problem,),
        {"status": status_code, "slug": phrase.lower().replace(" ", "-"), "title": phrase},
    )


def _http_detail(request: Request, error: HTTPException) -> str:
    if error.status_code == http.HTTPStatus.NOT_FOUND:
        return f"There is nothing at {request.url.path}."
    if error.status_code == http.HTTPStatus.METHOD_NOT_ALLOWED:
        return f"{request.method} is not possible at {request.url.path}."
    return str(error.detail)


class UnhandledErrorMiddleware:
    """Logs an exception that nothing else handled and answers 500 without its text.

    It stands inside the access log and the metrics, so that both see the 500; Starlette's own
    catch-all stands outside of every middleware.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange, watched_send = watch(scope, send)
        try:
            await self.app(scope, receive, watched_send)
        except Exception as error:
            _log.exception("request_failed", error_type=type(error).__qualname__)
            if exchange.answered:
                raise
            problem = InternalError("An unforeseen error occurred. The log has the details.")
            await response(problem, instance=scope["path"])(scope, receive, send)
