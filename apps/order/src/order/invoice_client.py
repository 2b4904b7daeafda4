"""The invoice service as this one sees it: the only module that knows HTTP is in between.

Only an answer with the header ``Operation-Outcome`` reports a decision, and only that of the
operation it names in ``Operation-Id``. Whatever else comes, a refusal, an error, an answer to
somebody else, nonsense or nothing, leaves the outcome unknown.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from order.domain import INVOICED, INVOICED_FOR_GOOD, Kind, Operation
from order.errors import InvoiceServiceUnavailable
from order.fields import BODY
from servicekit import deadlines
from servicekit.breaker import BreakerOpen, CircuitBreaker
from servicekit.etags import format_etag
from servicekit.http_client import Answer, HttpClient, HttpError, NoAnswerInTime
from tandem.errors import OutcomeUnknown
from tandem.http import IDEMPOTENCY_KEY, IF_MATCH, LOCK_TOKEN, OPERATION_ID, OPERATION_OUTCOME
from tandem.initiator.ports import Decision
from tandem.operation import Outcome

ORDER_HEADER: Final = "Order-Id"
_NOT_RECORDED: Final = "/problems/operation-not-found"
_SERVER_ERROR: Final = 500
_NOT_LET_IN: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_TOO_MANY_REQUESTS: Final = 429
# Our own connection may wait for its turn in the pool, and the answer comes back over the network.
_MARGIN_SECONDS: Final = 0.25


class _RecordedOperation(BaseModel):
    """The part of the invoice service's ``GET /operations/{id}`` that matters here."""

    model_config = ConfigDict(extra="ignore")

    id: UUID
    invoice_id: UUID
    kind: str
    outcome: Outcome
    version: int | None
    status: int | None = None

    def is_of(self, operation: Operation) -> bool:
        """Tell whether this is what became of ``operation``, and of no other with its id."""
        if (self.id, self.invoice_id) != (operation.id, operation.invoice_id):
            return False
        if self.outcome is Outcome.ABORTED:
            return True
        return (self.kind, self.version) == (operation.kind.value, operation.version)


class HttpInvoices:
    """The invoice service over HTTP, behind a circuit breaker.

    Args:
        http: the client, with the service's address.
        breaker: opens when the service fails several times in a row.
        usual_timeout_seconds: a call that was given less, because its caller had no more time,
            says nothing about the service when that runs out.
        credential: gives the access token to show the service, if it wants one.
    """

    def __init__(
        self,
        http: HttpClient,
        *,
        breaker: CircuitBreaker,
        usual_timeout_seconds: float,
        credential: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        self._http = http
        self._breaker = breaker
        self._usual_timeout_seconds = usual_timeout_seconds
        self._credential = credential

    def permits(self, at_most: int) -> int:
        """Return how many calls are worth making now; see ``tandem.initiator.ports.Decider``."""
        return self._breaker.permits(at_most)

    def require_available(self) -> None:
        """Return if it is worth asking; see ``tandem.initiator.ports.Decider``."""
        if self._breaker.is_open():
            raise InvoiceServiceUnavailable(
                "The invoice service does not answer. Nothing was written."
            )

    async def send(self, operation: Operation, *, proof: str, timeout_seconds: float) -> Decision:
        """Ask the service to apply an operation; see ``tandem.initiator.ports.Decider``."""
        method, path, body, headers = _request_of(operation)
        headers[IDEMPOTENCY_KEY] = str(operation.id)
        headers[LOCK_TOKEN] = proof
        headers[ORDER_HEADER] = str(operation.order_id)
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_seconds
        response = await self._call(
            method, path, body=body, headers=headers, timeout_seconds=timeout_seconds
        )
        decision = _decision_of(response, operation)
        if OPERATION_ID in response.headers:
            return decision
        # An earlier release does not say what its answer is about; what it has recorded does.
        left = max(deadline - clock(), _MARGIN_SECONDS)
        recorded = await self.recorded(operation, timeout_seconds=left)
        if recorded is None:
            raise OutcomeUnknown("an answer about no operation", retryable=False)
        return replace(recorded, detail=decision.detail)

    async def recorded(self, operation: Operation, *, timeout_seconds: float) -> Decision | None:
        """Return what the service has recorded; see ``tandem.initiator.ports.Decider``."""
        response = await self._call(
            "GET",
            f"/operations/{operation.id}",
            query={"invoice_id": str(operation.invoice_id)},
            timeout_seconds=timeout_seconds,
        )
        if response.status == HTTPStatus.NOT_FOUND and _says_not_recorded(response):
            return None
        if response.status != HTTPStatus.OK:
            raise _unknown(response)
        return _decision_from_body(response, operation)

    async def abort(self, operation: Operation, *, timeout_seconds: float) -> Decision:
        """Ask the service never to apply an operation; see ``tandem.initiator.ports.Decider``."""
        response = await self._call(
            "POST",
            f"/operations/{operation.id}/abort",
            body={"invoice_id": str(operation.invoice_id)},
            timeout_seconds=timeout_seconds,
        )
        if response.status != HTTPStatus.OK:
            raise _unknown(response)
        return _decision_from_body(response, operation)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        timeout_seconds: float,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        budget = max(timeout_seconds - _MARGIN_SECONDS, timeout_seconds / 2)
        sent = {deadlines.HEADER: deadlines.header_value(budget), **(headers or {})}
        if self._credential is not None:
            sent["Authorization"] = f"Bearer {await self._credential()}"
        content = None
        if body is not None:
            sent["Content-Type"] = "application/json"
            content = json.dumps(body, separators=(",", ":")).encode()
        try:
            with self._watched(timeout_seconds):
                response = await self._http.request(
                    method,
                    path,
                    timeout_seconds=timeout_seconds,
                    headers=sent,
                    query=query,
                    body=content,
                    # Whatever is sent carries an operation's id, and is done once however often
                    # it arrives.
                    repeatable=True,
                )
                # Who is not let in has no answer to wait for, however well the service is: the
                # breaker then refuses changes before anything is written.
                if response.status >= _SERVER_ERROR or response.status in _NOT_LET_IN:
                    raise _unknown(response)
                return response
        except BreakerOpen as error:
            raise OutcomeUnknown(str(error), retryable=False) from error
        except HttpError as error:
            raise OutcomeUnknown(str(error), retryable=True) from error

    @contextmanager
    def _watched(self, timeout_seconds: float) -> Iterator[None]:
        """Let the breaker refuse the call, and tell it how the call ended."""
        self._breaker.check()
        try:
            yield
        except NoAnswerInTime:
            if timeout_seconds < self._usual_timeout_seconds:
                self._breaker.cancelled()
            else:
                self._breaker.failed()
            raise
        except (HttpError, OutcomeUnknown):
            self._breaker.failed()
            raise
        except BaseException:
            self._breaker.cancelled()
            raise
        self._breaker.succeeded()


def _request_of(
    operation: Operation,
) -> tuple[str, str, dict[str, Any] | None, dict[str, str]]:
    """Return method, path, body and own headers of the call that carries out ``operation``."""
    kept = BODY.values(operation.body)
    if operation.kind is Kind.CREATE:
        body = BODY.as_json({name: kept[name] for name in INVOICED})
        return "POST", "/invoices", {**body, "order_id": str(operation.order_id)}, {}
    path = f"/invoices/{operation.invoice_id}"
    headers = {IF_MATCH: format_etag(operation.version - 1)}
    if operation.kind is Kind.UPDATE:
        changed = [name for name in INVOICED if name not in INVOICED_FOR_GOOD]
        return "PATCH", path, BODY.as_json({name: kept[name] for name in changed}), headers
    return "DELETE", path, None, headers


def _decision_of(response: Answer, operation: Operation) -> Decision:
    header = response.headers.get(OPERATION_OUTCOME)
    if header is None:
        raise _unknown(response)
    try:
        outcome = Outcome(header)
    except ValueError as error:
        raise OutcomeUnknown(f"strange outcome {header!r}", retryable=False) from error
    named = response.headers.get(OPERATION_ID)
    if named is not None and named != str(operation.id):
        raise OutcomeUnknown(f"an answer about operation {named[:64]!r}", retryable=False)
    if outcome is Outcome.APPLIED:
        _require_effect_of(operation, response)
    return Decision(outcome, detail="" if outcome is Outcome.APPLIED else _detail_of(response))


def _require_effect_of(operation: Operation, response: Answer) -> None:
    """Believe a success only if it made this operation's version of this operation's invoice."""
    made = response.headers.get("ETag")
    where = response.headers.get("Location")
    if made != format_etag(operation.version) or not _names_invoice_of(operation, where):
        raise OutcomeUnknown(f"an answer about version {made} of {where}", retryable=False)


def _names_invoice_of(operation: Operation, location: str | None) -> bool:
    """Tell whether a creation's answer leads to its invoice, below whatever path the service is."""
    if operation.kind is not Kind.CREATE:
        return location is None
    return location is not None and location.endswith(f"/invoices/{operation.invoice_id}")


def _decision_from_body(response: Answer, operation: Operation) -> Decision:
    try:
        recorded = _RecordedOperation.model_validate_json(response.body)
    except ValidationError as error:
        raise OutcomeUnknown("an answer that is no operation", retryable=False) from error
    if not recorded.is_of(operation):
        raise OutcomeUnknown(
            f"an answer about operation {recorded.id}: {recorded.kind} of invoice"
            f" {recorded.invoice_id} to version {recorded.version}",
            retryable=False,
        )
    detail = "" if recorded.status is None else f"it answered {recorded.status}"
    return Decision(recorded.outcome, detail=detail)


def _unknown(response: Answer) -> OutcomeUnknown:
    """Return what an answer without a decision means."""
    code = response.status
    return OutcomeUnknown(
        f"{code} {_detail_of(response)}",
        retryable=code >= _SERVER_ERROR or code == _TOO_MANY_REQUESTS,
    )


def _detail_of(response: Answer) -> str:
    """Return a problem's detail as far as the answer has one."""
    document = _json_of(response)
    detail = document.get("detail") if isinstance(document, dict) else None
    return str(detail) if detail else response.reason


def _says_not_recorded(response: Answer) -> bool:
    """Tell the service's own 404 from that of anything else that may stand at its address."""
    document = _json_of(response)
    return isinstance(document, dict) and document.get("type") == _NOT_RECORDED


def _json_of(response: Answer) -> Any:  # noqa: ANN401 - a JSON document can be anything
    try:
        return json.loads(response.body)
    except ValueError:
        return None
