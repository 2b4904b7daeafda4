"""Signed tokens (JWT, RFC 7519, checked as RFC 8725 and RFC 9068 say)."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import jwt

from servicekit.auth.errors import Unauthenticated
from servicekit.auth.keys import Keys, UnknownKey
from servicekit.auth.principal import SCOPES, Principal

_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_MOMENTS: Final = ("exp", "nbf", "iat")
_MAXIMUM_NAME: Final = 255
_REASONS: Final[Mapping[type[jwt.PyJWTError], tuple[str, str]]] = {
    jwt.ExpiredSignatureError: ("expired", "The access token has expired."),
    jwt.ImmatureSignatureError: ("not_yet_valid", "The access token is not valid yet."),
    jwt.InvalidAudienceError: ("audience", "The access token is meant for somebody else."),
    jwt.InvalidIssuerError: ("issuer", "The access token is of another issuer."),
    jwt.MissingRequiredClaimError: ("claims", "The access token lacks a claim."),
    jwt.InvalidSignatureError: ("signature", "The access token's signature is wrong."),
}


class SignedTokens:
    """Knows whom signed tokens stand for.

    Args:
        keys: the issuer's.
        issuer: who must have issued them, letter by letter.
        audience: whom they must be meant for.
        algorithms: what they may be signed with.
        leeway_seconds: how far the issuer's clock may differ from ours.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        issuer: str,
        audience: str,
        algorithms: Collection[str],
        leeway_seconds: float,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._algorithms = frozenset(algorithms)
        self._leeway_seconds = leeway_seconds

    async def principal(self, token: str) -> Principal:
        """Return whom a token stands for.

        Raises:
            Unauthenticated: it is not good.
            KeysUnavailable: whether it is cannot be told now.
        """
        try:
            return _principal_of(await self._claims(token))
        except UnknownKey as error:
            raise Unauthenticated(
                "The access token is signed with an unknown key.", reason="unknown_key"
            ) from error
        except tuple(_REASONS) as error:
            reason, detail = next(
                said for kind, said in _REASONS.items() if isinstance(error, kind)
            )
            raise Unauthenticated(detail, reason=reason) from error
        except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
            raise malformed() from error

    async def _claims(self, token: str) -> Mapping[str, Any]:
        header = jwt.get_unverified_header(token)
        algorithm = header.get("alg")
        # The header is the caller's word: it chooses among what we allow, and nothing else in it
        # (jwk, jku, x5u) is looked at.
        if algorithm not in self._algorithms:
            raise Unauthenticated(
                "The access token is signed in a way that is not allowed.", reason="algorithm"
            )
        if "crit" in header or str(header.get("typ", "JWT")).lower() not in _TYPES:
            raise Unauthenticated("The access token is of a kind that is not taken.", reason="type")
        claims: dict[str, Any] = jwt.decode(
            token,
            await self._keys.find(header.get("kid"), algorithm),
            algorithms=[algorithm],
            issuer=self._issuer,
            audience=self._audience,
            leeway=self._leeway_seconds,
            options={
                "require": ["exp", "iss", "aud", "sub"],
                "enforce_minimum_key_length": True,
            },
        )
        # RFC 7519, 2: a number. PyJWT takes whatever Python can make one of.
        if any(type(claims.get(name, 0)) not in (int, float) for name in _MOMENTS):
            raise malformed()
        return claims


def malformed() -> Unauthenticated:
    """Return the answer to what is no token at all."""
    return Unauthenticated("The access token cannot be read.", reason="malformed")


def _principal_of(claims: Mapping[str, Any]) -> Principal:
    subject = claims["sub"]
    if not isinstance(subject, str) or not 0 < len(subject) <= _MAXIMUM_NAME:
        raise ValueError("sub")
    # Postgres holds no NUL, and a log line no line break.
    if not subject.isprintable():
        raise ValueError("sub")
    return Principal(f"oidc:{subject}", SCOPES.intersection(_scopes(claims)))


def _scopes(claims: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the token grants: ``scope`` of RFC 8693, or ``scp`` as some issuers write it."""
    for name in ("scope", "scp"):
        granted = claims.get(name, "")
        if isinstance(granted, str):
            yield from granted.split()
        elif isinstance(granted, list):
            yield from (each for each in granted if isinstance(each, str))
