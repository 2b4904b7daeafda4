"""What Kubernetes takes, as kubeconform judges it by the schemas of kubernetes-validate."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

SCHEMAS: Final = "kubernetes-json-schema/v1.34.0-local-strict"
KINDS: Final = {
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
# These come with Prometheus Operator and Gateway API, not with Kubernetes.
SKIPPED: Final = "ServiceMonitor,PodMonitor,PrometheusRule,HTTPRoute"


def write_schemas(directory: Path) -> None:
    """Write a schema for each kind that the charts use, complete in itself."""
    package = importlib.util.find_spec("kubernetes_validate")
    assert package is not None
    assert package.origin is not None
    source = Path(package.origin).parent / SCHEMAS
    definitions = json.loads(local_references((source / "_definitions.json").read_text()))["$defs"]
    for path in source.glob("*.json"):
        if path.name.split("-")[0] in KINDS:
            schema = json.loads(local_references(path.read_text()))
            schema["$defs"] = {name: definitions[name] for name in reached(schema, definitions)}
            (directory / path.name).write_text(json.dumps(schema))


def local_references(text: str) -> str:
    """The same schema with all of its definitions in itself."""
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


def assert_conforming(manifests: Path, schemas: Path) -> None:
    """Every file of a folder is what Kubernetes takes."""
    location = f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    # One run for all of a chart: reading the schemas takes longer than using them.
    command = ["kubeconform", "-strict", "-summary", "-schema-location", location]
    command += ["-skip", SKIPPED, str(manifests)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Invalid: 0, Errors: 0" in done.stdout
    assert f"in {len(list(manifests.iterdir()))} file" in done.stdout
