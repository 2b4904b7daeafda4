"""The services of the shop: the one list of their names."""

from __future__ import annotations

from typing import Final

SERVICES: Final = ("invoice", "order")
"""In the order in which they start: the order service asks the invoice service."""
