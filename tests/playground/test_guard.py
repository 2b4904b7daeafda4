"""The page can kill processes: nobody but the page itself may ask for it."""

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tools.playground.guard import MAXIMUM_BODY_BYTES, Guard

PORT = 3002
HERE = f"http://127.0.0.1:{PORT}"
JSON = {"content-type": "application/json"}


async def _served(request: Request) -> Response:
    await request.body()
    return JSONResponse({"served": True})


@pytest.fixture
def page() -> httpx.AsyncClient:
    app = Guard(Starlette(routes=[Route("/", _served, methods=["GET", "POST"])]), port=PORT)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HERE)


async def test_the_page_itself_may_read_and_change(page: httpx.AsyncClient) -> None:
    assert (await page.get("/")).status_code == 200
    assert (await page.post("/", json={}, headers={"origin": HERE})).status_code == 200
    as_localhost = {"host": f"localhost:{PORT}", "origin": f"http://localhost:{PORT}"}
    assert (await page.post("/", json={}, headers=as_localhost)).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:80", "", "localhost"]
)
async def test_a_name_that_was_pointed_at_this_machine_is_refused(
    page: httpx.AsyncClient, host: str
) -> None:
    headers = {"host": host, "origin": f"http://{host}"}
    assert (await page.get("/", headers=headers)).status_code == 421
    assert (await page.post("/", json={}, headers=headers)).status_code == 421


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "https://127.0.0.1:3002", f"{HERE}.evil"]
)
async def test_another_origin_changes_nothing(page: httpx.AsyncClient, origin: str | None) -> None:
    headers = {} if origin is None else {"origin": origin}
    assert (await page.post("/", json={}, headers=headers)).status_code == 403


async def test_two_origins_are_none(page: httpx.AsyncClient) -> None:
    origins = [("origin", HERE), ("origin", "http://evil.example"), *JSON.items()]
    assert (await page.post("/", content=b"{}", headers=origins)).status_code == 403


async def test_another_page_cannot_embed_anything(page: httpx.AsyncClient) -> None:
    answer = await page.get("/", headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


async def test_a_form_cannot_change_anything(page: httpx.AsyncClient) -> None:
    answer = await page.post("/", data={"a": "b"}, headers={"origin": HERE})
    assert answer.status_code == 415


async def test_a_body_is_bounded_before_it_is_read(page: httpx.AsyncClient) -> None:
    large = b'"' + b"x" * MAXIMUM_BODY_BYTES + b'"'
    answer = await page.post("/", content=large, headers={"origin": HERE, **JSON})
    assert answer.status_code == 413
