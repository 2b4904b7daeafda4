"""The runbooks: one for each alert, with commands that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.observability.rule_files import ROOT, alerts

from order import endpoints

RUNBOOKS = ROOT / "docs" / "runbooks"
PAGES = tuple(sorted(path for path in RUNBOOKS.glob("*.md") if path.name != "README.md"))
SECTIONS = ["What it means", "First look", "Likely causes", "Fix", "Verify"]
HELM_SECONDS = 60


def commands(page: Path) -> list[str]:
    """The lines of the page's shell blocks, without comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = (re.sub(r"\s+#.*", "", line) for block in blocks for line in block.splitlines())
    return [line for line in lines if line.strip()]


ALL_COMMANDS = [line for page in (*PAGES, RUNBOOKS / "README.md") for line in commands(page)]


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert sorted(page.stem for page in PAGES) == sorted(alert.name for alert in alerts())


def test_the_list_of_runbooks_has_each_with_its_severity() -> None:
    rows = r"^\| \[(\w+)\]\((\w+)\.md\) \| (\w+) \|"
    listed = re.findall(rows, (RUNBOOKS / "README.md").read_text(), re.MULTILINE)

    wanted = [(alert.name, alert.name, alert.labels["severity"]) for alert in alerts()]
    assert sorted(listed) == sorted(wanted)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_runbook_says_what_where_why_how_and_whether_it_worked(page: Path) -> None:
    (alert,) = (alert for alert in alerts() if alert.name == page.stem)
    text = page.read_text()

    assert text.startswith(f"# {alert.name}\n\n**{alert.labels['severity']}** · ")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    assert commands(page)


def test_links_between_runbooks_lead_somewhere() -> None:
    for page in (*PAGES, RUNBOOKS / "README.md"):
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            assert (RUNBOOKS / target).exists(), f"{page.name} links to {target}"


def test_the_routes_that_runbooks_call_exist() -> None:
    routes = {getattr(route, "path", "") for route in endpoints.router.routes}
    routes |= {"/readyz", "/livez", "/ping", "/metrics"}
    for line in ALL_COMMANDS:
        for path in re.findall(r"http://[^/\s'\"]+(/[^\s'\"?]*)", line):
            template = re.sub(r"\$OPERATION", "{op_id}", path)
            shapes = {re.sub(r"\{\w+\}", "{}", route) for route in routes}
            assert re.sub(r"\{\w+\}", "{}", template) in shapes, line


def test_the_programs_that_runbooks_use_are_the_usual_ones() -> None:
    assert {line.split()[0] for line in ALL_COMMANDS} == {"kubectl", "curl"}


def test_the_settings_that_runbooks_name_exist() -> None:
    from order.settings import Settings

    known = {f"ORDER_{name.upper()}" for name in Settings.model_fields}
    named = {name for page in PAGES for name in re.findall(r"ORDER_[A-Z_]+", page.read_text())}

    assert named
    assert named <= known


def test_the_log_events_that_runbooks_search_for_are_written() -> None:
    sources = "".join(
        path.read_text() for top in ("apps", "libs") for path in (ROOT / top).glob("*/src/**/*.py")
    )
    searched = {
        event
        for line in ALL_COMMANDS
        for pattern in re.findall(r"grep -E '([^']+)'", line)
        for event in pattern.split("|")
    }

    assert searched
    assert all(f'"{event}"' in sources for event in searched), searched


@pytest.fixture(scope="module")
def resources() -> list[dict[str, Any]]:
    """What the chart of the whole shop installs as the release `shop`."""
    if shutil.which("helm") is None:
        pytest.skip("helm is not on the PATH")
    if not list(ROOT.glob("charts/shop/charts/order-*")):
        pytest.skip("the charts' dependencies are not there yet: run `make charts`")
    rendered = subprocess.run(
        ["helm", "template", "shop", str(ROOT / "charts/shop"), "--namespace", "shop"],
        capture_output=True,
        text=True,
        check=True,
        timeout=HELM_SECONDS,
    )
    return [each for each in yaml.safe_load_all(rendered.stdout) if each]


@pytest.mark.charts
def test_the_workloads_that_runbooks_name_are_installed(resources: list[dict[str, Any]]) -> None:
    installed = {(each["kind"].lower(), each["metadata"]["name"]) for each in resources}
    named = {
        (kind, name)
        for line in ALL_COMMANDS
        for kind, name in re.findall(r"\b(deployment|statefulset)/([\w-]+)", line)
    }

    assert named
    assert named <= installed


@pytest.mark.charts
def test_the_labels_that_runbooks_select_by_are_set(resources: list[dict[str, Any]]) -> None:
    labels = json.dumps([_all_labels(each) for each in resources])
    for line in ALL_COMMANDS:
        for key, value in re.findall(r"-l (app\.kubernetes\.io/[\w-]+)=([\w-]+)", line):
            assert f'"{key}": "{value}"' in labels, line


def _all_labels(resource: dict[str, Any]) -> list[dict[str, str]]:
    template = resource.get("spec", {}).get("template", {})
    return [resource["metadata"].get("labels", {}), template.get("metadata", {}).get("labels", {})]
