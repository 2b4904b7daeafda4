"""The workflows that try and ship the shop: what a linter of them would ask first."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.e2e.harness.programs import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
USES = re.compile(r"^[\w-]+/[\w-]+@v\d+$")
UNTRUSTED = re.compile(r"\$\{\{\s*(github\.(event|head_ref|ref_name)|inputs|matrix|vars)\b")


def load(path: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(path.read_text())
    return found


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in load(path)["jobs"].values() for step in job["steps"]]


def test_there_is_one_for_changes_and_one_for_releases() -> None:
    assert [path.name for path in WORKFLOWS] == ["pull-request.yml", "release.yml"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_job_has_a_limit_and_needs_only_jobs_that_exist(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert 0 < job["timeout-minutes"] <= 60, name
        assert job.get("needs", name) in workflow["jobs"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_step_runs_one_thing_and_no_script_holds_an_expression(path: Path) -> None:
    for step in steps(path):
        assert ("uses" in step) != ("run" in step), step
        assert "uses" not in step or USES.match(step["uses"]), step
        assert not UNTRUSTED.search(step.get("run", "")), step


def test_a_release_is_tried_before_it_is_built_and_signed() -> None:
    jobs = load(ROOT / ".github/workflows/release.yml")["jobs"]
    assert {"run": ".ci/run"} in jobs["everything"]["steps"]
    assert jobs["images"]["needs"] == "everything"
    assert jobs["charts"]["needs"] == "images"
    (build,) = (s for s in jobs["images"]["steps"] if "build-push" in s.get("uses", ""))
    assert build["with"]["platforms"] == "linux/amd64,linux/arm64"
    assert build["with"]["sbom"] is True
    assert build["with"]["provenance"] == "mode=max"
    for name in ("images", "charts"):
        assert jobs[name]["permissions"]["id-token"] == "write"
        assert any("cosign sign" in step.get("run", "") for step in jobs[name]["steps"])


def test_a_release_packs_the_charts_by_the_tool_that_tells_them_where_they_are() -> None:
    jobs = load(ROOT / ".github/workflows/release.yml")["jobs"]
    (script,) = (s for s in jobs["charts"]["steps"] if "helm push" in s.get("run", ""))
    assert "python3 -m tools.published_charts" in script["run"]
    assert script["env"]["HOME_PAGE"] == "${{ github.server_url }}/${{ github.repository }}"


def test_a_change_meets_the_linters_and_both_major_versions_of_helm() -> None:
    jobs = load(ROOT / ".github/workflows/pull-request.yml")["jobs"]
    scripts = "\n".join(s.get("run", "") for job in jobs.values() for s in job["steps"])
    for tool in ("actionlint", "hadolint", "spectral", "kubeconform", "make test-observed"):
        assert tool in scripts, tool
    majors = {version.split(".")[0] for version in jobs["helm"]["strategy"]["matrix"]["version"]}
    assert majors == {"v3", "v4"}


def test_the_images_that_a_change_is_tried_with_are_those_that_the_shop_is_watched_with() -> None:
    jobs = load(ROOT / ".github/workflows/pull-request.yml")["jobs"]
    scripts = "\n".join(s.get("run", "") for job in jobs.values() for s in job["steps"])
    values = yaml.safe_load((ROOT / "charts/observability/values.yaml").read_text())
    for part in ("prometheus", "jaeger"):
        image = values[part]["image"]
        assert f"docker pull {image['repository']}:{image['tag']}" in scripts
