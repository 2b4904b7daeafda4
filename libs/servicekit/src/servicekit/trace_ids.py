"""The id by which a person finds everything about one request, with tracing on or off."""

import random
import re
from contextvars import ContextVar, Token

from opentelemetry import trace

# https://www.w3.org/TR/trace-context/#traceparent-header
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")
_fallback: ContextVar[str | None] = ContextVar("servicekit_trace_id", default=None)


def current_trace_id() -> str | None:
    """Return the 32 hex digits of the current span's trace, else of the bound request, or None."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        return trace.format_trace_id(context.trace_id)
    return _fallback.get()


def current_ids() -> tuple[str | None, str | None]:
    """Return the ids of the current trace and span; without a span, the bound request's alone."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        return trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)
    return _fallback.get(), None


def current_exemplar() -> dict[str, str] | None:
    """Return the exemplar label of the current span if it is sampled, else None.

    An unsampled trace is never exported, so an exemplar of it would lead nowhere.
    """
    context = trace.get_current_span().get_span_context()
    if not (context.is_valid and context.trace_flags.sampled):
        return None
    return {"trace_id": trace.format_trace_id(context.trace_id)}


def bind_request(traceparent: str | None) -> Token[str | None]:
    """Bind the request's trace id for when tracing is off: the caller's, or a new one."""
    match = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    known = match.group(1) if match else None
    if known is None or not int(known, 16):
        # As OpenTelemetry makes its own: they tell requests apart and keep nothing secret.
        known = f"{random.getrandbits(128) or 1:032x}"
    return _fallback.set(known)


def unbind_request(token: Token[str | None]) -> None:
    """Undo ``bind_request``."""
    _fallback.reset(token)
