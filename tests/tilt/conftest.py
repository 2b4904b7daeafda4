"""Leaves the Tiltfile's tests out where its language has no wheel (see pyproject.toml)."""

from __future__ import annotations

import importlib.util

collect_ignore = [] if importlib.util.find_spec("starlark") else ["test_tiltfile.py"]


def pytest_report_header() -> list[str]:
    """What is left out, if anything."""
    return [f"left out, starlark-pyo3 is not there: {name}" for name in collect_ignore]
