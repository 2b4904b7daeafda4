"""Where the server is and how to introduce oneself, read from a URL the way redis-py reads it."""

import ssl
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio.connection import SSLConnection, parse_url

from fencelock._errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Target:
    """One server."""

    host: str
    port: int
    path: str | None
    db: int
    username: str | None
    password: str | None = field(repr=False)
    tls: ssl.SSLContext | None

    @classmethod
    def from_url(cls, url: str) -> "Target":
        """Read ``redis://``, ``rediss://`` or ``unix://``.

        Raises:
            ConfigurationError: the URL cannot be read.
        """
        try:
            parts: dict[str, Any] = dict(parse_url(url))
        except ValueError as error:
            raise ConfigurationError(f"not a Redis URL: {error}") from error
        return cls(
            host=parts.get("host", "localhost"),
            port=parts.get("port", 6379),
            path=parts.get("path"),
            db=int(parts.get("db", 0)),
            username=parts.get("username"),
            password=parts.get("password"),
            tls=_tls(parts),
        )

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


def _tls(parts: dict[str, Any]) -> ssl.SSLContext | None:
    """The TLS settings of the URL, as redis-py understands them."""
    if parts.get("connection_class") is not SSLConnection:
        return None
    known = {name: value for name, value in parts.items() if name.startswith("ssl_")}
    context: ssl.SSLContext = SSLConnection(**known).ssl_context.get()
    return context
