"""The template of the route that a request matched."""

from typing import Final

from starlette.types import Scope

UNMATCHED: Final = "unmatched"


def route_template(scope: Scope) -> str:
    """Return for example ``/invoices/{invoice_id}``; ``unmatched`` where no route was found.

    Only known once the application has routed the request.
    """
    return getattr(scope.get("route"), "path", UNMATCHED)
