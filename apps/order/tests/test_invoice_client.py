"""What an answer of the invoice service means, and what is sent to get it."""

import json
import uuid
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest
from apps.order.tests.http_fake import HandledHttp, Handler

from order.domain import Body, Kind, Operation, Status, invoice_id_for
from order.errors import InvoiceServiceUnavailable
from order.invoice_client import HttpInvoices
from servicekit.breaker import BreakerState, CircuitBreaker
from servicekit.http_client import AiohttpClient
from tandem.errors import OutcomeUnknown
from tandem.operation import Outcome

ORDER = uuid.UUID(int=3)
OPERATION = uuid.UUID(int=7)
NOT_RECORDED = "/problems/operation-not-found"
NAMED = {"Operation-Id": str(OPERATION)}


def an_operation(kind: Kind = Kind.UPDATE, *, version: int = 4) -> Operation:
    return Operation(
        id=OPERATION,
        order_id=ORDER,
        invoice_id=invoice_id_for(ORDER),
        kind=kind,
        version=version,
        body=Body(
            user_id=uuid.UUID(int=1),
            item_id=uuid.UUID(int=2),
            quantity=3,
            value=Decimal("9.5"),
            status=Status.UPDATED,
            update_time=datetime(2030, 1, 1, tzinfo=UTC),
        ),
    )


def client_of(handler: Handler, *, failures: int = 3) -> tuple[HttpInvoices, CircuitBreaker]:
    breaker = CircuitBreaker(failure_threshold=failures, reset_seconds=3600)
    return HttpInvoices(HandledHttp(handler), breaker=breaker, usual_timeout_seconds=1), breaker


def saying(answer: httpx.Response) -> Handler:
    return lambda _: answer


def applied(
    _: httpx.Request, *, version: int = 4, invoice: uuid.UUID | None = None
) -> httpx.Response:
    headers = {**NAMED, "Operation-Outcome": "applied", "ETag": f'"{version}"'}
    if invoice is not None:
        headers["Location"] = f"/invoices/{invoice}"
    return httpx.Response(204, headers=headers)


@pytest.mark.parametrize(
    ("kind", "method", "path", "body", "if_match"),
    [
        (
            Kind.CREATE,
            "POST",
            "/invoices",
            {"user_id": str(uuid.UUID(int=1)), "total": "28.50", "order_id": str(ORDER)},
            None,
        ),
        (Kind.UPDATE, "PATCH", f"/invoices/{invoice_id_for(ORDER)}", {"total": "28.50"}, '"3"'),
        (Kind.DELETE, "DELETE", f"/invoices/{invoice_id_for(ORDER)}", None, '"3"'),
    ],
)
async def test_an_operation_is_sent_under_its_id_version_lock_and_deadline(
    kind: Kind, method: str, path: str, body: object, if_match: str | None
) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return applied(request, invoice=invoice_id_for(ORDER) if kind is Kind.CREATE else None)

    invoices, _ = client_of(answer)
    decision = await invoices.send(an_operation(kind), proof="p", timeout_seconds=2)
    assert decision.outcome is Outcome.APPLIED
    (request,) = seen
    assert (request.method, request.url.path) == (method, path)
    assert (json.loads(request.content) if request.content else None) == body
    assert request.headers["idempotency-key"] == str(uuid.UUID(int=7))
    assert request.headers.get("if-match") == if_match
    assert request.headers["lock-token"] == "p"
    assert request.headers["order-id"] == str(ORDER)
    assert 0 < int(request.headers["request-timeout-ms"]) < 2000


@pytest.mark.parametrize("status", [200, 201, 204, 400, 404, 409, 412, 422, 428, 500, 502, 503])
async def test_an_answer_without_an_outcome_decides_nothing(status: int) -> None:
    invoices, _ = client_of(lambda _: httpx.Response(status))
    with pytest.raises(OutcomeUnknown) as caught:
        await invoices.send(an_operation(), proof="p", timeout_seconds=1)
    assert caught.value.retryable == (status >= 500)


@pytest.mark.parametrize("outcome", ["rejected", "aborted"])
async def test_a_recorded_refusal_is_a_decision_whatever_its_status(outcome: str) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        headers = {**NAMED, "Operation-Outcome": outcome}
        return httpx.Response(412, headers=headers, json={"detail": "why"})

    invoices, _ = client_of(answer)
    decision = await invoices.send(an_operation(), proof="p", timeout_seconds=1)
    assert (decision.outcome.value, decision.detail) == (outcome, "why")


@pytest.mark.parametrize("outcome", [each.value for each in Outcome])
@pytest.mark.parametrize("kind", list(Kind))
async def test_an_outcome_of_another_operation_decides_nothing(kind: Kind, outcome: str) -> None:
    made = {"ETag": '"4"'}
    if kind is Kind.CREATE:
        made["Location"] = f"/invoices/{invoice_id_for(ORDER)}"
    for named in (str(uuid.UUID(int=8)), "", f"{OPERATION}, {uuid.UUID(int=8)}", "x" * 4_000):
        headers = {**made, "Operation-Id": named, "Operation-Outcome": outcome}
        invoices, _ = client_of(saying(httpx.Response(409, headers=headers)))
        with pytest.raises(OutcomeUnknown, match="about operation"):
            await invoices.send(an_operation(kind), proof="p", timeout_seconds=1)


@pytest.mark.parametrize("outcome", [each.value for each in Outcome])
async def test_an_outcome_that_names_no_operation_counts_if_it_is_recorded_of_this_one(
    outcome: str,
) -> None:
    nameless = {"Operation-Outcome": outcome, "ETag": '"4"'}
    recorded: dict[str, Handler] = {
        "of this one": record(outcome=outcome),
        "of another one": record(outcome=outcome, id=str(uuid.UUID(int=8))),
        "not at all": lambda _: httpx.Response(404, json={"type": NOT_RECORDED}),
    }
    told = {}
    for name, handler in recorded.items():

        def answer(request: httpx.Request, handler: Handler = handler) -> httpx.Response:
            if request.method == "GET":
                return handler(request)
            return httpx.Response(409, headers=nameless, json={"detail": "why"})

        invoices, _ = client_of(answer)
        try:
            decision = await invoices.send(an_operation(), proof="p", timeout_seconds=1)
        except OutcomeUnknown:
            told[name] = "unknown"
        else:
            told[name] = decision.outcome.value
    assert told == {"of this one": outcome, "of another one": "unknown", "not at all": "unknown"}


async def test_a_strange_outcome_decides_nothing() -> None:
    headers = {**NAMED, "Operation-Outcome": "perhaps"}
    invoices, _ = client_of(lambda _: httpx.Response(204, headers=headers))
    with pytest.raises(OutcomeUnknown):
        await invoices.send(an_operation(), proof="p", timeout_seconds=1)


async def test_a_connection_that_breaks_decides_nothing_and_is_not_tried_again_underneath() -> None:
    calls = []

    def broken(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        raise httpx.RemoteProtocolError("cut")

    invoices, _ = client_of(broken)
    with pytest.raises(OutcomeUnknown):
        await invoices.send(an_operation(), proof="p", timeout_seconds=1)
    assert len(calls) == 1


async def test_only_the_services_own_404_means_that_nothing_is_recorded() -> None:
    own = {"type": NOT_RECORDED}
    invoices, _ = client_of(lambda _: httpx.Response(404, json=own))
    assert await invoices.recorded(an_operation(), timeout_seconds=1) is None
    invoices, _ = client_of(lambda _: httpx.Response(404, text="no such page"))
    with pytest.raises(OutcomeUnknown):
        await invoices.recorded(an_operation(), timeout_seconds=1)


def record(**other: object) -> Handler:
    body = {
        "id": str(uuid.UUID(int=7)),
        "invoice_id": str(invoice_id_for(ORDER)),
        "kind": "update",
        "version": 4,
        "outcome": "applied",
        "status": 204,
    }
    return lambda _: httpx.Response(200, json=body | other)


@pytest.mark.parametrize(
    ("other", "outcome"),
    [
        ({}, Outcome.APPLIED),
        ({"outcome": "rejected"}, Outcome.REJECTED),
        ({"outcome": "aborted", "kind": "abort", "version": None}, Outcome.ABORTED),
    ],
)
async def test_what_is_recorded_of_the_operation_asked_for_is_its_decision(
    other: dict[str, object], outcome: Outcome
) -> None:
    invoices, _ = client_of(record(**other))
    decision = await invoices.recorded(an_operation(), timeout_seconds=1)
    assert decision is not None
    assert decision.outcome is outcome


@pytest.mark.parametrize(
    "other",
    [
        {"id": str(uuid.UUID(int=8))},
        {"invoice_id": str(uuid.UUID(int=8))},
        {"kind": "create"},
        {"version": 5},
        {"version": None},
        {"outcome": "rejected", "version": 3},
        {"outcome": "aborted", "invoice_id": str(uuid.UUID(int=8))},
        {"outcome": "perhaps"},
    ],
)
async def test_what_is_recorded_of_anything_else_under_its_id_decides_nothing(
    other: dict[str, object],
) -> None:
    invoices, _ = client_of(record(**other))
    with pytest.raises(OutcomeUnknown):
        await invoices.recorded(an_operation(), timeout_seconds=1)
    with pytest.raises(OutcomeUnknown):
        await invoices.abort(an_operation(), timeout_seconds=1)


async def test_a_success_about_another_version_or_invoice_decides_nothing() -> None:
    strange: list[tuple[Kind, Handler]] = [
        (Kind.UPDATE, lambda request: applied(request, version=5)),
        (Kind.UPDATE, lambda request: applied(request, invoice=invoice_id_for(ORDER))),
        (Kind.CREATE, lambda request: applied(request, invoice=uuid.UUID(int=8))),
        (Kind.CREATE, applied),
        (
            Kind.DELETE,
            lambda _: httpx.Response(204, headers={**NAMED, "Operation-Outcome": "applied"}),
        ),
    ]
    for kind, answer in strange:
        invoices, _ = client_of(answer)
        with pytest.raises(OutcomeUnknown):
            await invoices.send(an_operation(kind), proof="p", timeout_seconds=1)


async def test_the_breaker_opens_after_failures_and_refuses_before_anything_is_written() -> None:
    invoices, breaker = client_of(lambda _: httpx.Response(503))
    invoices.require_available()
    for _ in range(3):
        with pytest.raises(OutcomeUnknown):
            await invoices.send(an_operation(), proof="p", timeout_seconds=1)
    assert breaker.state is BreakerState.OPEN
    with pytest.raises(InvoiceServiceUnavailable):
        invoices.require_available()


async def test_refusals_do_not_open_the_breaker() -> None:
    invoices, breaker = client_of(lambda _: httpx.Response(409))
    for _ in range(5):
        with pytest.raises(OutcomeUnknown):
            await invoices.send(an_operation(), proof="p", timeout_seconds=1)
    assert breaker.state is BreakerState.CLOSED


async def test_a_caller_in_a_hurry_does_not_open_the_breaker() -> None:
    def slow(_: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("too slow")

    invoices, breaker = client_of(slow)
    for _ in range(5):
        with pytest.raises(OutcomeUnknown):
            await invoices.send(an_operation(), proof="p", timeout_seconds=0.5)
    assert not breaker.is_open()
    for _ in range(3):
        with pytest.raises(OutcomeUnknown):
            await invoices.send(an_operation(), proof="p", timeout_seconds=1)
    assert breaker.is_open()


async def test_each_call_shows_the_credential_that_stands_when_it_is_made() -> None:
    shown: list[str] = []
    tokens = iter(("before", "after"))

    async def credential() -> str:
        return next(tokens)

    def answer(request: httpx.Request) -> httpx.Response:
        shown.append(request.headers["authorization"])
        return applied(request)

    invoices = HttpInvoices(
        HandledHttp(answer),
        breaker=CircuitBreaker(failure_threshold=1, reset_seconds=1),
        usual_timeout_seconds=1,
        credential=credential,
    )
    for _ in range(2):
        await invoices.send(an_operation(), proof="p", timeout_seconds=1)
    assert shown == ["Bearer before", "Bearer after"]


async def test_a_refused_connection_is_an_unknown_outcome() -> None:
    breaker = CircuitBreaker(failure_threshold=1, reset_seconds=1)
    http = AiohttpClient("http://127.0.0.1:1", user_agent="test")
    invoices = HttpInvoices(http, breaker=breaker, usual_timeout_seconds=1)
    with pytest.raises(OutcomeUnknown, match="ClientConnectorError"):
        await invoices.send(an_operation(), proof="p", timeout_seconds=5)
    assert breaker.is_open()
    await http.aclose()
