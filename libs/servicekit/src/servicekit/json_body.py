"""Strict requests: JSON with exact numbers, nothing after it, no key and no parameter twice.

Use as ``APIRouter(route_class=StrictJsonRoute)``.
"""

import codecs
import json
from collections.abc import Callable, Coroutine
from decimal import Decimal, InvalidOperation
from email.message import Message
from typing import Any

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from servicekit.problems import ValidationFailed

# Far beyond any amount, far below what makes int(Decimal("1e999999999")) a denial of service.
_GREATEST_EXPONENT = 40


class MalformedJson(HTTPException):
    """The body is not one JSON document."""

    def __init__(self, detail: str) -> None:
        super().__init__(status_code=400, detail=detail)


class StrictJsonRequest(Request):
    """A request whose ``json()`` keeps numbers exact and refuses what is ambiguous."""

    async def json(self) -> Any:  # noqa: ANN401 - the type of the method it overrides
        """Return the parsed body.

        Raises:
            MalformedJson: it is not exactly one JSON document.
        """
        return loads(await self.body())


class StrictJsonRoute(APIRoute):
    """A route that reads its body as ``StrictJsonRequest`` does.

    Each of its query parameters has one value; one that is given twice is refused, since which of
    both is meant nobody can tell.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, with the request's JSON parser replaced."""
        handler = super().get_route_handler()

        async def strict_handler(request: Request) -> Response:
            if self.dependant.query_params:
                _require_each_once(request)
            if self.body_field is not None:
                _require_json(request)
            return await handler(StrictJsonRequest(request.scope, request.receive))

        return strict_handler


def loads(body: bytes) -> Any:  # noqa: ANN401 - a JSON document can be anything
    """Parse one JSON document, numbers with a point as ``Decimal``.

    Raises:
        MalformedJson: not UTF-8, not one document, a key twice, or a number out of range.
    """
    try:
        if body.startswith(codecs.BOM_UTF8):
            raise MalformedJson("The body begins with a byte order mark; send UTF-8 without one.")
        return _decoder.decode(body.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise MalformedJson(
            f"The body is not valid JSON: {error.msg} at character {error.pos}."
        ) from error
    except UnicodeDecodeError as error:
        raise MalformedJson("The body is not UTF-8 text.") from error
    except RecursionError as error:
        raise MalformedJson("The body is nested too deeply.") from error


def _exact(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise MalformedJson("A number in the body is out of range.") from error
    if number and abs(number.adjusted()) > _GREATEST_EXPONENT:
        raise MalformedJson(f"A number in the body is out of range: {text[:40]}")
    return number


def _whole(text: str) -> int | Decimal:
    if len(text) > _GREATEST_EXPONENT:
        raise MalformedJson(f"A number in the body is out of range: {text[:40]}")
    # An int would forget the sign.
    return Decimal(text) if text == "-0" else int(text)


def _refuse_constant(name: str) -> None:
    raise MalformedJson(f"The body is not valid JSON: {name} is not a JSON value.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedJson("The body names the same key twice.")
    return found


# Made once: `json.loads` makes one for each document that asks for anything special.
_decoder = json.JSONDecoder(
    parse_float=_exact,
    parse_int=_whole,
    parse_constant=_refuse_constant,
    object_pairs_hook=_unique,
)


def _require_each_once(request: Request) -> None:
    seen = set()
    for name, _ in request.query_params.multi_items():
        if name in seen:
            raise ValidationFailed.of(name, "is given more than once")
        seen.add(name)


def _require_json(request: Request) -> None:
    """Refuse another media type by name; none at all is taken as JSON."""
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise HTTPException(
            status_code=415,
            detail="Send the body without Content-Encoding.",
            headers={"Accept-Encoding": "identity"},
        )
    given = request.headers.get("content-type")
    if not given or given == "application/json":
        return
    message = Message()
    message["content-type"] = given
    subtype = message.get_content_subtype()
    if message.get_content_maintype() == "application" and (
        subtype == "json" or subtype.endswith("+json")
    ):
        return
    raise HTTPException(status_code=415, detail="Send the body as Content-Type: application/json.")
