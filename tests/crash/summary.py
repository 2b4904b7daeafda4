"""Prints the tables of failures at the end of a run.

A plugin of its own, named in the root conftest: where tests run in several processes, the one that
prints loads no conftest below the root.
"""

import pytest
from tests.crash.table import Row, render

PROPERTY = "crash row"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = [
        Row(**value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == PROPERTY
    ]
    for title, part in (
        ("failures and what became of them", [row for row in rows if row.protocol]),
        ("the same with the lock alone", [row for row in rows if not row.protocol]),
    ):
        if part:
            terminalreporter.section(title)
            terminalreporter.write_line(render(part))
