"""Every container of every chart is locked down, whatever the values."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
from tests.charts.hardening import weaknesses
from tests.charts.rendering import Charts, Manifest, of_kind, pods

SERVING = ("Deployment", "StatefulSet")


def test_no_pod_of_any_combination_has_a_weakness(manifests: list[Manifest]) -> None:
    found = {
        name: weaknesses(pod, serves=name.startswith(SERVING)) for name, pod in pods(manifests)
    }
    assert {name: reasons for name, reasons in found.items() if reasons} == {}


def test_only_live_update_makes_the_root_file_system_writable(charts: Charts) -> None:
    manifests = charts.render("order", {"liveUpdate": True})
    found = {name: weaknesses(pod, serves=False) for name, pod in pods(manifests)}
    assert {name: reasons for name, reasons in found.items() if reasons} == {
        "Deployment/rel-order": ["order: writable root file system"]
    }


def test_only_prometheus_is_given_a_token_and_it_is_short_lived(charts: Charts) -> None:
    with_token = {
        name: source["serviceAccountToken"]["expirationSeconds"]
        for name, pod in pods(charts.render("observability"))
        for volume in pod["spec"]["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
        if "serviceAccountToken" in source
    }
    assert with_token == {"Deployment/rel-observability-prometheus": 3600}


def drop(*path: str) -> Callable[[Manifest], None]:
    """A mutation that removes a field of the pod, or of its first container."""

    def mutate(pod: Manifest) -> None:
        inside = pod["spec"]
        for key in path[:-1]:
            inside = inside[0][key] if isinstance(inside, list) else inside[key]
        target = inside[0] if isinstance(inside, list) else inside
        del target[path[-1]]

    return mutate


@pytest.mark.parametrize(
    "path",
    [
        ("securityContext",),
        ("automountServiceAccountToken",),
        ("enableServiceLinks",),
        ("initContainers", "securityContext"),
        ("initContainers", "resources"),
        ("containers", "securityContext"),
        ("containers", "image"),
        ("containers", "resources"),
        ("containers", "livenessProbe"),
    ],
    ids=".".join,
)
def test_a_missing_field_is_seen(charts: Charts, path: tuple[str, ...]) -> None:
    manifests = charts.render("order")
    kind = "Job" if "initContainers" in path else "Deployment"
    pod = copy.deepcopy(of_kind(manifests, kind)[0]["spec"]["template"])
    serves = kind == "Deployment"
    assert weaknesses(pod, serves=serves) == []
    drop(*path)(pod)
    assert weaknesses(pod, serves=serves) != []
