"""The few words of Grafana's dashboard model that our dashboards are written in.

A :class:`Dashboard` is rows of :class:`Panel`; ``as_json`` lays them out on Grafana's grid of 24
columns and gives the model that Grafana 10.1 and newer read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote

SCHEMA_VERSION: Final = 39  # Grafana 10.1; newer ones migrate it on load
GRID_COLUMNS: Final = 24

GREEN: Final = "green"
AMBER: Final = "orange"
RED: Final = "red"

Kind = Literal["timeseries", "stat", "bargauge", "heatmap"]

SHOWN: Final = 0
HIDDEN: Final = 2
PROMETHEUS: Final = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Query:
    """One PromQL expression of a panel.

    Args:
        expr: PromQL; ``$variables`` of the dashboard and ``$__rate_interval`` may occur.
        legend: the series' name, with ``{{label}}``.
        exemplars: also draw the exemplars of the histograms read, each a link to its trace.
    """

    expr: str
    legend: str
    exemplars: bool = False


@dataclass(frozen=True)
class Panel:
    """One picture that answers one question.

    Args:
        title: what is drawn.
        description: what it means and when to worry; shown behind the panel's ``i``.
        unit: Grafana's name of the unit (``s``, ``reqps``, ``percentunit``, ``short``).
        queries: what is drawn.
        kind: Grafana's panel type.
        thresholds: values from which the colour is amber, then red; empty for no threshold.
        good_above: the other way round: red at first, then amber, then green.
        width: columns of 24.
        height: rows of the grid, about 30 pixels each.
        stacked: series stand on top of each other.
    """

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    kind: Kind = "timeseries"
    thresholds: tuple[float, ...] = ()
    good_above: bool = False
    width: int = 8
    height: int = 8
    stacked: bool = False


@dataclass(frozen=True)
class Row:
    """Panels under one heading, filled from left to right."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Variable:
    """A choice at the top of the dashboard, filled from the values of a label."""

    name: str
    label: str
    query: str


@dataclass(frozen=True)
class Dashboard:
    """One page. Its uid is fixed, so that links to it outlive an import."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    variables: Sequence[Variable]

    def panels(self) -> Iterator[Panel]:
        """Every panel, in the order of the page."""
        for row in self.rows:
            yield from row.panels

    def as_json(self) -> str:
        """The model as Grafana imports it, one key a line."""
        return json.dumps(self.as_model(), indent=2, ensure_ascii=False) + "\n"

    def as_model(self) -> dict[str, Any]:
        """The model as Grafana knows it."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["shop"],
            "schemaVersion": SCHEMA_VERSION,
            "editable": False,
            "graphTooltip": 1,
            "refresh": "10s",
            "time": {"from": "now-1h", "to": "now"},
            "timezone": "browser",
            "links": _links(),
            "templating": {"list": [*_data_sources(), *map(_variable, self.variables)]},
            "panels": list(_laid_out(self.rows)),
        }


def _laid_out(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Give each row and panel its number and its place."""
    number = top = 0
    for row in rows:
        number += 1
        yield _row(row, number, top)
        top, left, tallest = top + 1, 0, 0
        for panel in row.panels:
            if left + panel.width > GRID_COLUMNS:
                top, left, tallest = top + tallest, 0, 0
            number += 1
            yield _panel(panel, number, left=left, top=top)
            left, tallest = left + panel.width, max(tallest, panel.height)
        top += tallest


def _row(row: Row, number: int, top: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": "row",
        "title": row.title,
        "collapsed": False,
        "gridPos": {"x": 0, "y": top, "w": GRID_COLUMNS, "h": 1},
        "panels": [],
    }


def _panel(panel: Panel, number: int, *, left: int, top: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": PROMETHEUS,
        "gridPos": {"x": left, "y": top, "w": panel.width, "h": panel.height},
        "fieldConfig": {"defaults": _field_defaults(panel), "overrides": []},
        "options": _options(panel),
        "targets": [_target(query, index, panel) for index, query in enumerate(panel.queries)],
    }


def _field_defaults(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        **({} if panel.good_above else {"min": 0}),
        "color": {"mode": "thresholds" if panel.kind != "timeseries" else "palette-classic"},
        "thresholds": {"mode": "absolute", "steps": _steps(panel)},
    }
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "fillOpacity": 25 if panel.stacked else 8,
            "lineWidth": 1,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "line" if panel.thresholds else "off"},
        }
    return defaults


def _steps(panel: Panel) -> list[dict[str, Any]]:
    colours = (GREEN, AMBER, RED) if len(panel.thresholds) > 1 else (GREEN, RED)
    if panel.good_above:
        colours = colours[::-1]
    values = (None, *panel.thresholds)
    return [
        {"color": colour, "value": value} for colour, value in zip(colours, values, strict=False)
    ]


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "timeseries":
        return {
            "legend": {
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
                "calcs": ["lastNotNull", "max"],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if panel.kind == "heatmap":
        return {
            "calculate": False,
            "cellGap": 1,
            "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
            "yAxis": {"unit": panel.unit},
            "legend": {"show": True},
            "tooltip": {"mode": "single", "yHistogram": False},
        }
    reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if panel.kind == "bargauge":
        return {"reduceOptions": reduce, "orientation": "horizontal", "displayMode": "gradient"}
    return {"reduceOptions": reduce, "colorMode": "value", "graphMode": "area"}


def _target(query: Query, index: int, panel: Panel) -> dict[str, Any]:
    return {
        "refId": chr(ord("A") + index),
        "datasource": PROMETHEUS,
        "expr": query.expr,
        "legendFormat": query.legend,
        "exemplar": query.exemplars,
        "format": "heatmap" if panel.kind == "heatmap" else "time_series",
        "range": True,
        "instant": False,
    }


def _data_sources() -> Iterator[dict[str, Any]]:
    """Which Prometheus the panels read, and which stores the links to traces and logs open.

    Only the first is a picker: where there is no Loki, or Jaeger instead of Tempo, there would be
    nothing to pick from. ``var-traces`` and ``var-logs`` in the address choose others.
    """
    for name, label, kind in (
        ("datasource", "Metrics", "prometheus"),
        ("traces", "Traces", "tempo"),
        ("logs", "Logs", "loki"),
    ):
        yield {
            "name": name,
            "label": label,
            "type": "datasource",
            "query": kind,
            "current": {},
            "hide": SHOWN if kind == "prometheus" else HIDDEN,
            "refresh": 1,
        }


def _variable(variable: Variable) -> dict[str, Any]:
    return {
        "name": variable.name,
        "label": variable.label,
        "type": "query",
        "datasource": PROMETHEUS,
        "definition": variable.query,
        "query": {"query": variable.query, "refId": variable.name},
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "refresh": 2,
        "sort": 1,
    }


def _links() -> list[dict[str, Any]]:
    """The other dashboards, the traces of both services and their logs."""
    return [
        {
            "type": "dashboards",
            "title": "Shop",
            "tags": ["shop"],
            "asDropdown": True,
            "includeVars": True,
            "keepTime": True,
        },
        _explore(
            "Traces",
            "traces",
            {"queryType": "traceql", "query": '{resource.service.name=~"order|invoice"}'},
        ),
        _explore("Logs", "logs", {"expr": '{service_name=~"order|invoice"} | json'}),
    ]


def _explore(title: str, source: str, query: dict[str, str]) -> dict[str, Any]:
    """A link to Grafana's Explore page, asking the data source chosen in the variable."""
    pane = {
        "datasource": f"${{{source}}}",
        "queries": [{"refId": "A", "datasource": {"uid": f"${{{source}}}"}, **query}],
        "range": {"from": "${__from}", "to": "${__to}"},
    }
    panes = quote(json.dumps({"shop": pane}, separators=(",", ":")), safe="")
    panes = re.sub(r"%24%7B(\w+)%7D", r"${\1}", panes)  # variables stay, for Grafana to fill in
    return {
        "type": "link",
        "title": title,
        "icon": "external link",
        "url": f"/explore?schemaVersion=1&panes={panes}",
        "targetBlank": True,
    }
