"""Whatever is sent to the page is answered, and what makes no sense is refused."""

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from tools.playground import app as page_app
from tools.playground.app import HANDLERS, MOST_REQUESTS, Playground, Refused, create_app
from tools.playground.world import World

PORT = 3002
HERE = f"http://127.0.0.1:{PORT}"
HEADERS = {"origin": HERE, "content-type": "application/json"}
ORDER = "7d7e5d2c-3c1f-4c57-9a0e-2f2d5c1e8a11"

ODD: list[object] = [
    None,
    [],
    {},
    1.5,
    True,
    -1,
    float("nan"),
    "",
    "\ud800",
    "__class__",
    "x" * 3_000,
]


@pytest.fixture
def playground() -> Playground:
    service = SimpleNamespace(
        url="http://shop.test", name="order-a", label="A", actions=("kill",), busy=False
    )
    world = SimpleNamespace(
        order_a=service,
        order_b=service,
        parts={"order-a": service},
        database_url=lambda name: f"postgresql://nobody@127.0.0.1:1/{name}",
        layout=SimpleNamespace(order_url="", invoice_url=""),
        traces_url="",
    )
    return Playground(cast("World", world))


@pytest.fixture
def page(playground: Playground) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=create_app(playground, port=PORT))
    return httpx.AsyncClient(transport=transport, base_url=HERE, headers=HEADERS)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b"[]", b"\xff\xfe", b"[" * 4_000], ids=repr
)
async def test_what_is_no_object_is_refused(page: httpx.AsyncClient, content: bytes) -> None:
    for action in HANDLERS:
        answer = await page.post(f"/do/{action}", content=content)
        assert answer.status_code == 409, action
        assert answer.json()["detail"]


@pytest.mark.parametrize(
    ("action", "field", "rest"),
    [
        ("create", "value", {"quantity": 2}),
        ("create", "quantity", {"value": "9.50"}),
        ("update", "order", {"quantity": 2}),
        ("delete", "order", {}),
        ("crowd/once", "order", {"clients": 2}),
        ("crowd/come", "page", {"order": ORDER, "clients": 2}),
        ("break", "part", {"action": "kill"}),
        ("break", "action", {"part": "order-a"}),
        ("heal", "part", {}),
        ("step", "step", {"order": ORDER, "quantity": 2, "action": "kill"}),
        ("step", "action", {"order": ORDER, "quantity": 2, "step": "order.after_send"}),
        ("play", "scene", {}),
        ("lock/want", "what", {"person": "Ann"}),
        ("lock/want", "person", {"what": "both"}),
        ("lock/go", "person", {}),
        ("lock/break", "what", {}),
    ],
)
async def test_an_odd_value_is_refused(
    page: httpx.AsyncClient, action: str, field: str, rest: dict[str, Any]
) -> None:
    for odd in ODD:
        answer = await page.post(f"/do/{action}", content=json.dumps({**rest, field: odd}))
        assert answer.status_code == 409, (odd, answer.text)


@pytest.mark.parametrize("price", ["1e5", "-1", "9.505", "1234567", "٩", "9,5", " 9"])
async def test_a_price_is_a_plain_number(page: httpx.AsyncClient, price: str) -> None:
    answer = await page.post("/do/create", json={"quantity": 2, "value": price})
    assert answer.status_code == 409


async def test_a_body_that_does_not_come_is_not_waited_for(
    page: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    monkeypatch.setattr(page_app, "BODY_SECONDS", 0.05)
    answer = await page.post("/do/mend", content=never(), headers={"content-length": "5"})
    assert answer.status_code == 408


async def test_an_unforeseen_failure_is_told_to_the_page(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> str:
        raise LookupError

    monkeypatch.setitem(HANDLERS, "mend", fails)
    app = create_app(playground, port=PORT)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=HERE, headers=HEADERS) as page:
        answer = await page.post("/do/mend", json={})
    assert answer.status_code == 500
    assert "LookupError" in answer.json()["detail"]


async def test_the_head_of_the_stream_watches_nothing(
    page: httpx.AsyncClient, playground: Playground
) -> None:
    answer = await page.head("/stream?page=somebody-1")
    assert answer.status_code == 200
    assert playground.pages == {}


async def test_only_so_much_is_sent_to_the_shop_at_once(playground: Playground) -> None:
    done = asyncio.Event()
    playground.start(done.wait(), requests=MOST_REQUESTS)
    with pytest.raises(Refused):
        playground.start(done.wait())
    done.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    playground.start(done.wait())


async def test_what_takes_long_is_done_once_at_a_time(playground: Playground) -> None:
    done = asyncio.Event()
    playground.start_once("mend", done.wait())
    with pytest.raises(Refused):
        playground.start_once("mend", done.wait())
    done.set()
    for _ in range(3):
        await asyncio.sleep(0)
    playground.start_once("mend", done.wait())


async def test_a_part_that_is_being_brought_back_is_not_broken_again_afterwards(
    page: httpx.AsyncClient, playground: Playground
) -> None:
    part = cast("Any", playground.world.parts["order-a"])
    part.busy = True
    answer = await page.post("/do/break", json={"part": "order-a", "action": "kill"})
    assert answer.status_code == 409


async def test_what_fails_meanwhile_is_reported(
    playground: Playground, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails() -> None:
        raise LookupError("lost")

    playground.start(fails())
    for _ in range(3):
        await asyncio.sleep(0)
    assert "lost" in caplog.text
