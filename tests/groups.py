"""Which tests are too heavy for `make test`: each group has a marker and a verb of its own.

A plugin, named in the root conftest. Whole folders and files are listed here; the other groups
(`make` alone shows their verbs) mark their tests where these are. tests/repository/test_groups.py
holds that every test belongs to one verb, and that `.ci/run` calls each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "crash": ("tests/crash",),
    "charts": ("tests/charts", "tests/tilt", "tests/images"),
    "processes": (
        "apps/invoice/tests/test_process.py",
        "libs/devkit/tests/test_up.py",
        "tests/together/test_audit.py",
        "tests/together/test_crashes.py",
        "tests/together/test_restarts.py",
        "tests/together/test_silence.py",
        "tests/together/test_stopping.py",
        "tests/together/test_tokens.py",
        "tests/together/test_upgrade.py",
    ),
}
LISTED: Final = {ROOT / path: group for group, paths in GROUPS.items() for path in paths}
# What was collected, before a run's expression has chosen from it.
COLLECTED: Final = pytest.StashKey[list[pytest.Item]]()


@pytest.hookimpl(tryfirst=True)  # before the markers are read to choose the tests
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is listed above, and keep everything for the test of the groups themselves."""
    for item in items:
        for path in (item.path, *item.path.parents):
            if path in LISTED:
                item.add_marker(LISTED[path])
    config.stash[COLLECTED] = list(items)
