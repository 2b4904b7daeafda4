"""Clients that say who they are: own keys, and orders' invoices for the order service alone."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from apps.invoice.tests.shop import USER, Serve, Shop, headers

import fencelock
from invoice.app import create_app
from invoice.domain import is_operation_of, operation_id_of_client
from invoice.settings import Settings
from servicekit.auth.principal import INTERNAL, OPERATOR
from servicekit.runtime import Runtime
from servicekit.testing.tokens import write_tokens

TOKENS = {"alice": "", "bob": "", "ops": OPERATOR, "order": INTERNAL}
NEW = {"user_id": str(USER), "total": "10.00"}


@pytest.fixture
async def client(
    settings: Settings, runtime: Runtime, serve: Serve, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that wants to know who calls; a token is its owner's name."""
    file = tmp_path / "tokens"
    write_tokens(file, TOKENS)
    chosen = settings.model_copy(update={"auth": "required", "auth_tokens_file": file})
    async with serve(create_app(chosen, runtime=runtime)) as made:
        yield made


@pytest.fixture
def shop(client: httpx.AsyncClient, locks: fencelock.AsyncLockClient) -> Shop:
    client.headers["Authorization"] = "Bearer order"
    return Shop(client, locks)


def by(name: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}", **more}


async def test_the_same_key_of_two_clients_is_two_keys(client: httpx.AsyncClient) -> None:
    for key in ("k", str(uuid.uuid4())):
        answers = [
            await client.post("/invoices", json=NEW, headers=by(name, **{"Idempotency-Key": key}))
            for name in ("alice", "bob", "alice", "order")
        ]
        assert {answer.status_code for answer in answers} == {201}
        ids = [answer.json()["id"] for answer in answers]
        assert ids[0] == ids[2]
        assert len(set(ids)) == 3
        other = await client.post(
            "/invoices",
            json=NEW | {"total": "1.00"},
            headers=by("alice", **{"Idempotency-Key": key}),
        )
        assert other.status_code == 422


async def test_an_operation_is_there_for_its_client_and_for_operators_only(
    client: httpx.AsyncClient,
) -> None:
    await client.post("/invoices", json=NEW, headers=by("alice", **{"Idempotency-Key": "k"}))
    path = f"/operations/{operation_id_of_client('token:alice', 'k')}"
    for name, status in (("alice", 200), ("bob", 404), ("ops", 200), ("order", 200)):
        assert (await client.get(path, headers=by(name))).status_code == status, name


async def test_an_orders_invoice_changes_only_for_the_order_service(
    client: httpx.AsyncClient, shop: Shop
) -> None:
    order_id = uuid.uuid4()
    async with shop.locked(order_id) as lease:
        made = await shop.create(order_id, proof=lease.proof())
        assert made.status_code == 201, made.text
        path = f"/invoices/{made.json()['id']}"
        for name in ("alice", "ops"):
            sent = by(name, **headers(op_id=uuid.uuid4(), proof=lease.proof(), base=1))
            forbidden = [
                await client.post(
                    "/invoices", json=NEW | {"order_id": str(order_id)}, headers=sent
                ),
                await client.patch(path, json={"total": "1.00"}, headers=sent),
                await client.delete(path, headers=sent),
                await client.patch(
                    path, json={"total": "1.00"}, headers=sent | {"Order-Id": str(order_id)}
                ),
                await client.post(
                    f"/operations/{uuid.uuid4()}/abort",
                    json={"invoice_id": made.json()["id"]},
                    headers=sent,
                ),
            ]
            for answer in forbidden:
                assert answer.status_code == 403, answer.text
                assert answer.json()["type"] == "/problems/insufficient-scope"
                assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
        assert (
            await shop.update(made.json()["id"], base=1, proof=lease.proof())
        ).status_code == 204
    assert (await client.get(path, headers=by("alice"))).json()["version"] == 2


async def test_no_client_takes_the_place_of_an_orders_operation(
    client: httpx.AsyncClient, shop: Shop
) -> None:
    op_id, order_id = uuid.uuid4(), uuid.uuid4()
    squatted = await client.post(
        "/invoices", json=NEW, headers=by("alice", **{"Idempotency-Key": str(op_id)})
    )
    assert squatted.status_code == 201
    assert (await client.get(f"/operations/{op_id}", headers=by("order"))).status_code == 404
    async with shop.locked(order_id) as lease:
        made = await shop.create(order_id, proof=lease.proof(), op_id=op_id)
    assert made.status_code == 201
    assert (await client.get(f"/operations/{op_id}", headers=by("alice"))).status_code == 404


def test_an_id_says_whose_operation_it_is() -> None:
    for key in (None, "k", str(uuid.uuid4()), "x" * 255):
        op_id = operation_id_of_client("token:alice", key)
        assert is_operation_of("token:alice", op_id)
        assert not is_operation_of("token:bob", op_id)
        assert op_id != operation_id_of_client("token:bob", key)
        assert (op_id == operation_id_of_client("token:alice", key)) == (key is not None)
    assert not is_operation_of("token:alice", uuid.uuid4())
    assert operation_id_of_client("a", "bc") != operation_id_of_client("ab", "c")
