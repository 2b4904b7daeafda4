"""What the Tiltfile declares, seen by running it with recording stand-ins for Tilt."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import starlark
import yaml
from tests.charts.rendering import Charts, of_kind
from tests.tilt.stand_ins import ROOT, Tilt

SERVICES = {"order": 3000, "invoice": 3001}


@pytest.fixture(scope="module")
def tilt() -> Tilt:
    return Tilt().execute()


@pytest.fixture(scope="module")
def charts(tmp_path_factory: pytest.TempPathFactory) -> Charts:
    if shutil.which("helm") is None:
        pytest.skip("the helm binary is not on the PATH")
    return Charts.copy_to(tmp_path_factory.mktemp("charts"))


def test_a_cluster_that_is_not_local_is_refused() -> None:
    with pytest.raises(starlark.StarlarkError, match="kind clusters only"):
        Tilt(context="production").execute()


def test_only_the_kind_context_is_allowed(tilt: Tilt) -> None:
    assert [call["first"] for call in tilt.calls["allow_k8s_contexts"]] == ["kind-shop"]
    assert tilt.calls["version_settings"][0]["constraint"].startswith(">=")


@pytest.mark.parametrize("service", SERVICES)
def test_each_image_is_built_as_its_dockerfile_says(tilt: Tilt, service: str) -> None:
    image = tilt.named("docker_build", f"shop/{service}")
    dockerfile = ROOT / image["dockerfile"]
    stages = re.findall(r"^FROM \S+ AS (\S+)$", dockerfile.read_text(), re.MULTILINE)
    assert image["target"] in stages
    copied = re.findall(r"^COPY (?:--chown=\S+ )?([^-]\S*) ", dockerfile.read_text(), re.MULTILINE)
    for source in copied:
        assert any(within(path, source) or within(source, path) for path in image["only"]), source


def within(path: str, folder: str) -> bool:
    return Path(path) == Path(folder) or Path(folder) in Path(path).parents


@pytest.mark.parametrize("service", SERVICES)
def test_live_update_copies_what_exists_to_where_the_image_has_it(tilt: Tilt, service: str) -> None:
    image = tilt.named("docker_build", f"shop/{service}")
    first, *syncs = image["live_update"]
    for path in [*first["fall_back_on"], *(step["sync"] for step in syncs)]:
        assert (ROOT / path).exists(), path
        assert path in image["only"], path
    dockerfile = (ROOT / image["dockerfile"]).read_text()
    for step in syncs:
        assert f"{step['sync']} {step['to']}\n" in dockerfile, step
    libraries = {f"libs/{library}/src" for library in ("lock", "servicekit", "tandem")}
    assert {f"apps/{service}/src", *libraries} == {step["sync"] for step in syncs}


def releases(tilt: Tilt) -> dict[str, dict[str, Any]]:
    given = [call["first"] for call in tilt.calls["k8s_yaml"]]
    return {each["name"]: each for each in given if isinstance(each, dict)}


def values_of(release: dict[str, Any]) -> dict[str, Any]:
    """The values that `set` gives, as Helm reads them."""
    values: dict[str, Any] = {}
    for setting in release.get("set", []):
        path, text = setting.split("=", 1)
        inside = values
        *sections, key = path.split(".")
        for section in sections:
            inside = inside.setdefault(section, {})
        inside[key] = yaml.safe_load(text)
    return values


def workloads(charts: Charts, tilt: Tilt) -> set[str]:
    """The resources Tilt will show: one for each workload of what it installs."""
    names: set[str] = set()
    for name, release in releases(tilt).items():
        file = Path(release["values"][0]).name
        chart = Path(release["chart"]).name
        manifests = charts.render(chart, values_of(release), file=file, release=name)
        found = of_kind(manifests, "Deployment", "StatefulSet", "Job")
        names |= {tilt.resource_of(m["metadata"]["name"]) for m in found}
    return names


@pytest.mark.parametrize("observe", [True, False])
def test_every_resource_and_dependency_is_a_workload_of_the_charts(
    charts: Charts, observe: bool
) -> None:
    tilt = Tilt(arguments={"observe": observe}).execute()
    there = workloads(charts, tilt)
    assert {call["first"] for call in tilt.calls["k8s_resource"]} == there
    needed = [call.get("resource_deps", []) for call in tilt.calls["k8s_resource"]]
    assert {name for names in needed for name in names} <= there
    assert ("observability" in releases(tilt)) == observe


def test_what_is_installed_takes_live_updates_and_is_traced(charts: Charts, tilt: Tilt) -> None:
    release = releases(tilt)["shop"]
    values = values_of(release)
    text = charts.text("shop", json.dumps(values), "values-dev.yaml", "shop")
    assert text.count("readOnlyRootFilesystem: false") == len(SERVICES)
    assert text.count("OTEL_EXPORTER_OTLP_ENDPOINT") >= len(SERVICES)


def test_a_service_waits_for_its_stores_and_its_schema(tilt: Tilt) -> None:
    order = tilt.named("k8s_resource", "shop-order")
    assert set(order["resource_deps"]) == {
        "shop-redis",
        "shop-order-postgres",
        "shop-order-migrate",
        "shop-invoice",
    }
    migrate = tilt.named("k8s_resource", "shop-order-migrate")
    assert migrate["resource_deps"] == ["shop-order-postgres"]


@pytest.mark.parametrize(("service", "port"), SERVICES.items())
def test_each_api_is_forwarded_and_its_pages_are_linked(
    tilt: Tilt, service: str, port: int
) -> None:
    resource = tilt.named("k8s_resource", f"shop-{service}")
    (forward,) = resource["port_forwards"]
    assert (forward["port"], forward["to"], forward["host"]) == (port, port, "127.0.0.1")
    assert [link["url"] for link in resource["links"]] == [f"http://127.0.0.1:{port}/docs"]


def test_ports_on_this_machine_are_used_once(tilt: Tilt) -> None:
    calls = tilt.calls["k8s_resource"]
    ports = [forward["port"] for call in calls for forward in call.get("port_forwards", [])]
    assert len(ports) == len(set(ports))


def test_every_dashboard_and_the_trace_search_are_linked(tilt: Tilt) -> None:
    links = [link["url"] for link in tilt.named("k8s_resource", "observability-grafana")["links"]]
    for path in ROOT.glob("charts/*/files/dashboards/*.json"):
        uid = json.loads(path.read_text())["uid"]
        assert f"http://127.0.0.1:3200/d/{uid}" in links
    assert any("/explore" in url and "tempo" in url for url in links)


def test_buttons_do_nothing_until_pressed(tilt: Tilt) -> None:
    buttons = {call["first"]: call for call in tilt.calls["local_resource"]}
    assert set(buttons) == {"load", "e2e"}
    for button in buttons.values():
        assert button["trigger_mode"] == "manual"
        assert button["auto_init"] is False


def test_everything_has_a_label(tilt: Tilt) -> None:
    calls = [*tilt.calls["k8s_resource"], *tilt.calls["local_resource"]]
    assert [call["first"] for call in calls if not call.get("labels")] == []
