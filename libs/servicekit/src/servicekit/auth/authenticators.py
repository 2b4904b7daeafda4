"""The authenticator that the settings describe."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from servicekit.auth import keys, static_tokens
from servicekit.auth.errors import Unauthenticated
from servicekit.auth.files import WatchedFile
from servicekit.auth.keys import Keys
from servicekit.auth.principal import Principal
from servicekit.auth.settings import AuthSettings
from servicekit.auth.signed_tokens import SignedTokens
from servicekit.auth.static_tokens import StaticTokens
from servicekit.http_client import AiohttpClient

_MAXIMUM_DOCUMENT_BYTES = 262_144
_OK = 200
_DOTS_OF_A_JWT = 2


class Tokens:
    """Static tokens and signed ones, whichever are set up.

    Args:
        static: those of a file.
        signed: those of an issuer.
        closing: what has to be closed at the end.
    """

    def __init__(
        self,
        *,
        static: StaticTokens | None,
        signed: SignedTokens | None,
        closing: list[Callable[[], Awaitable[None]]],
    ) -> None:
        self._static = static
        self._signed = signed
        self._closing = closing

    @classmethod
    def create(cls, settings: AuthSettings) -> "Tokens | None":
        """Return what the settings describe, None if nobody has to show a token.

        Files are read, so that a wrong one is found at the start; nobody is called.

        Raises:
            ValueError: a file cannot be read or is wrong; the message does not show it.
        """
        if settings.auth == "off":
            return None
        closing: list[Callable[[], Awaitable[None]]] = []
        static = signed = None
        if settings.auth_tokens_file is not None:
            file = WatchedFile(settings.auth_tokens_file, static_tokens.parse)
            closing.append(file.aclose)
            static = StaticTokens(file.current)
        if settings.uses_oidc:
            signed = _signed(settings, closing)
        return cls(static=static, signed=signed, closing=closing)

    async def principal(self, token: str) -> Principal:
        """Return whom a token stands for; see ``Authenticator``."""
        if self._static is not None:
            principal = await self._static.principal(token)
            if principal is not None:
                return principal
        if self._signed is not None and token.count(".") == _DOTS_OF_A_JWT:
            return await self._signed.principal(token)
        raise Unauthenticated("The access token is not known.", reason="unknown")

    async def aclose(self) -> None:
        """Close what is open and give up what is going on."""
        for close in self._closing:
            await close()


def _signed(settings: AuthSettings, closing: list[Callable[[], Awaitable[None]]]) -> SignedTokens:
    algorithms = settings.auth_oidc_algorithms.split(",")
    if settings.auth_oidc_jwks_file is not None:
        fetch = _from_file(settings.auth_oidc_jwks_file, algorithms, closing)
    else:
        fetch = _from_host(settings, closing)
    known = Keys(
        fetch,
        algorithms=algorithms,
        timeout_seconds=settings.auth_keys_timeout_seconds,
        fresh_seconds=settings.auth_keys_fresh_seconds,
        stale_seconds=settings.auth_keys_stale_seconds,
    )
    closing.insert(0, known.aclose)
    return SignedTokens(
        known,
        issuer=settings.auth_oidc_issuer,
        audience=settings.auth_oidc_audience,
        algorithms=algorithms,
        leeway_seconds=settings.auth_leeway_seconds,
    )


def _from_file(
    path: Path, algorithms: list[str], closing: list[Callable[[], Awaitable[None]]]
) -> keys.Fetch:
    def checked(raw: bytes) -> bytes:
        keys.parse(raw, algorithms=algorithms)
        return raw

    file = WatchedFile(path, checked)
    closing.append(file.aclose)

    return file.latest


def _from_host(settings: AuthSettings, closing: list[Callable[[], Awaitable[None]]]) -> keys.Fetch:
    parts = urlsplit(settings.auth_oidc_jwks_url)
    client = AiohttpClient(
        f"{parts.scheme}://{parts.netloc}",
        user_agent="shop-auth",
        connections=1,
        maximum_answer_bytes=_MAXIMUM_DOCUMENT_BYTES,
    )
    closing.append(client.aclose)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))

    async def fetch() -> bytes:
        answer = await client.request(
            "GET",
            parts.path or "/",
            query=query or None,
            timeout_seconds=settings.auth_keys_timeout_seconds,
            headers={"Accept": "application/json"},
            repeatable=True,
        )
        if answer.status != _OK:
            raise ValueError(f"the host of the keys answered {answer.status}")
        return answer.body

    return fetch
