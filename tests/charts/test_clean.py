"""Helm and the Kubernetes schemas have nothing to say against the charts."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.charts.combinations import ALL, Combination, documented
from tests.charts.rendering import CHARTS, LONG, Charts, helm

SCHEMAS = "kubernetes-json-schema/v1.34.0-local-strict"
KINDS = {
    "configmap",
    "cronjob",
    "deployment",
    "horizontalpodautoscaler",
    "ingress",
    "job",
    "networkpolicy",
    "persistentvolumeclaim",
    "pod",
    "poddisruptionbudget",
    "role",
    "rolebinding",
    "secret",
    "service",
    "serviceaccount",
    "statefulset",
}
DOCUMENTED = [combination for chart in CHARTS for combination in documented(chart)]


@pytest.mark.parametrize("combination", DOCUMENTED, ids=str)
def test_lint_is_clean(charts: Charts, combination: Combination) -> None:
    path = charts.directory / combination.chart
    files = [f"--values={path / combination.file}"] if combination.file else []
    assert "0 chart(s) failed" in helm("lint", "--strict", str(path), *files)


@pytest.mark.parametrize("combination", DOCUMENTED, ids=str)
def test_a_plain_template_command_is_clean(charts: Charts, combination: Combination) -> None:
    path = charts.directory / combination.chart
    files = [f"--values={path / combination.file}"] if combination.file else []
    assert helm("template", "any", str(path), *files)


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A schema for each kind that the charts use, complete in itself as kubeconform wants it."""
    package = importlib.util.find_spec("kubernetes_validate")
    assert package is not None
    assert package.origin is not None
    source = Path(package.origin).parent / SCHEMAS
    definitions = json.loads(local_references((source / "_definitions.json").read_text()))["$defs"]
    directory = tmp_path_factory.mktemp("schemas")
    for path in source.glob("*.json"):
        if path.name.split("-")[0] in KINDS:
            schema = json.loads(local_references(path.read_text()))
            schema["$defs"] = {name: definitions[name] for name in reached(schema, definitions)}
            (directory / path.name).write_text(json.dumps(schema))
    return directory


def local_references(text: str) -> str:
    return text.replace('"/api/_definitions.json#/', '"#/')


def reached(schema: dict[str, Any], definitions: dict[str, Any]) -> set[str]:
    """The definitions that a schema refers to, directly or through others."""
    found: set[str] = set()
    waiting = [schema]
    while waiting:
        names = set(re.findall(r'"#/\$defs/([^"]+)"', json.dumps(waiting.pop()))) - found
        found |= names
        waiting += [definitions[name] for name in names]
    return found


@pytest.mark.parametrize("chart", CHARTS)
def test_every_manifest_is_valid_for_kubernetes(
    charts: Charts, schemas: Path, tmp_path: Path, chart: str
) -> None:
    if shutil.which("kubeconform") is None:
        pytest.skip("the kubeconform binary is not on the PATH")
    of_chart = [combination for combination in ALL if combination.chart == chart]
    for each in of_chart:
        text = charts.text(chart, json.dumps(each.values), each.file, LONG)
        (tmp_path / f"{each}.yaml").write_text(text)
    location = f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    # One run for all of a chart: reading the schemas takes longer than using them.
    command = ["kubeconform", "-strict", "-summary", "-schema-location", location]
    # These come with Prometheus Operator and Gateway API, not with Kubernetes.
    command += ["-skip", "ServiceMonitor,PodMonitor,PrometheusRule,HTTPRoute", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Invalid: 0, Errors: 0" in done.stdout
    assert f"in {len(of_chart)} files" in done.stdout
