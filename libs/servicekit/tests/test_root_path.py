"""A service below a path of its host, whether what stands in front cuts the path off or not."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urljoin

import httpx
import pytest
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.responses import Response

from servicekit import application
from servicekit.failpoints import Failpoints
from servicekit.runtime import Runtime
from servicekit.settings import ServerSettings
from servicekit.testing.server import serving


def settings(root_path: str) -> ServerSettings:
    return ServerSettings(port=0, metrics_port=0, request_timeout_seconds=60, root_path=root_path)


def build(root_path: str) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield

    app = application.build(
        runtime=Runtime.bare(service="things", failpoints=Failpoints(())),
        settings=settings(root_path),
        title="Things",
        summary="",
        description="",
        checks={},
        lifespan=lifespan,
        tags={},
    )

    @app.get("/things")
    async def things() -> Response:
        link = "</things?page=2>; rel=next, <https://elsewhere.example/>; rel=help"
        return Response("things", headers={"Location": "/things/1", "Link": link})

    @app.get("/things/{thing}")
    async def thing(thing: str) -> Response:
        return Response(thing, headers={"Location": "https://elsewhere.example/"})

    return app


@asynccontextmanager
async def client_of(root_path: str) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(build(root_path)) as url, httpx.AsyncClient(base_url=url) as client:
        yield client


@pytest.mark.parametrize("root_path", ["/shop", "/a/b", "/things"])
@pytest.mark.parametrize("cut", [True, False], ids=["cut", "uncut"])
async def test_every_route_answers_below_the_prefix_and_leads_back_below_it(
    root_path: str, *, cut: bool
) -> None:
    sent = "" if cut else root_path
    async with client_of(root_path) as client:
        listed = await client.get(f"{sent}/things")
        assert listed.text == "things"
        assert listed.headers["location"] == f"{root_path}/things/1"
        assert listed.headers["link"] == (
            f"<{root_path}/things?page=2>; rel=next, <https://elsewhere.example/>; rel=help"
        )
        one = await client.get(f"{sent}/things/7")
        assert (one.text, one.headers["location"]) == ("7", "https://elsewhere.example/")
        for probe in ("/livez", "/readyz", "/ping"):
            assert (await client.get(f"{sent}{probe}")).status_code == 200
        document = (await client.get(f"{sent}/openapi.json")).json()
        assert [server["url"] for server in document["servers"]] == [root_path]


async def test_what_is_nowhere_is_404_below_the_prefix_and_beside_it() -> None:
    async with client_of("/shop") as client:
        for path in ("/shop", "/shopping/things", "/shop/shop/things", "/nothing"):
            assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize("root_path", ["", "/shop"])
@pytest.mark.parametrize("page", ["/docs", "/redoc"])
async def test_the_pages_need_nothing_from_any_other_host(root_path: str, page: str) -> None:
    async with client_of(root_path) as client:
        answer = await client.get(f"{root_path}{page}")
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "http" not in policy
        references = re.findall(r"""(?:src|href|url|spec-url)\s*[=:]\s*["']([^"']+)""", answer.text)
        assert len(references) >= 3
        for reference in references:
            found = await client.get(urljoin(f"{root_path}{page}", reference))
            assert found.status_code == 200, reference
            assert "://" not in reference


@pytest.mark.parametrize("name", ["__init__.py", "..%2fcore.py", "%2e%2e/core.py", "nothing.js"])
async def test_nothing_but_the_pages_files_is_served(name: str) -> None:
    async with client_of("") as client:
        assert (await client.get(f"/docs-assets/{name}")).status_code == 404


@pytest.mark.parametrize("wrong", ["shop", "/a b", "/a//b", "/a?b", "/ü", "https://h/a", "/" * 2])
def test_what_is_no_path_is_refused(wrong: str) -> None:
    with pytest.raises(ValidationError):
        settings(wrong)


@pytest.mark.parametrize(("given", "meant"), [("/", ""), ("/shop/", "/shop"), ("", "")])
def test_a_slash_at_the_end_means_nothing(given: str, meant: str) -> None:
    assert settings(given).root_path == meant
