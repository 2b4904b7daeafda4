"""Probes: ``/ping`` for people, ``/livez`` without any I/O, ``/readyz`` naming each check."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog
from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from servicekit.lifecycle import Lifecycle

PATHS: Final = frozenset({"/ping", "/livez", "/readyz"})
_CHECK_TIMEOUT_SECONDS: Final = 2.0
_log = structlog.stdlib.get_logger(__name__)

Check = Callable[[], Awaitable[None]]
"""Returns if all is well, raises ``NotReady`` (or whatever the dependency raises) otherwise."""


class NotReady(Exception):
    """A readiness check failed for a reason that may be shown."""


class Pong(BaseModel):
    """The answer to a ping."""

    message: str = "pong"


class Liveness(BaseModel):
    """The process runs its event loop."""

    status: str = "ok"


class Readiness(BaseModel):
    """Whether the service can do its work, check by check."""

    status: str = Field(description="`ok` or `unavailable`.")
    checks: dict[str, str] = Field(description="`ok`, or what is wrong, by check.")


def router(
    *,
    lifecycle: Lifecycle,
    checks: Mapping[str, Check],
    timeout_seconds: float = _CHECK_TIMEOUT_SECONDS,
) -> APIRouter:
    """Return the routes of the three probes.

    Args:
        lifecycle: says whether the process drains.
        checks: what readiness depends on, by name.
        timeout_seconds: limit for each check; they run side by side.
    """
    routes = APIRouter(tags=["health"])

    @routes.get("/ping")
    async def ping() -> Pong:
        """Answer a person who asks whether anybody is there."""
        return Pong()

    @routes.get("/livez")
    async def livez() -> Liveness:
        """Say that the process lives, also while it drains or a dependency is down."""
        return Liveness()

    @routes.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
    async def readyz() -> JSONResponse:
        """Say whether this replica should get requests."""
        results = {"draining": "draining" if lifecycle.draining else "ok"}
        outcomes = await asyncio.gather(
            *(_outcome(name, check, timeout_seconds) for name, check in checks.items())
        )
        results.update(zip(checks, outcomes, strict=True))
        ready = all(result == "ok" for result in results.values())
        body = Readiness(status="ok" if ready else "unavailable", checks=results)
        return JSONResponse(body.model_dump(), status_code=200 if ready else 503)

    return routes


async def _outcome(name: str, check: Check, timeout_seconds: float) -> str:
    """Run one check; whatever it raises means not ready, and only the log has the details."""
    try:
        async with asyncio.timeout(timeout_seconds):
            await check()
    except TimeoutError:
        return f"no answer within {timeout_seconds:g} s"
    except NotReady as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - any failure of a dependency means not ready
        _log.warning("readiness_check_failed", check=name, error=str(error))
        return f"failed: {type(error).__name__}"
    return "ok"
