"""Probes: ``/ping`` for people, ``/livez`` without any I/O, ``/readyz`` naming each check."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog
from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Receive, Scope, Send

from servicekit.lifecycle import Lifecycle
from servicekit.pace import Pace
from servicekit.quiet_log import Interval

_READINESS: Final = "/readyz"
PATHS: Final = frozenset({"/ping", "/livez", _READINESS})
_METHODS: Final = frozenset({"GET", "HEAD"})
_CHECK_TIMEOUT_SECONDS: Final = 2.0
# Probes come every few seconds; whoever asks more often is told what was found just now.
_FRESH_SECONDS: Final = 0.5
_log = structlog.stdlib.get_logger(__name__)

Check = Callable[[], Awaitable[None]]
"""Returns if all is well, raises ``NotReady`` (or whatever the dependency raises) otherwise."""


class NotReady(Exception):
    """A readiness check failed for a reason that may be shown."""


TAG: Final = {"health": "Whether the service lives, and whether it can do its work."}


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


_ALWAYS: Final = {
    "/ping": Pong().model_dump_json().encode(),
    "/livez": Liveness().model_dump_json().encode(),
}


class Probes:
    """Answers the probes.

    Args:
        lifecycle: says whether the process drains.
        checks: what readiness depends on, by name.
        timeout_seconds: limit for each check; they run side by side.
        fresh_seconds: how long what was found is not asked for again.
    """

    def __init__(
        self,
        *,
        lifecycle: Lifecycle,
        checks: Mapping[str, Check],
        timeout_seconds: float = _CHECK_TIMEOUT_SECONDS,
        fresh_seconds: float = _FRESH_SECONDS,
    ) -> None:
        self._lifecycle = lifecycle
        self._findings = _Findings(
            checks, timeout_seconds=timeout_seconds, fresh_seconds=fresh_seconds
        )
        self._pace = Pace()

    async def answer(self, path: str) -> tuple[int, bytes]:
        """Return the status and the JSON body for one of ``PATHS``."""
        await self._pace.wait()
        if path != _READINESS:
            return 200, _ALWAYS[path]
        found = await self._findings.get()
        results = {"draining": "draining" if self._lifecycle.draining else "ok", **found}
        ready = all(result == "ok" for result in results.values())
        body = Readiness(status="ok" if ready else "unavailable", checks=results)
        return 200 if ready else 503, body.model_dump_json().encode()


class ProbeMiddleware:
    """Answers the probes before anything else is done for them.

    They come from what cannot show who it is, and may come in any number. So they are neither
    measured, logged nor traced, and stand outermost: what such a request costs is what it can take
    from others.

    Args:
        app: gets everything else.
        probes: the answers.
        root_path: below which they are found as well.
    """

    def __init__(self, app: ASGIApp, *, probes: Probes, root_path: str = "") -> None:
        self.app = app
        self._probes = probes
        self._paths = {f"{prefix}{path}": path for path in PATHS for prefix in ("", root_path)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        path = self._paths.get(scope["path"]) if scope["type"] == "http" else None
        if path is None or scope["method"] not in _METHODS:
            await self.app(scope, receive, send)
            return
        status, body = await self._probes.answer(path)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        shown = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.body", "body": shown})


def router(probes: Probes) -> APIRouter:
    """Return the routes of the three probes: for the API's document, and where no middleware is."""
    routes = APIRouter(tags=list(TAG))

    async def answer(path: str) -> Response:
        status, body = await probes.answer(path)
        return Response(body, status_code=status, media_type="application/json")

    @routes.get("/ping", response_model=Pong)
    async def ping() -> Response:
        """Answer a person who asks whether anybody is there."""
        return await answer("/ping")

    @routes.get("/livez", response_model=Liveness)
    async def livez() -> Response:
        """Say that the process lives, also while it drains or a dependency is down."""
        return await answer("/livez")

    @routes.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
    async def readyz() -> Response:
        """Say whether this replica should get requests."""
        return await answer(_READINESS)

    return routes


class _Findings:
    """What the checks found: all who ask at the same time share one round of them."""

    def __init__(
        self, checks: Mapping[str, Check], *, timeout_seconds: float, fresh_seconds: float
    ) -> None:
        self._checks = checks
        self._timeout_seconds = timeout_seconds
        self._fresh_seconds = fresh_seconds
        self._said = {name: Interval() for name in checks}
        self._round: asyncio.Task[dict[str, str]] | None = None
        self._until = 0.0

    async def get(self) -> dict[str, str]:
        """Return what was found, by check, at most ``fresh_seconds`` ago."""
        if self._round is None or (self._round.done() and time.monotonic() >= self._until):
            self._round = asyncio.create_task(self._run(), name="readiness")
        # Whoever goes away does not end the round for the others.
        return await asyncio.shield(self._round)

    async def _run(self) -> dict[str, str]:
        outcomes = await asyncio.gather(
            *(self._outcome(name, check) for name, check in self._checks.items())
        )
        self._until = time.monotonic() + self._fresh_seconds
        return dict(zip(self._checks, outcomes, strict=True))

    async def _outcome(self, name: str, check: Check) -> str:
        """Run one check; whatever it raises means not ready, and only the log has the details."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await check()
        except TimeoutError:
            shown = cause = f"no answer within {self._timeout_seconds:g} s"
        except NotReady as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - any failure of a dependency means not ready
            shown, cause = f"failed: {type(error).__name__}", str(error)
        else:
            return "ok"
        # Every probe of an outage finds the same.
        if (times := self._said[name].due()) is not None:
            _log.warning("readiness_check_failed", check=name, times=times, error=cause)
        return shown
