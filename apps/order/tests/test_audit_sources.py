"""What an audit believes of what it is answered over HTTP."""

import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from order.audit.http_sources import HttpInvoices, HttpOrders
from order.domain import invoice_id_for
from tandem.audit.sources import SourceUnavailable

ORDER, OTHER = uuid.UUID(int=3), uuid.UUID(int=4)


def answering(status: int, **kwargs: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.MockTransport(lambda _: httpx.Response(status, **kwargs)),
        base_url="http://service",
    )


def order(order_id: uuid.UUID = ORDER) -> dict[str, Any]:
    return {"id": str(order_id), "status": "created", "version": 1} | {
        "user_id": str(uuid.UUID(int=1)),
        "total": "9.50",
    }


def invoice(order_id: uuid.UUID = ORDER) -> dict[str, Any]:
    return order(invoice_id_for(order_id)) | {"order_id": str(order_id)}


async def test_an_answer_about_what_was_asked_for_is_a_fact() -> None:
    one = await HttpOrders(answering(200, json=order())).one(ORDER)
    other = await HttpInvoices(answering(200, json=invoice())).one(ORDER)
    assert one is not None
    assert one == other


@pytest.mark.parametrize(
    ("source", "document"),
    [
        (HttpOrders, order(OTHER)),
        (HttpInvoices, invoice(OTHER)),
        (HttpInvoices, invoice() | {"order_id": str(OTHER)}),
        (HttpInvoices, invoice() | {"order_id": None}),
        (HttpInvoices, invoice() | {"id": str(OTHER)}),
    ],
)
async def test_an_answer_about_something_else_is_none(
    source: Callable[[httpx.AsyncClient], HttpOrders | HttpInvoices], document: dict[str, Any]
) -> None:
    with pytest.raises(SourceUnavailable, match="answered about"):
        await source(answering(200, json=document)).one(ORDER)


@pytest.mark.parametrize(
    ("source", "absent"),
    [(HttpOrders, "order-not-found"), (HttpInvoices, "invoice-not-found")],
)
async def test_only_the_services_own_404_says_that_there_is_none(
    source: Callable[[httpx.AsyncClient], HttpOrders | HttpInvoices], absent: str
) -> None:
    own = {"type": f"/problems/{absent}"}
    assert await source(answering(404, json=own)).one(ORDER) is None
    for content in (b"no such page", b"\xff", b"{}", b"[]", b'{"type": "about:blank"}', b""):
        with pytest.raises(SourceUnavailable, match="answered 404"):
            await source(answering(404, content=content)).one(ORDER)


async def test_a_history_of_another_order_is_none() -> None:
    operation = {"id": str(uuid.UUID(int=9)), "order_id": str(OTHER), "kind": "create"} | {
        "state": "committed",
        "version": 1,
        "created_at": "2026-01-01T00:00:00Z",
        "finished_at": None,
        "detail": None,
    }
    page = {"items": [operation], "next_cursor": None}
    with pytest.raises(SourceUnavailable, match="is not one of order"):
        await HttpOrders(answering(200, json=page)).history(ORDER)
    operation["order_id"] = str(ORDER)
    (step,) = await HttpOrders(answering(200, json=page)).history(ORDER)
    assert step.version == 1
