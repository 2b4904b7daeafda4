"""Every answer that is not a success is a problem document that its reader understands."""

from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import AfterValidator, BaseModel, ConfigDict

from servicekit import problems
from servicekit.json_body import StrictJsonRoute


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("must be even")
    return value


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: Annotated[int, AfterValidator(_even)]


@pytest.fixture
def client() -> httpx.AsyncClient:
    router = APIRouter(route_class=StrictJsonRoute)

    @router.post("/things")
    async def create(thing: Thing) -> Thing:
        return thing

    @router.get("/things")
    async def things() -> list[Thing]:
        return []

    app = FastAPI()
    problems.install(app)
    app.include_router(router)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop")


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ("{}", "size", "is required"),
        ('{"size": 2, "colour": "red"}', "colour", "is not a known field"),
        ('{"size": 3}', "size", "must be even"),
        ("[]", "body", "must be a JSON object"),
    ],
)
async def test_a_refused_field_is_named_and_explained_without_the_validators_jargon(
    client: httpx.AsyncClient, body: str, field: str, message: str
) -> None:
    async with client:
        answer = await client.post(
            "/things", content=body, headers={"Content-Type": "application/json"}
        )

    assert answer.status_code == 422
    assert answer.headers["content-type"] == problems.MEDIA_TYPE
    assert answer.json()["type"] == "/problems/validation-failed"
    assert answer.json()["errors"] == [{"field": field, "message": message}]


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [("GET", "/nothing", 404, "not-found"), ("PUT", "/things", 405, "method-not-allowed")],
)
async def test_what_the_router_refuses_is_a_problem_too(
    client: httpx.AsyncClient, method: str, path: str, status: int, slug: str
) -> None:
    async with client:
        answer = await client.request(method, path)

    assert answer.status_code == status
    assert answer.json()["type"] == f"/problems/{slug}"
    assert answer.json()["instance"] == path


async def test_a_method_that_is_not_possible_is_answered_with_all_that_are(
    client: httpx.AsyncClient,
) -> None:
    async with client:
        answer = await client.delete("/things")

    assert answer.headers["allow"] == "GET, HEAD, POST"
