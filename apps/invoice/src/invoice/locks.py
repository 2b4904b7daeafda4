"""Asks Redis whether a caller really holds the lock that its change demands."""

from collections.abc import Sequence
from typing import Protocol

from opentelemetry import trace

from fencelock import NotOwner
from invoice.errors import InvoiceNotLocked
from invoice.metrics import InvoiceMetrics, LockCheckResult
from servicekit.deadlines import remaining_seconds
from servicekit.problems import ServiceUnavailable


class Verified(Protocol):
    """A lease that holds."""

    @property
    def fence(self) -> int:
        """The fence with which it was granted."""
        ...


class LockVerifier(Protocol):
    """The part of fencelock's client that this service uses."""

    async def verify(
        self,
        proof: str,
        names: Sequence[str],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - fencelock's own signature
    ) -> Verified:
        """Return the lease that the proof stands for, if it holds all of the names."""
        ...


class LockGuard:
    """Lets a change through only under the caller's lock; fails closed."""

    def __init__(
        self,
        verifier: LockVerifier,
        *,
        timeout_seconds: float,
        metrics: InvoiceMetrics,
        tracer: trace.Tracer,
    ) -> None:
        self._tracer = tracer
        self._verifier = verifier
        self._timeout_seconds = timeout_seconds
        self._metrics = metrics

    async def fence_of(self, proof: str | None, names: Sequence[str]) -> int:
        """Return the fence of the caller's lease on all of ``names``.

        Raises:
            InvoiceNotLocked: there is no proof, or it does not hold.
            ServiceUnavailable: Redis did not say so in time; nothing may be written.
        """
        if proof is None:
            self._metrics.lock_checked("missing")
            raise InvoiceNotLocked("The header Lock-Token with the proof of the lock is missing.")
        with self._tracer.start_as_current_span(
            "lock.verify invoice",
            kind=trace.SpanKind.CLIENT,
            attributes={"db.system.name": "redis", "lock.class": "invoice"},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            return await self._verified_fence(proof, names, span)

    async def _verified_fence(self, proof: str, names: Sequence[str], span: trace.Span) -> int:
        timeout_seconds = remaining_seconds(at_most_seconds=self._timeout_seconds)
        try:
            verified = await self._verifier.verify(proof, names, timeout=timeout_seconds)
        except NotOwner as error:
            self._checked("not_held", span)
            raise InvoiceNotLocked(
                f"The caller does not hold the lock on {' and '.join(names)}."
            ) from error
        except Exception as error:
            # No answer, refused credentials, an evicting policy, or a defect: it fails closed.
            self._metrics.lock_trouble.report(error)
            self._checked("unavailable", span)
            span.set_status(trace.StatusCode.ERROR)
            raise ServiceUnavailable(
                "Redis cannot say who holds the lock, so nothing was written."
            ) from error
        self._checked("held", span)
        span.set_attribute("lock.fence", verified.fence)
        return verified.fence

    def _checked(self, result: LockCheckResult, span: trace.Span) -> None:
        self._metrics.lock_checked(result)
        span.set_attribute("lock.outcome", result)
