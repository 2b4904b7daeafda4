"""Write the OpenAPI documents of both services, for linters and for whoever generates clients.

``python -m tools.api_documents FOLDER`` writes ``order.json`` and ``invoice.json``. Nothing is
started: the documents follow from the code.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import invoice.app
import invoice.failpoints
import invoice.settings
import order.app
import order.failpoints
import order.settings
from devkit.services import SERVICES
from servicekit.failpoints import Failpoints
from servicekit.runtime import Runtime

# Where a service would find its stores: a document is made without asking them.
NOWHERE: Final = {
    "database_url": "postgresql://u:p@127.0.0.1:9/d",
    "redis_url": "redis://127.0.0.1:9",
}


def document_of(service: str) -> dict[str, Any]:
    """The document that the service serves at ``/openapi.json``."""
    if service == "order":
        return order.app.create_app(
            order.settings.Settings.model_validate(NOWHERE),
            runtime=Runtime.bare(service=service, failpoints=Failpoints(order.failpoints.NAMES)),
        ).openapi()
    return invoice.app.create_app(
        invoice.settings.Settings.model_validate(NOWHERE),
        runtime=Runtime.bare(service=service, failpoints=Failpoints(invoice.failpoints.NAMES)),
    ).openapi()


def main(arguments: list[str]) -> int:
    """Write them into the folder that is named."""
    if len(arguments) != 1:
        print("usage: python -m tools.api_documents FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for service in SERVICES:
        path = folder / f"{service}.json"
        path.write_text(json.dumps(document_of(service), indent=2) + "\n")
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
