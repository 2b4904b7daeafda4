"""Probes: ``/ping`` for people, ``/livez`` without any I/O, ``/readyz`` naming each check."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog
from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from servicekit.lifecycle import Lifecycle
from servicekit.quiet_log import Interval

PATHS: Final = frozenset({"/ping", "/livez", "/readyz"})
_CHECK_TIMEOUT_SECONDS: Final = 2.0
# Probes come every few seconds; whoever asks more often is told what was found just now.
_FRESH_SECONDS: Final = 0.5
# Every probe gets its answer at once up to this rate; what comes on top is held back a moment.
_UNHURRIED_PER_SECOND: Final = 20
_LONGEST_HOLD_SECONDS: Final = 0.5
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


def router(
    *,
    lifecycle: Lifecycle,
    checks: Mapping[str, Check],
    timeout_seconds: float = _CHECK_TIMEOUT_SECONDS,
    fresh_seconds: float = _FRESH_SECONDS,
) -> APIRouter:
    """Return the routes of the three probes.

    Args:
        lifecycle: says whether the process drains.
        checks: what readiness depends on, by name.
        timeout_seconds: limit for each check; they run side by side.
        fresh_seconds: how long what was found is not asked for again.
    """
    routes = APIRouter(tags=list(TAG))
    findings = _Findings(checks, timeout_seconds=timeout_seconds, fresh_seconds=fresh_seconds)
    pace = _Pace()

    @routes.get("/ping")
    async def ping() -> Pong:
        """Answer a person who asks whether anybody is there."""
        await pace.wait()
        return Pong()

    @routes.get("/livez")
    async def livez() -> Liveness:
        """Say that the process lives, also while it drains or a dependency is down."""
        await pace.wait()
        return Liveness()

    @routes.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
    async def readyz() -> JSONResponse:
        """Say whether this replica should get requests."""
        await pace.wait()
        found = await findings.get()
        results = {"draining": "draining" if lifecycle.draining else "ok", **found}
        ready = all(result == "ok" for result in results.values())
        body = Readiness(status="ok" if ready else "unavailable", checks=results)
        return JSONResponse(body.model_dump(), status_code=200 if ready else 503)

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


class _Pace:
    """Holds back those who probe without a pause, so that they take no time from requests."""

    def __init__(self) -> None:
        self._next = 0.0

    async def wait(self) -> None:
        """Return at once at a usual rate, else after a moment."""
        now = time.monotonic()
        # A second's worth may come at once.
        turn = max(self._next, now - 1.0) + 1 / _UNHURRIED_PER_SECOND
        self._next = min(turn, now + _LONGEST_HOLD_SECONDS)
        if self._next > now:
            await asyncio.sleep(self._next - now)
