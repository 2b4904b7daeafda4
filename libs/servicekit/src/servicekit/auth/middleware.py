"""Finds out who asks, before anything of a request is parsed and before it takes a place."""

import re
from collections.abc import Collection
from typing import Final, Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from servicekit import access_log, problems
from servicekit.auth.errors import Unauthenticated
from servicekit.auth.principal import ANONYMOUS, SCOPE_KEY, Principal
from servicekit.auth.signed_tokens import malformed

MAXIMUM_TOKEN_LENGTH: Final = 8_192
# RFC 6750, 2.1. Credentials of another scheme are as good as none.
_BEARER: Final = re.compile(r"bearer +(?P<token>[A-Za-z0-9\-._~+/]+=*) *", re.IGNORECASE)
_SCHEME: Final = re.compile(r"bearer\b", re.IGNORECASE)


class Authenticator(Protocol):
    """Knows whom tokens stand for."""

    async def principal(self, token: str) -> Principal:
        """Return whom a token stands for.

        Raises:
            Unauthenticated: it is not good.
            KeysUnavailable: whether it is cannot be told now.
        """
        ...


class AuthenticationMiddleware:
    """Puts the ``Principal`` into the scope of every request, or answers 401.

    Stands inside of the deadline, since keys may have to be fetched, and outside of admission: who
    is not let in takes nobody's place.

    Args:
        app: the application.
        authenticator: knows the tokens; None if nobody has to show one.
        public_paths: what everybody may ask for.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        authenticator: Authenticator | None,
        public_paths: Collection[str] = (),
    ) -> None:
        self.app = app
        self._authenticator = authenticator
        self._public = frozenset(public_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if (
            scope["type"] == "lifespan"
            or self._authenticator is None
            or scope["path"] in self._public
        ):
            scope[SCOPE_KEY] = ANONYMOUS
            await self.app(scope, receive, send)
            return
        try:
            principal = await self._authenticator.principal(token_of(scope))
        except problems.Problem as problem:
            if isinstance(problem, Unauthenticated) and problem.reason is not None:
                access_log.bind(auth_refused=problem.reason)
            answer = problems.response(problem, instance=scope["path"])
            await answer(scope, receive, send)
            return
        access_log.bind(principal=principal.client)
        scope[SCOPE_KEY] = principal
        await self.app(scope, receive, send)


def token_of(scope: Scope) -> str:
    """Return the one bearer token of a request.

    Raises:
        Unauthenticated: there is none, or more than one credential.
    """
    lines = [value for name, value in scope["headers"] if name == b"authorization"]
    if not lines:
        raise Unauthenticated("Send an access token: `Authorization: Bearer TOKEN`.")
    if len(lines) > 1:
        raise Unauthenticated("Send one Authorization header.", reason="several")
    text = lines[0].decode("latin-1").strip()
    if not _SCHEME.match(text):
        raise Unauthenticated("Send an access token: `Authorization: Bearer TOKEN`.")
    # The length first: what follows looks at all of it.
    if len(text) > MAXIMUM_TOKEN_LENGTH + len("bearer "):
        raise Unauthenticated("The access token is too long.", reason="too_long")
    match = _BEARER.fullmatch(text)
    if match is None:
        raise malformed()
    return match["token"]
