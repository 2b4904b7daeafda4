"""What a request is answered that may not do what it asks for.

Problem
├── Unauthenticated              401
├── Forbidden                    403
└── ServiceUnavailable           503
└── KeysUnavailable
"""

from typing import Final

from servicekit.problems import Problem, ServiceUnavailable

REALM: Final = "shop"


class Unauthenticated(Problem):
    """The request carries no token, or none that is good.

    Attributes:
        reason: one word for the log; None if there was no token at all.
    """

    status = 401
    slug = "unauthenticated"
    title = "A valid access token is needed"

    def __init__(self, detail: str, *, reason: str | None = None) -> None:
        challenge = f'Bearer realm="{REALM}"'
        # RFC 6750, 3.1: whoever has shown nothing is told no error.
        if reason is not None:
            challenge += f', error="invalid_token", error_description="{detail}"'
        super().__init__(detail, headers={"WWW-Authenticate": challenge})
        self.reason = reason


class Forbidden(Problem):
    """The token is good, and does not allow this."""

    status = 403
    slug = "insufficient-scope"
    title = "The access token does not allow this"

    def __init__(self, detail: str, *, scope: str) -> None:
        challenge = f'Bearer realm="{REALM}", error="insufficient_scope", scope="{scope}"'
        super().__init__(detail, headers={"WWW-Authenticate": challenge})


class KeysUnavailable(ServiceUnavailable):
    """The keys that tokens are signed with cannot be had: whether a token is good is not known."""

    slug = "auth-keys-unavailable"
    title = "Access tokens cannot be checked now"
