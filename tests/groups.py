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
        "tests/api/test_fuzzing.py",
        "tests/observability/test_logs.py",
        "tests/observability/test_metrics.py",
        "tests/observability/test_traces.py",
        "tests/repository/test_fields.py",
        "tests/together",
        "tests/truth",
    ),
}
LISTED: Final = {ROOT / path: group for group, paths in GROUPS.items() for path in paths}
# Groups whose tests are marked where they are, also among those that are listed.
OTHERS: Final = ("observed", "topologies")
# What was collected, before a run's expression has chosen from it.
COLLECTED: Final = pytest.StashKey[list[pytest.Item]]()


@pytest.hookimpl(tryfirst=True)  # before the markers are read to choose the tests
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is listed above, and keep everything for the test of the groups themselves.

    A marker at the test itself says more than the folder that it is in.
    """
    for item in items:
        group = next(
            (LISTED[path] for path in (item.path, *item.path.parents) if path in LISTED), None
        )
        if group and not any(item.get_closest_marker(other) for other in OTHERS):
            item.add_marker(group)
    config.stash[COLLECTED] = list(items)
