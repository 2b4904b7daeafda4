"""Who asks, and what they may beyond what everybody may."""

from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request

from servicekit.auth.errors import Forbidden

OPERATOR: Final = "shop:operator"
"""May see and cancel the operations of every client."""
INTERNAL: Final = "shop:internal"
"""May do what only the other service does: decide orders' operations."""
SCOPES: Final = frozenset({OPERATOR, INTERNAL})
SCOPE_KEY: Final = "servicekit.principal"
"""Where the ASGI scope of a request has its principal."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request comes from.

    Attributes:
        client: the owner of idempotency keys and operations; begins with the kind of its token, so
            that no two kinds, and nobody and somebody, ever share a name.
        scopes: what it may beyond that, of ``SCOPES``.
    """

    client: str
    scopes: frozenset[str] = frozenset()

    @property
    def sees_all(self) -> bool:
        """Whether it sees what others have done."""
        return OPERATOR in self.scopes

    @property
    def is_internal(self) -> bool:
        """Whether it is the other service."""
        return INTERNAL in self.scopes

    def owns(self, client: str) -> bool:
        """Tell whether it may see and cancel what ``client`` has begun."""
        return self.sees_all or self.client == client

    def require(self, scope: str, *, to: str) -> None:
        """Return if the principal has the scope.

        Args:
            scope: one of ``SCOPES``.
            to: what it is needed for, as the end of a sentence.

        Raises:
            Forbidden: it does not.
        """
        if scope not in self.scopes:
            raise Forbidden(f"Only a token with the scope {scope} may {to}.", scope=scope)


ANONYMOUS: Final = Principal("anonymous", SCOPES)
"""Everybody, where nobody has to say who they are."""


async def _principal(request: Request) -> Principal:
    principal: Principal = request.scope[SCOPE_KEY]
    return principal


PrincipalDependency = Annotated[Principal, Depends(_principal)]
