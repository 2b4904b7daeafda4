"""What the Tiltfile declares, seen by running it with recording stand-ins for Tilt."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import starlark
from tests.charts.rendering import Charts, of_kind
from tests.e2e.harness.programs import run
from tests.tilt.rules import (
    IGNORE_FILE,
    built_for_a_job,
    installed,
    is_ignored,
    releases,
    scrubbed_from_logs,
    started_with_the_shop,
    values_of,
    written_and_watched,
)
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


def workloads(charts: Charts, tilt: Tilt) -> set[str]:
    """The resources Tilt will show: one for each workload of what it installs."""
    found = of_kind(installed(tilt, charts), "Deployment", "StatefulSet", "Job", "Pod")
    return {tilt.resource_of(each["metadata"]["name"]) for each in found}


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


def changed(tmp_path: Path, here: str, there: str) -> Tilt:
    """The Tiltfile with something in it changed, executed."""
    text = (ROOT / "Tiltfile").read_text()
    assert here in text
    (tmp_path / "Tiltfile").write_text(text.replace(here, there))
    return Tilt().execute(tmp_path / "Tiltfile")


def test_no_test_of_a_chart_starts_with_the_shop(
    charts: Charts, tilt: Tilt, tmp_path: Path
) -> None:
    assert started_with_the_shop(tilt, charts) == []
    moved = Charts.copy_to(tmp_path)
    for path in moved.directory.glob("*/templates/tests/test.yaml"):
        path.rename(path.parents[1] / path.name)
    moved.pack()
    assert set(started_with_the_shop(tilt, moved)) >= {"shop-test", "shop-redis-test"}


def test_no_evaluation_starts_the_next_one(tilt: Tilt, tmp_path: Path) -> None:
    Charts.copy_to(tmp_path / "charts")
    for kept in ("Makefile", "libs", "apps"):
        (tmp_path / kept).symlink_to(ROOT / kept)
    before = files_in(tmp_path / "charts")
    (local,) = tilt.calls["local"]
    run("sh", "-c", f"cd {tmp_path} && {local['first']}", timeout_seconds=60)
    after = files_in(tmp_path / "charts")
    written = [f"charts/{path}" for path, state in after.items() if before.get(path) != state]
    assert any(path.endswith(".tgz") for path in written)
    assert written_and_watched(tilt, written, IGNORE_FILE.read_text()) == []
    assert len(written_and_watched(tilt, written, "")) > len(written)


def files_in(folder: Path) -> dict[str, int]:
    """Every file and when it was last written."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in paths}


def test_nothing_that_a_person_writes_is_ignored() -> None:
    tracked = run("git", "ls-files", timeout_seconds=30).splitlines()
    assert [path for path in tracked if is_ignored(path, IGNORE_FILE.read_text())] == []


@pytest.mark.parametrize(
    ("rule", "mend"),
    [
        (lambda *seen: list(built_for_a_job(*seen)), "        trigger_mode=TRIGGER_MODE_MANUAL,\n"),
        (scrubbed_from_logs, "secret_settings(disable_scrub=True)"),
    ],
    ids=["a saved source builds no image for a Job", "logs stay readable"],
)
def test_a_rule_holds_and_would_not_without_its_line(
    charts: Charts,
    tilt: Tilt,
    tmp_path: Path,
    rule: Callable[[Tilt, Charts], list[str]],
    mend: str,
) -> None:
    assert rule(tilt, charts) == []
    assert rule(changed(tmp_path, mend, ""), charts) != []


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
