"""Alembic's entry point; run by ``servicekit.migrations`` only."""

from invoice.models import Base
from servicekit.migrations import run_in_context

run_in_context(Base.metadata)
