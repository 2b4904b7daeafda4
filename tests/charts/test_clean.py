"""Helm and the Kubernetes schemas have nothing to say against the charts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.charts.combinations import ALL, Combination, documented
from tests.charts.conforming import assert_conforming
from tests.charts.rendering import CHARTS, LONG, Charts, helm

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


@pytest.mark.parametrize("chart", CHARTS)
def test_every_manifest_is_valid_for_kubernetes(
    charts: Charts, schemas: Path, tmp_path: Path, chart: str
) -> None:
    for each in (combination for combination in ALL if combination.chart == chart):
        text = charts.text(chart, json.dumps(each.values), each.file, LONG)
        (tmp_path / f"{each}.yaml").write_text(text)
    assert_conforming(tmp_path, schemas)
