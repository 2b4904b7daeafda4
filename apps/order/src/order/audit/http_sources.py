"""Both services as an audit reads them over HTTP.

An answer counts only for what was asked for: what a cache, a proxy or a mixed-up connection says of
something else would be reported as a difference, or mended.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final, Generic, TypeVar
from uuid import UUID

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from order.domain import INVOICED, Kind, Status, invoice_id_for
from order.errors import OrderNotFound
from order.fields import BODY
from servicekit.pagination import MAXIMUM_LIMIT
from tandem.audit.facts import Fact, Step
from tandem.audit.sources import SourceUnavailable
from tandem.operation import State

TIMEOUT_SECONDS: Final = 10.0
_NO_ORDER: Final = f"/problems/{OrderNotFound.slug}"
_NO_INVOICE: Final = "/problems/invoice-not-found"

Item = TypeVar("Item", bound=BaseModel)


class _Side(BaseModel):
    """What orders and invoices have in common."""

    model_config = ConfigDict(extra="allow")

    id: UUID
    status: Status
    version: int

    def fact(self) -> Fact:
        try:
            content = BODY.from_json(self.model_extra or {}, INVOICED)
        except (KeyError, ValueError, TypeError, ArithmeticError) as error:
            raise SourceUnavailable(f"{self.id} lacks a part of its body: {error!r}") from error
        return Fact(self.version, self.status.value, content)


class _Invoice(_Side):
    order_id: UUID | None


class _Operation(BaseModel):
    id: UUID
    order_id: UUID
    kind: Kind
    state: State
    version: int
    created_at: datetime
    finished_at: datetime | None
    detail: str | None

    def step(self) -> Step:
        return Step(**self.model_dump(exclude={"order_id"}))


class _Page(BaseModel, Generic[Item]):
    items: list[Item]
    next_cursor: str | None


def create_client(base_url: str, *, token: str | None = None) -> httpx.AsyncClient:
    """Return an HTTP client for one service, which it shows an access token if it has one."""
    credential = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(
        base_url=base_url,
        timeout=TIMEOUT_SECONDS,
        trust_env=False,
        headers={"User-Agent": "shop-order-audit", **credential},
    )


class HttpOrders:
    """The order service."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def all(self) -> AsyncIterator[tuple[UUID, Fact]]:
        """Iterate over all orders, page by page."""
        async for page in _pages(self._client, "/orders", {}, _Page[_Side]):
            for order in page.items:
                yield order.id, order.fact()

    async def one(self, order_id: UUID, /) -> Fact | None:
        """Return one order."""
        response = await _get(self._client, f"/orders/{order_id}", {}, absent=_NO_ORDER)
        if response is None:
            return None
        order = _parse(_Side, response)
        _require_same(response, order.id, order_id)
        return order.fact()

    async def pending(self) -> AsyncIterator[tuple[UUID, Step]]:
        """Iterate over all pending operations by the order's id, page by page."""
        query = {"state": State.PENDING.value}
        async for page in _pages(self._client, "/operations", query, _Page[_Operation]):
            for operation in page.items:
                yield operation.order_id, operation.step()

    async def history(self, order_id: UUID, /) -> tuple[Step, ...]:
        """Return an order's operations, the oldest first."""
        steps: list[Step] = []
        query = {"order_id": str(order_id)}
        async for page in _pages(self._client, "/operations", query, _Page[_Operation]):
            for operation in page.items:
                if operation.order_id != order_id:
                    what = f"{self._client.base_url}: operation {operation.id}"
                    raise SourceUnavailable(f"{what} is not one of order {order_id}")
                steps.append(operation.step())
        return tuple(steps)


class HttpInvoices:
    """The invoice service."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def all(self) -> AsyncIterator[tuple[UUID, Fact]]:
        """Iterate over all invoices of orders, page by page."""
        async for page in _pages(self._client, "/invoices", {}, _Page[_Invoice]):
            for invoice in page.items:
                if invoice.order_id is not None:
                    yield invoice.order_id, invoice.fact()

    async def one(self, order_id: UUID, /) -> Fact | None:
        """Return the invoice of one order."""
        path = f"/invoices/{invoice_id_for(order_id)}"
        response = await _get(self._client, path, {}, absent=_NO_INVOICE)
        if response is None:
            return None
        invoice = _parse(_Invoice, response)
        _require_same(response, invoice.id, invoice_id_for(order_id))
        _require_same(response, invoice.order_id, order_id)
        return invoice.fact()


async def _pages(
    client: httpx.AsyncClient, path: str, query: dict[str, str], model: type[_Page[Item]]
) -> AsyncIterator[_Page[Item]]:
    cursor: str | None = None
    while True:
        position = {} if cursor is None else {"cursor": cursor}
        response = await _get(client, path, {**query, **position, "limit": str(MAXIMUM_LIMIT)})
        assert response is not None  # noqa: S101 - a list is never absent
        page = _parse(model, response)
        yield page
        cursor = page.next_cursor
        if cursor is None:
            return


async def _get(
    client: httpx.AsyncClient, path: str, query: dict[str, str], *, absent: str | None = None
) -> httpx.Response | None:
    """Return what a service answers; None where it says by the problem ``absent`` that it has none.

    Raises:
        SourceUnavailable: it answers nothing, or something else.
    """
    try:
        response = await client.get(path, params=query)
    except httpx.HTTPError as error:
        raise SourceUnavailable(f"{client.base_url}: {type(error).__name__}: {error}") from error
    if response.status_code == httpx.codes.NOT_FOUND and _problem_of(response) == absent:
        return None
    if response.status_code != httpx.codes.OK:
        raise SourceUnavailable(f"{response.url} answered {response.status_code}")
    return response


def _problem_of(response: httpx.Response) -> object:
    """Return the type of the problem that an answer describes; a proxy's 404 has none of ours."""
    try:
        document = response.json()
    except ValueError:
        return ""
    return document.get("type", "") if isinstance(document, dict) else ""


def _require_same(response: httpx.Response, found: UUID | None, asked: UUID) -> None:
    if found != asked:
        raise SourceUnavailable(f"{response.url} answered about {found}")


def _parse(model: type[Item], response: httpx.Response) -> Item:
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise SourceUnavailable(f"{response.url} answered something else: {error}") from error
