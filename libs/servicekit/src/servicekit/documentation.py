"""The API's document and its pages, ``/docs`` and ``/redoc``, from files that are installed.

A browser gets everything from this service, and the pages' policy lets it ask nobody else. All
references are relative, so the pages are right below any path.
"""

import functools
import importlib.resources
import json
import mimetypes
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

_ASSETS: Final = "docs-assets"
_FILES: Final = frozenset(
    {"swagger-ui-bundle.js", "swagger-ui.css", "redoc.standalone.js", "favicon.png"}
)
_PART_BYTES: Final = 65_536
PATHS: Final = frozenset(
    {"/docs", "/redoc", "/openapi.json", *(f"/{_ASSETS}/{name}" for name in _FILES)}
)
"""The pages, and all that they ask for."""
# Both pages start themselves with a script of a few lines and style themselves at run time; ReDoc
# searches in a worker that it makes of a blob.
_POLICY: Final = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src blob:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def install(app: FastAPI) -> None:
    """Give ``app``, made with ``openapi_url=None``, its document and its pages.

    Nobody has to show a token for them, so what they cost is paid once, by whoever asks first.
    """
    folder = Path(str(importlib.resources.files("fastapi_offline"))) / "static"

    @functools.cache
    def rendered() -> bytes:
        return json.dumps(app.openapi(), ensure_ascii=False, separators=(",", ":")).encode()

    @app.get("/openapi.json", include_in_schema=False)
    async def document() -> Response:
        return Response(rendered(), media_type="application/json")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        page = get_swagger_ui_html(
            openapi_url="openapi.json",
            title=app.title,
            swagger_js_url=f"{_ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{_ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{_ASSETS}/favicon.png",
            # The validator that the badge would ask is somebody else's.
            swagger_ui_parameters={"validatorUrl": None},
        )
        return _confined(page)

    @app.get("/redoc", include_in_schema=False)
    async def redoc() -> HTMLResponse:
        page = get_redoc_html(
            openapi_url="openapi.json",
            title=app.title,
            redoc_js_url=f"{_ASSETS}/redoc.standalone.js",
            redoc_favicon_url=f"{_ASSETS}/favicon.png",
            with_google_fonts=False,
        )
        return _confined(page)

    @functools.cache
    def kept(name: str) -> bytes:
        return (folder / name).read_bytes()

    @app.get(f"/{_ASSETS}/{{name}}", include_in_schema=False)
    async def asset(name: str) -> Response:
        if name not in _FILES:
            raise HTTPException(status_code=404)
        return _Asset(kept(name), media_type=mimetypes.guess_type(name)[0])


class _Asset(Response):
    """A file that is in memory, sent in parts: who reads slowly holds one of them and not all."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send it."""
        headers = [*self.raw_headers, (b"cache-control", b"public, max-age=3600")]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        content = bytes(self.body)
        for begin in range(0, len(content), _PART_BYTES):
            part = content[begin : begin + _PART_BYTES]
            more = begin + _PART_BYTES < len(content)
            await send({"type": "http.response.body", "body": part, "more_body": more})


def _confined(page: HTMLResponse) -> HTMLResponse:
    page.headers["Content-Security-Policy"] = _POLICY
    return page
