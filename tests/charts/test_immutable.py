"""An upgrade to a newer chart changes nothing that cannot be changed, and restarts no store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.charts.combinations import ALL, Combination
from tests.charts.rendering import LONG, Charts, Manifest


@pytest.fixture(scope="session")
def newer(charts: Charts, rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Charts:
    """The same charts as they will be one version later."""
    directory = tmp_path_factory.mktemp("newer")
    later = Charts.copy_to(directory, charts.directory, kept=rendered / "newer")
    for path in directory.glob("*/Chart.yaml"):
        text = re.sub(r"(?m)^(\s*)version: 0\.1\.0", r"\1version: 0.2.0", path.read_text())
        path.write_text(text.replace('appVersion: "0.1.0"', 'appVersion: "0.2.0"'))
        for archive in path.parent.glob("charts/*.tgz"):
            archive.unlink()
    later.pack()
    return later


def frozen(manifest: Manifest) -> Any:
    """What the cluster refuses to change, or would restart a store for."""
    spec = manifest.get("spec", {})
    fields = {
        "StatefulSet": spec,
        "Job": spec,
        "PersistentVolumeClaim": spec,
        "Deployment": spec.get("selector"),
        "Service": [spec.get("clusterIP"), spec.get("selector"), spec.get("ports")],
        "RoleBinding": manifest.get("roleRef"),
        "NetworkPolicy": spec.get("podSelector"),
        "PodDisruptionBudget": spec.get("selector"),
    }
    return fields.get(manifest["kind"])


def by_name(manifests: list[Manifest]) -> dict[str, Any]:
    return {f"{m['kind']}/{m['metadata']['name']}": frozen(m) for m in manifests}


@pytest.mark.parametrize("combination", ALL, ids=str)
def test_what_cannot_change_is_the_same_in_the_next_version(
    charts: Charts, newer: Charts, combination: Combination
) -> None:
    chart, values, file = combination.chart, combination.values, combination.file
    before = by_name(charts.render(chart, values, file=file, release=LONG))
    after = by_name(newer.render(chart, values, file=file, release=LONG))
    kept = before.keys() & after.keys()
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert not {name for name in before.keys() - after.keys() if not name.startswith("Job/")}


def test_the_newer_charts_really_are_newer(charts: Charts, newer: Charts) -> None:
    assert charts.render("redis") != newer.render("redis")


def test_a_job_that_runs_something_else_has_another_name(charts: Charts) -> None:
    def job(tag: str) -> set[str]:
        manifests = charts.render("order", {"image": {"tag": tag}})
        return {m["metadata"]["name"] for m in manifests if m["kind"] == "Job"}

    assert len(job("1") | job("2")) == 2
