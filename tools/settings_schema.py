"""Every environment variable of the services: what it takes, by default and at most.

``python -m tools.settings_schema`` prints them as JSON: a service's name, a variable's name, and
the JSON schema of its value. What a chart may set is checked against it, so that a value that the
chart takes is one that the service takes.
"""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

from devkit.services import SERVICES

Variables = dict[str, dict[str, Any]]


def settings_of(service: str) -> Variables:
    """The variables of one service, each with the JSON schema of its value."""
    found: Variables = import_module(f"{service}.commands").variables()
    return found


def main() -> None:
    """Print the variables of all services."""
    print(json.dumps({service: settings_of(service) for service in SERVICES}, indent=2))


if __name__ == "__main__":
    main()
