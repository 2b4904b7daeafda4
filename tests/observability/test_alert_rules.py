"""The alert rules by themselves: complete, and judged by promtool on made-up series."""

from __future__ import annotations

import re
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.observability.rule_files import ROOT, RULE_FILES, Alert, alerts
from tests.observability.stage import missing, without

from devkit.observability.programs import PROMTOOL

pytestmark = pytest.mark.timeout(240)  # a container of promtool starts slowly on a busy machine

UNIT_TESTS = tuple(sorted((Path(__file__).parent / "rules").glob("*.yaml")))
PROMTOOL_SECONDS = 100


Promtool = Callable[..., tuple[bool, str]]


@pytest.fixture(scope="module")
def promtool() -> Promtool:
    """Runs promtool in a folder; tells whether it is content, and what it says."""
    if missing(PROMTOOL) is not None:
        without(PROMTOOL)
    found = PROMTOOL.find()

    def run(*arguments: str | Path, folder: Path = UNIT_TESTS[0].parent) -> tuple[bool, str]:
        command = found.command(
            [str(argument) for argument in arguments],
            folder=folder,
            reads=[ROOT / "charts"],
            container=f"promtool-{secrets.token_hex(4)}",
        )
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=PROMTOOL_SECONDS,
        )
        return done.returncode == 0, done.stdout + done.stderr

    return run


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_every_alert_says_what_to_do(alert: Alert) -> None:
    assert alert.labels["severity"] in {"critical", "warning"}
    assert set(alert.annotations) == {"summary", "description", "runbook_url"}
    assert alert.annotations["runbook_url"] == f"docs/runbooks/{alert.name}.md"


def test_the_names_of_alerts_are_unique() -> None:
    names = [alert.name for alert in alerts()]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.name)
def test_promtool_accepts_every_rule_file(promtool: Promtool, path: Path) -> None:
    content, said = promtool("check", "rules", "--lint-fatal", path)

    assert content, said


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.name)
def test_each_alert_fires_stays_quiet_and_recovers_as_its_unit_test_says(
    promtool: Promtool, path: Path
) -> None:
    if "version 2." in promtool("--version")[1]:
        pytest.skip("promtool 2 counts the left edge of a range; these numbers are promtool 3's")

    content, said = promtool("test", "rules", path)

    assert content, said


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_the_unit_tests_of_each_alert_see_it_quiet_then_firing_then_quiet(alert: Alert) -> None:
    histories = [history for path in UNIT_TESTS for history in firing_histories(path, alert.name)]

    assert [False, True, False] in histories, "no test sees it fire and recover"


def firing_histories(path: Path, alert: str) -> list[list[bool]]:
    """Whether the alert fires, in the order of time, in each unit test of a file."""
    tests: list[dict[str, Any]] = yaml.safe_load(path.read_text())["tests"]
    return [
        [
            bool(check["exp_alerts"])
            for check in test.get("alert_rule_test", ())
            if check["alertname"] == alert
        ]
        for test in tests
    ]


def test_a_broken_rule_fails_its_unit_test(promtool: Promtool, tmp_path: Path) -> None:
    """The tests have teeth: a comparison the wrong way round is noticed."""
    rules = (ROOT / "charts/order/files/alerts/order.yaml").read_text()
    broken = rules.replace(
        "shop_operation_oldest_seconds) > 60", "shop_operation_oldest_seconds) < 60"
    )
    assert broken != rules
    (tmp_path / "order.yaml").write_text(broken)
    unit_test = (UNIT_TESTS[0].parent / "order.yaml").read_text()
    (tmp_path / "test.yaml").write_text(
        re.sub(r"rule_files: .*", "rule_files: [order.yaml]", unit_test)
    )

    content, said = promtool("test", "rules", "test.yaml", folder=tmp_path)

    assert not content
    assert "OperationsPendingTooLong" in said
