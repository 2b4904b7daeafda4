"""Alembic's entry point; run by ``servicekit.migrations`` only."""

from invoice.models import metadata
from servicekit.migrations import run_in_context

run_in_context(metadata)
