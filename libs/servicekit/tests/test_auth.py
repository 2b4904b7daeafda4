"""A service that wants to know who calls, over real HTTP."""

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from servicekit import application, deadlines, documentation
from servicekit.auth.errors import Unauthenticated
from servicekit.auth.files import WatchedFile, parse_credential
from servicekit.auth.principal import OPERATOR, PrincipalDependency
from servicekit.failpoints import Failpoints
from servicekit.json_body import StrictJsonRoute
from servicekit.runtime import Runtime
from servicekit.settings import ServerSettings, service_config
from servicekit.testing.issuer import AUDIENCE, ISSUER, Issuer
from servicekit.testing.logs import route_to_stdlib
from servicekit.testing.server import serving

SECRET = "alice-secret-0123456789"


class Settings(ServerSettings):
    model_config = service_config("SHOP_")


def settings(**values: Any) -> Settings:
    given = {"port": 0, "metrics_port": 0, "request_timeout_seconds": 60, **values}
    return Settings.model_validate(given)


@pytest.fixture
def tokens_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    write(path, {"alice": (SECRET, ""), "ops": ("ops-secret", OPERATOR)})
    return path


def write(path: Path, tokens: dict[str, tuple[str, str]]) -> None:
    lines = [
        f"{name} {hashlib.sha256(token.encode()).hexdigest()} {scopes}"
        for name, (token, scopes) in tokens.items()
    ]
    path.write_text("\n".join(lines))


def app_of(chosen: Settings) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield

    app = application.build(
        runtime=Runtime.bare(service="test", failpoints=Failpoints(())),
        settings=chosen,
        title="Test",
        summary="",
        description="",
        checks={},
        lifespan=lifespan,
        tags={},
    )
    router = APIRouter(route_class=StrictJsonRoute)

    @router.get("/me")
    async def me(principal: PrincipalDependency) -> dict[str, Any]:
        return {"client": principal.client, "all": principal.sees_all}

    @router.post("/me")
    async def tell(principal: PrincipalDependency, body: dict[str, int]) -> dict[str, Any]:
        return {"client": principal.client, **body}

    app.include_router(router)
    return app


@asynccontextmanager
async def client_of(chosen: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(app_of(chosen)) as url, httpx.AsyncClient(base_url=url, timeout=60) as made:
        yield made


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_nobody_has_to_say_who_they_are_unless_it_is_set_up() -> None:
    async with client_of(settings()) as client:
        assert (await client.get("/me")).json() == {"client": "anonymous", "all": True}
        # What is not asked for is not looked at.
        assert (await client.get("/me", headers=bearer("x"))).json()["client"] == "anonymous"


async def test_a_token_says_who_calls_and_without_one_only_probes_and_documents_answer(
    tokens_file: Path,
) -> None:
    async with client_of(settings(auth="required", auth_tokens_file=tokens_file)) as client:
        answer = await client.get("/me", headers=bearer(SECRET))
        assert answer.json() == {"client": "token:alice", "all": False}
        assert (await client.get("/me", headers=bearer("ops-secret"))).json()["all"] is True
        lower = {"authorization": f"bearer  {SECRET}"}
        assert (await client.get("/me", headers=lower)).status_code == 200
        for path in ("/ping", "/livez", "/readyz", *documentation.PATHS):
            assert (await client.get(path)).status_code == 200, path
        within = ("/ping/", "/openapi.json/x", "/docs/x", "/docs-assets/x", "/docs-assets/../me")
        for path in ("/me", "/", "/nowhere", "/docs/../me", "//me", *within):
            refused = await client.get(path)
            assert refused.status_code == 401, path
            assert refused.headers["WWW-Authenticate"] == 'Bearer realm="shop"'
            assert refused.headers["content-type"] == "application/problem+json"
            assert refused.json()["type"] == "/problems/unauthenticated"
        body = await client.post("/me", content=b"not JSON", headers={"content-type": "text/x"})
        assert body.status_code == 401


@pytest.mark.parametrize("path", sorted(documentation.PATHS))
async def test_whoever_reads_a_public_page_slowly_takes_nobodys_place(
    tokens_file: Path, path: str
) -> None:
    app = app_of(settings(auth="required", auth_tokens_file=tokens_file, max_concurrent_requests=1))
    reading, read = asyncio.Event(), asyncio.Event()

    async def receive() -> Message:
        await read.wait()
        return {"type": "http.disconnect"}

    async def slowly(message: Message) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200
            reading.set()
            await read.wait()

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    stranger = asyncio.create_task(app(scope, receive, slowly))
    await reading.wait()
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        headers = bearer(SECRET) | {deadlines.HEADER: "10000"}
        assert (await client.get("/me", headers=headers)).status_code == 200
    read.set()
    await stranger


@pytest.mark.parametrize(
    "lines",
    [
        ["Bearer wrong"],
        [f"Bearer {SECRET}x"],
        [f"Bearer {SECRET}", f"Bearer {SECRET}"],
        [f"Bearer {SECRET}", "Basic YTpi"],
        [f"Bearer {SECRET}, Bearer {SECRET}"],
        [f"Bearer {SECRET} {SECRET}"],
        ["Bearer"],
        [f"Bearer{SECRET}"],
        [f"Basic {SECRET}"],
        [SECRET],
        [""],
        ["Bearer " + "x" * 8193],
        ["Bearer " + "x" * 9000],
        ["Bearer caf\u00e9"],
        ["Bearer a.b.c"],
        ["Bearer eyJhbGciOiJub25lIn0.e30."],
    ],
)
async def test_credentials_that_are_not_one_good_token_are_401(
    tokens_file: Path, lines: list[str]
) -> None:
    headers = [(b"Authorization", line.encode("latin-1")) for line in lines]
    async with client_of(settings(auth="required", auth_tokens_file=tokens_file)) as client:
        answer = await client.get("/me", headers=headers)
    assert answer.status_code == 401
    challenge = answer.headers["WWW-Authenticate"]
    assert challenge.startswith('Bearer realm="shop"')
    assert SECRET not in challenge + answer.text


async def test_no_token_is_logged_or_answered(
    tokens_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    route_to_stdlib()
    caplog.set_level("INFO")
    async with client_of(settings(auth="required", auth_tokens_file=tokens_file)) as client:
        answers = [
            await client.get("/me", headers=bearer(SECRET)),
            await client.get("/me", headers=bearer(f"{SECRET}.{SECRET}.x")),
            await client.post("/me", headers=bearer(SECRET), json={"a": "no number"}),
        ]
    assert [answer.status_code for answer in answers] == [200, 401, 422]
    said = "".join(str(vars(record)) for record in caplog.records)
    assert "token:alice" in said
    assert SECRET not in said
    assert not any(SECRET in answer.text + str(answer.headers) for answer in answers)


async def test_signed_tokens_are_checked_with_the_keys_that_the_issuers_host_has(
    tokens_file: Path,
) -> None:
    issuer, keys_app, asked = Issuer(), FastAPI(), []

    @keys_app.get("/jwks")
    async def jwks(request: Request) -> Response:
        asked.append(str(request.url.query))
        return Response(issuer.published(), media_type="application/json")

    async with serving(keys_app) as url:
        chosen = settings(
            auth="required",
            auth_tokens_file=tokens_file,
            auth_oidc_issuer=ISSUER,
            auth_oidc_audience=AUDIENCE,
            auth_oidc_jwks_url=f"{url}/jwks?realm=shop",
        )
        async with client_of(chosen) as client:
            answer = await client.get("/me", headers=bearer(issuer.token(sub="carol")))
            assert answer.json()["client"] == "oidc:carol"
            assert (await client.get("/me", headers=bearer(SECRET))).status_code == 200
            expired = await client.get("/me", headers=bearer(issuer.token(exp=1)))
            assert expired.status_code == 401
            assert 'error="invalid_token"' in expired.headers["WWW-Authenticate"]
    assert asked == ["realm=shop"]


def garbage() -> Response:
    return Response(b"<html>" * 10, media_type="text/html")


def huge() -> Response:
    return Response(b" " * 1_000_000, media_type="application/json")


def moved() -> Response:
    return Response(status_code=302, headers={"Location": "/elsewhere"})


@pytest.mark.parametrize("answer", [garbage, huge, moved, None])
async def test_without_keys_signed_tokens_get_503_and_static_ones_work(
    tokens_file: Path, answer: Callable[[], Response] | None
) -> None:
    keys_app = FastAPI()
    keys_app.get("/jwks")(answer or garbage)
    elsewhere = []
    keys_app.get("/elsewhere")(lambda: elsewhere.append(1))
    async with serving(keys_app) as url:
        chosen = settings(
            auth="required",
            auth_tokens_file=tokens_file,
            auth_oidc_issuer=ISSUER,
            auth_oidc_audience=AUDIENCE,
            auth_oidc_jwks_url=f"{url if answer else 'http://127.0.0.1:1'}/jwks",
        )
        async with client_of(chosen) as client:
            refused = await client.get("/me", headers=bearer(Issuer().token()))
            assert refused.status_code == 503
            assert refused.json()["type"] == "/problems/auth-keys-unavailable"
            assert refused.headers["Retry-After"]
            assert (await client.get("/me", headers=bearer(SECRET))).status_code == 200
    assert not elsewhere


async def test_a_file_of_keys_is_as_good_as_a_host(tmp_path: Path) -> None:
    issuer, path = Issuer(), tmp_path / "jwks.json"
    path.write_bytes(issuer.published())
    chosen = settings(
        auth="required",
        auth_oidc_issuer=ISSUER,
        auth_oidc_audience=AUDIENCE,
        auth_oidc_jwks_file=path,
    )
    async with client_of(chosen) as client:
        assert (await client.get("/me", headers=bearer(issuer.token()))).status_code == 200
        assert (await client.get("/me", headers=bearer(SECRET))).status_code == 401


async def test_a_replaced_file_is_read_again_and_a_broken_one_changes_nothing(
    tokens_file: Path,
) -> None:
    now = [0.0]
    file = WatchedFile(tokens_file, parse_credential_of_any, clock=lambda: now[0])
    first = await file.current()
    write_text(tokens_file, "second")
    assert await file.current() == first
    now[0] += 6
    assert await file.current() == first  # what is read anew is for the next
    await settled(file)
    assert await file.current() == "second"
    for spoilt in ("", None):
        write_text(tokens_file, spoilt)
        now[0] += 6
        await file.current()
        await settled(file)
        assert await file.current() == "second"
    write_text(tokens_file, "third")
    assert await file.latest() == "third"
    await file.aclose()


async def test_after_a_pause_nobody_gets_what_a_file_said_before_it(tokens_file: Path) -> None:
    now = [0.0]
    write_text(tokens_file, "first")
    file = WatchedFile(tokens_file, parse_credential_of_any, clock=lambda: now[0])
    write_text(tokens_file, "second")
    now[0] += 6
    assert await file.current() == "first"
    await settled(file)
    write_text(tokens_file, "third")
    now[0] += 10
    assert await asyncio.gather(*(file.current() for _ in range(3))) == ["third"] * 3
    await file.aclose()


async def test_a_disk_that_hangs_keeps_requests_waiting_for_a_second_only(
    tokens_file: Path,
) -> None:
    now, hanging = [0.0], threading.Event()

    def slow(raw: bytes) -> str:
        if now[0]:
            hanging.wait()
        return parse_credential_of_any(raw)

    write_text(tokens_file, "first")
    file = WatchedFile(tokens_file, slow, clock=lambda: now[0])
    write_text(tokens_file, "second")
    now[0] += 10
    waiting = asyncio.create_task(file.current())
    await asyncio.sleep(0)
    now[0] += 1
    assert await file.current() == "first"
    assert not waiting.done()
    assert await waiting == "first"
    hanging.set()
    await settled(file)
    assert await file.current() == "second"


def write_text(path: Path, text: str | None) -> None:
    path.unlink(missing_ok=True)
    if text is not None:
        path.write_text(text)


def parse_credential_of_any(raw: bytes) -> str:
    return parse_credential(raw.split()[0] if raw.split() else b"")


async def settled(file: WatchedFile[str]) -> None:
    if file._round is not None:
        await asyncio.wait({file._round})
        await asyncio.sleep(0)


@pytest.mark.parametrize("text", [b"", b"\n", b"two words", b"a\nb", b"\xc3\xa9"])
def test_a_credential_is_one_token(text: bytes) -> None:
    with pytest.raises(ValueError, match="one access token"):
        parse_credential(text)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"auth": "required"}, "AUTH_TOKENS_FILE"),
        ({"auth_tokens_file": "/x"}, "AUTH is off"),
        ({"auth_oidc_issuer": "i"}, "AUTH is off"),
        ({"auth": "required", "auth_oidc_issuer": "i"}, "AUTH_OIDC_AUDIENCE"),
        ({"auth": "required", "auth_oidc_audience": "i"}, "AUTH_OIDC_ISSUER"),
        ({"auth": "required", "auth_oidc_algorithms": "HS256"}, "none of RS256"),
        ({"auth": "required", "auth_oidc_algorithms": "none"}, "none of RS256"),
        ({"auth": "required", "auth_oidc_algorithms": ""}, "none of RS256"),
        ({"auth": "required", "auth_oidc_jwks_url": "http://issuer.example/k"}, "https"),
        ({"auth": "required", "auth_oidc_jwks_url": "file:///etc/passwd"}, "http"),
        (
            {
                "auth": "required",
                "auth_oidc_issuer": "i",
                "auth_oidc_audience": "a",
                "auth_oidc_jwks_url": "https://h/k",
                "auth_oidc_jwks_file": "/k",
            },
            "exclude each other",
        ),
    ],
)
def test_settings_that_would_let_in_nobody_or_everybody_are_refused(
    values: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        settings(**values)


def test_a_file_that_is_not_there_or_wrong_is_said_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    with pytest.raises(ValueError, match="No such file"):
        app_of(settings(auth="required", auth_tokens_file=path))
    path.write_text("alice hunter2")
    with pytest.raises(ValueError, match="line 1") as refused:
        app_of(settings(auth="required", auth_tokens_file=path))
    assert "hunter2" not in str(refused.value)


async def test_the_document_says_that_a_token_is_needed_and_where_not(tokens_file: Path) -> None:
    required = app_of(settings(auth="required", auth_tokens_file=tokens_file)).openapi()
    assert required["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert required["security"] == [{"bearer": []}]
    assert {"401", "403"} <= set(required["paths"]["/me"]["get"]["responses"])
    assert required["paths"]["/livez"]["get"]["security"] == []
    off = app_of(settings()).openapi()
    assert off["security"] == [{}, {"bearer": []}]
    assert json.dumps(off)


def test_an_error_description_needs_no_escaping() -> None:
    error = Unauthenticated("The access token has expired.", reason="expired")
    assert '"' not in error.detail
