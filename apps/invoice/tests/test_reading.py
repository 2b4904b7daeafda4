"""Reading one invoice and listing many."""

import base64
import uuid

import httpx
import pytest
from apps.invoice.tests.shop import USER


async def create(client: httpx.AsyncClient, *, user_id: uuid.UUID = USER) -> str:
    answer = await client.post("/invoices", json={"user_id": str(user_id), "total": 1})
    return str(answer.json()["id"])


async def pages(client: httpx.AsyncClient, **query: str | int) -> list[list[str]]:
    """Follow the cursors to the end."""
    found: list[list[str]] = []
    cursor: str | None = None
    while True:
        parameters = query if cursor is None else {**query, "cursor": cursor}
        answer = await client.get("/invoices", params=parameters)
        assert answer.status_code == 200, answer.text
        found.append([item["id"] for item in answer.json()["items"]])
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return found


@pytest.mark.parametrize("tag", ['"1"', 'W/"1"', '"0", "1"', "*"])
async def test_an_unchanged_invoice_answers_304(client: httpx.AsyncClient, tag: str) -> None:
    invoice_id = await create(client)
    answer = await client.get(f"/invoices/{invoice_id}", headers={"If-None-Match": tag})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == '"1"'


async def test_an_invoice_at_another_version_is_sent(client: httpx.AsyncClient) -> None:
    invoice_id = await create(client)
    answer = await client.get(f"/invoices/{invoice_id}", headers={"If-None-Match": '"2"'})
    assert answer.status_code == 200


async def test_an_invoice_is_read_only_at_the_version_that_is_demanded(
    client: httpx.AsyncClient,
) -> None:
    path = f"/invoices/{await create(client)}"
    for tag, status in [('"1"', 200), ('"2"', 412), ('W/"1"', 412), ("*", 200), ("1", 422)]:
        answer = await client.get(path, headers={"If-Match": tag})
        assert (answer.status_code, tag) == (status, tag)
    both = await client.get(path, headers={"If-Match": '"2"', "If-None-Match": '"1"'})
    assert (both.status_code, both.headers["etag"]) == (412, '"1"')


async def test_pages_hold_every_invoice_once_the_newest_first(client: httpx.AsyncClient) -> None:
    created = [await create(client) for _ in range(7)]
    found = await pages(client, limit=3)
    assert [len(page) for page in found] == [3, 3, 1]
    assert [item for page in found for item in page] == created[::-1]


async def test_a_full_last_page_has_no_successor(client: httpx.AsyncClient) -> None:
    for _ in range(4):
        await create(client)
    assert [len(page) for page in await pages(client, limit=2)] == [2, 2]


async def test_rows_that_come_while_paging_neither_repeat_nor_hide_others(
    client: httpx.AsyncClient,
) -> None:
    created = [await create(client) for _ in range(4)]
    first = (await client.get("/invoices", params={"limit": 2})).json()
    await create(client)
    second = await client.get("/invoices", params={"limit": 2, "cursor": first["next_cursor"]})
    ids = [item["id"] for item in first["items"] + second.json()["items"]]
    assert ids == created[::-1]


async def test_a_list_can_be_narrowed_to_a_user_and_a_status(client: httpx.AsyncClient) -> None:
    other = uuid.uuid4()
    mine = [await create(client, user_id=other) for _ in range(3)]
    await create(client)
    found = await pages(client, limit=2, user_id=str(other), status="created")
    assert [item for page in found for item in page] == mine[::-1]
    assert await pages(client, status="deleted") == [[]]


async def test_a_cursor_that_was_changed_or_belongs_to_another_list_is_refused(
    client: httpx.AsyncClient,
) -> None:
    for _ in range(2):
        await create(client)
    cursor = (await client.get("/invoices", params={"limit": 1})).json()["next_cursor"]
    raw = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    raw[-3] ^= 1
    changed = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    for query in (
        {"cursor": changed},
        {"cursor": "nonsense"},
        {"cursor": "%%%"},
        {"cursor": ""},
        {"cursor": cursor, "user_id": str(USER)},
    ):
        answer = await client.get("/invoices", params=query)
        assert answer.status_code == 422, query
        assert answer.json()["errors"][0]["field"] == "cursor"
