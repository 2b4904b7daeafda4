"""Clients that say who they are: each has keys and operations of its own."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from apps.order.tests.fakes import FakeInvoices, FakeLocks
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from order.app import create_app
from order.settings import Settings
from servicekit.auth.principal import OPERATOR
from servicekit.runtime import Runtime
from servicekit.testing.tokens import write_tokens

TOKENS = {"alice": "", "bob": "", "ops": OPERATOR}


@pytest.fixture
async def client(
    settings: Settings,
    runtime: Runtime,
    invoices: FakeInvoices,
    locks: FakeLocks,
    tmp_path: Path,
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that wants to know who calls; a token is its owner's name."""
    file = tmp_path / "tokens"
    write_tokens(file, TOKENS)
    chosen = settings.model_copy(update={"auth": "required", "auth_tokens_file": file})
    app = create_app(chosen, runtime=runtime, invoices=invoices, locks=locks)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://order") as made,
    ):
        yield made


def by(name: str, key: str | None = None) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"} | ({} if key is None else {"Idempotency-Key": key})


async def pending(
    client: httpx.AsyncClient, invoices: FakeInvoices, new_order: dict[str, Any], name: str
) -> str:
    # Nor does recovery come to an end before the test has looked.
    invoices.deaf = True
    answer = await client.post("/orders", json=new_order, headers=by(name))
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


async def test_without_a_token_nothing_is_read_or_written(
    client: httpx.AsyncClient, new_order: dict[str, Any], engine: AsyncEngine
) -> None:
    for method, path in (
        ("POST", "/orders"),
        ("GET", "/orders"),
        ("PATCH", f"/orders/{uuid.uuid4()}"),
        ("DELETE", f"/orders/{uuid.uuid4()}"),
        ("GET", "/operations"),
        ("POST", f"/operations/{uuid.uuid4()}/cancel"),
    ):
        answer = await client.request(method, path, json=new_order)
        assert answer.status_code == 401, path
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM operations"))).scalar() == 0


async def test_the_same_key_of_two_clients_is_two_keys(
    client: httpx.AsyncClient, new_order: dict[str, Any]
) -> None:
    hers = await client.post("/orders", json=new_order, headers=by("alice", "k"))
    his = await client.post("/orders", json=new_order | {"quantity": 3}, headers=by("bob", "k"))
    assert (hers.status_code, his.status_code) == (201, 201)
    assert hers.json()["id"] != his.json()["id"]
    again = await client.post("/orders", json=new_order, headers=by("alice", "k"))
    assert again.content == hers.content
    reused = await client.post(
        "/orders", json=new_order | {"quantity": 3}, headers=by("alice", "k")
    )
    assert reused.status_code == 422


async def test_an_operation_is_there_for_its_client_and_for_operators_only(
    client: httpx.AsyncClient, new_order: dict[str, Any], invoices: FakeInvoices
) -> None:
    path = await pending(client, invoices, new_order, "alice")
    for name, status in (("alice", 200), ("bob", 404), ("ops", 200)):
        assert (await client.get(path, headers=by(name))).status_code == status
    shown = {
        name: [
            item["id"]
            for item in (await client.get("/operations", headers=by(name))).json()["items"]
        ]
        for name in TOKENS
    }
    op_id = path.rpartition("/")[2]
    assert shown == {"alice": [op_id], "bob": [], "ops": [op_id]}
    order_id = (await client.get(path, headers=by("alice"))).json()["order_id"]
    narrowed = await client.get(f"/operations?order_id={order_id}&state=pending", headers=by("bob"))
    assert narrowed.json()["items"] == []


async def test_only_its_client_or_an_operator_cancels_an_operation(
    client: httpx.AsyncClient, new_order: dict[str, Any], invoices: FakeInvoices
) -> None:
    for allowed in ("alice", "ops"):
        path = await pending(client, invoices, new_order, "alice")
        foreign = await client.post(f"{path}/cancel", headers=by("bob"))
        missing = await client.post(f"/operations/{uuid.uuid4()}/cancel", headers=by("bob"))
        assert (foreign.status_code, missing.status_code) == (404, 404)
        assert foreign.json()["detail"] == missing.json()["detail"]
        assert (await client.get(path, headers=by("alice"))).json()["state"] == "pending"
        cancelled = await client.post(f"{path}/cancel", headers=by(allowed))
        assert (cancelled.status_code, cancelled.json()["state"]) == (200, "rejected")


async def test_what_was_begun_before_anybody_had_a_name_is_nobodys(
    client: httpx.AsyncClient, new_order: dict[str, Any], engine: AsyncEngine
) -> None:
    answer = await client.post("/orders", json=new_order, headers=by("alice", "k"))
    path = f"/operations/{answer.headers['operation-id']}"
    async with engine.begin() as connection:
        # As a release wrote it that knows of no clients.
        for table in ("operations", "idempotency_keys"):
            await connection.execute(text(f"UPDATE {table} SET client = 'anonymous'"))
    for name, status in (("alice", 404), ("ops", 200)):
        assert (await client.get(path, headers=by(name))).status_code == status


async def test_a_cursor_of_one_clients_list_is_not_one_of_anothers(
    client: httpx.AsyncClient, new_order: dict[str, Any]
) -> None:
    for _ in range(2):
        await client.post("/orders", json=new_order, headers=by("alice"))
    page = (await client.get("/operations?limit=1", headers=by("alice"))).json()
    path = f"/operations?limit=1&cursor={page['next_cursor']}"
    assert (await client.get(path, headers=by("alice"))).status_code == 200
    assert (await client.get(path, headers=by("bob"))).status_code == 422
