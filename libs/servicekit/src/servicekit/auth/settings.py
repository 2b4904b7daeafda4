"""How callers are authenticated, from a service's environment variables."""

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings

from servicekit.auth.algorithms import KINDS
from servicekit.urls import http_url

_HTTP: Final = "must be https://, or http:// on this machine"


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can be reached there, or can reach it."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _algorithms(text: str) -> str:
    names = text.split(",")
    if unknown := set(names) - KINDS.keys():
        raise ValueError(f"{min(unknown)!r} is none of {', '.join(KINDS)}")
    return text


def _keys_url(url: str) -> str:
    if not url:
        return url
    http_url(url.partition("?")[0])
    parts = urlsplit(url)
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise ValueError(_HTTP)
    return url


class AuthSettings(BaseSettings):
    """Who may call the service."""

    auth: Literal["off", "required"] = "off"
    """``required``: every request but probes and documentation carries a bearer token."""
    auth_tokens_file: Path | None = None
    """Static tokens, one a line: NAME SHA256 [SCOPE ...]; read again when it changes."""
    auth_oidc_issuer: Annotated[str, Field(max_length=2048)] = ""
    """Who issues signed tokens: their ``iss``, letter by letter."""
    auth_oidc_audience: Annotated[str, Field(max_length=2048)] = ""
    """Whom they must be meant for: their ``aud``."""
    auth_oidc_jwks_url: Annotated[str, Field(max_length=2048), AfterValidator(_keys_url)] = ""
    """Where the issuer's public keys are."""
    auth_oidc_jwks_file: Path | None = None
    """The same in a file; read again when it changes."""
    auth_oidc_algorithms: Annotated[str, AfterValidator(_algorithms)] = "RS256,ES256"
    """What tokens may be signed with, separated by commas."""
    auth_leeway_seconds: Annotated[float, Field(ge=0, le=300, allow_inf_nan=False)] = 30.0
    """How far the issuer's clock may differ from this one."""
    auth_keys_fresh_seconds: Annotated[float, Field(ge=10, le=86_400, allow_inf_nan=False)] = 300.0
    """How long the issuer's keys are used before they are asked for again."""
    auth_keys_stale_seconds: Annotated[float, Field(ge=10, le=2_592_000, allow_inf_nan=False)] = (
        86_400.0
    )
    """How long they are used after that when they cannot be had again."""
    auth_keys_timeout_seconds: Annotated[float, Field(ge=0.1, le=30, allow_inf_nan=False)] = 3.0
    """Limit for asking for them once."""

    @property
    def uses_oidc(self) -> bool:
        """Whether signed tokens are taken."""
        return bool(self.auth_oidc_issuer)

    @model_validator(mode="after")
    def _authentication_is_whole(self) -> Self:
        """What would let nobody in, or let everybody in unnoticed, is refused at the start."""
        for complaint in self._complaints():
            raise ValueError(complaint)
        return self

    def _complaints(self) -> Iterator[str]:
        prefix = self.model_config.get("env_prefix", "")
        oidc = {
            "AUTH_OIDC_ISSUER": self.auth_oidc_issuer,
            "AUTH_OIDC_AUDIENCE": self.auth_oidc_audience,
            "AUTH_OIDC_JWKS_URL or _FILE": self.auth_oidc_jwks_url or self.auth_oidc_jwks_file,
        }
        given = [name for name, value in oidc.items() if value]
        if self.auth == "off":
            if given or self.auth_tokens_file:
                yield f"{prefix}AUTH is off, and yet it is set who may call: set it to required"
            return
        if not given and not self.auth_tokens_file:
            ways = f"{prefix}AUTH_TOKENS_FILE or {prefix}AUTH_OIDC_ISSUER"
            yield f"{prefix}AUTH=required needs {ways}"
        if given and len(given) < len(oidc):
            missing = next(name for name in oidc if name not in given)
            yield f"{prefix}{given[0]} needs {prefix}{missing}"
        if self.auth_oidc_jwks_url and self.auth_oidc_jwks_file:
            yield f"{prefix}AUTH_OIDC_JWKS_URL and {prefix}AUTH_OIDC_JWKS_FILE exclude each other"
