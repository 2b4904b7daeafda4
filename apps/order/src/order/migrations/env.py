"""Run by Alembic for every migration command."""

from order.models import metadata
from servicekit.migrations import run_in_context

run_in_context(metadata)
