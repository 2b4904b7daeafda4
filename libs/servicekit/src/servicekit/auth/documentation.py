"""What the OpenAPI document says of authentication."""

from collections.abc import Collection
from typing import Any, Final

from servicekit import problems
from servicekit.auth.errors import Forbidden, Unauthenticated

_SCHEME: Final = "bearer"


def describe(schema: dict[str, Any], *, required: bool, public_paths: Collection[str]) -> None:
    """Add the security scheme, and what is answered to who may not.

    Args:
        schema: the document.
        required: whether every request needs a token.
        public_paths: those that never do.
    """
    schema["components"].setdefault("securitySchemes", {})[_SCHEME] = {
        "type": "http",
        "scheme": "bearer",
        "description": "An access token: a static one, or a JWT of the issuer that is set up."
        " Where the service is set up without authentication none is needed.",
    }
    # An empty requirement is one that everybody meets.
    schema["security"] = [{_SCHEME: []}] if required else [{}, {_SCHEME: []}]
    refusals = problems.responses(Unauthenticated, Forbidden)
    for path, operations in schema.get("paths", {}).items():
        for operation in operations.values():
            if path in public_paths:
                operation["security"] = []
            elif required:
                for status, answer in refusals.items():
                    operation["responses"].setdefault(str(status), answer)
