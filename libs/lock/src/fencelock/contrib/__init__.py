"""Observers for well-known tools; each needs the extra of its name (``fencelock[otel]``)."""
