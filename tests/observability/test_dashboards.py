"""The dashboards by themselves: as generated, and complete."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.observability.rule_files import DASHBOARD_FILES, ROOT, alerts
from tools.dashboards.catalog import DASHBOARDS, dashboard_path
from tools.dashboards.grafana import GRID_COLUMNS, Dashboard


def panels() -> list[dict[str, Any]]:
    return [
        panel
        for path in DASHBOARD_FILES
        for panel in model(path.stem)["panels"]
        if panel["type"] != "row"
    ]


def model(uid: str) -> dict[str, Any]:
    (path,) = (path for path in DASHBOARD_FILES if path.stem == uid)
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each.uid)
def test_the_charts_carry_what_the_generator_writes(dashboard: Dashboard) -> None:
    written = dashboard_path(dashboard, root=ROOT).read_text()

    assert written == dashboard.as_json(), "run `make generated`"


def test_the_charts_carry_no_other_dashboard_and_none_twice() -> None:
    assert sorted(path.stem for path in DASHBOARD_FILES) == sorted(each.uid for each in DASHBOARDS)


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each.uid)
def test_a_dashboard_reads_the_chosen_data_sources_only(dashboard: Dashboard) -> None:
    loaded = model(dashboard.uid)
    sources = [
        place["datasource"]["uid"]
        for panel in loaded["panels"]
        if panel["type"] != "row"
        for place in (panel, *panel["targets"])
    ]

    assert set(sources) == {"${datasource}"}
    variables = {variable["name"]: variable for variable in loaded["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["traces"]["query"] == "tempo"
    assert variables["logs"]["query"] == "loki"
    pickers = [name for name in ("datasource", "traces", "logs") if variables[name]["hide"] == 0]
    assert pickers == ["datasource"], "empty ones where there is no Tempo or Loki"


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each.uid)
def test_a_dashboard_links_to_its_siblings_the_traces_and_the_logs(dashboard: Dashboard) -> None:
    links = {link["title"]: link for link in model(dashboard.uid)["links"]}

    assert links["Shop"]["tags"] == ["shop"]
    assert "${traces}" in links["Traces"]["url"]
    assert "${logs}" in links["Logs"]["url"]


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_every_panel_explains_itself(panel: dict[str, Any]) -> None:
    assert len(panel["description"]) > 20
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["value"] is None
    assert all(target["legendFormat"] for target in panel["targets"])


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each.uid)
def test_no_two_panels_overlap_or_leave_the_page(dashboard: Dashboard) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in model(dashboard.uid)["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= GRID_COLUMNS
        assert not taken & cells, f"{panel['title']} covers another panel"
        taken |= cells


def test_the_alerts_that_panels_speak_of_exist() -> None:
    known = {alert.name for alert in alerts()}
    words = {
        word.strip(".,;:")
        for panel in panels()
        for word in panel["description"].split()
        if any(letter.isupper() for letter in word[1:].replace("-", ""))
    }
    spoken_of = {word for word in words if word.endswith(("Down", "Long", "Lost", "ing", "able"))}

    assert spoken_of
    assert spoken_of <= known


def test_the_histograms_of_locks_and_requests_show_exemplars() -> None:
    with_exemplars = {
        panel["title"] for panel in panels() for target in panel["targets"] if target["exemplar"]
    }

    assert with_exemplars >= {"Duration, 95th percentile", "Time to acquire", "Time held"}
