"""The alert rules that the charts carry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
RULE_FILES: Final = tuple(sorted(ROOT.glob("charts/*/files/alerts/*.yaml")))
DASHBOARD_FILES: Final = tuple(sorted(ROOT.glob("charts/*/files/dashboards/*.json")))


@dataclass(frozen=True)
class Alert:
    """One alerting rule."""

    name: str
    expr: str
    labels: dict[str, str]
    annotations: dict[str, str]
    file: Path


def rules() -> list[tuple[Path, dict[str, Any]]]:
    """Every rule with its file, recording rules included."""
    return [
        (path, rule)
        for path in RULE_FILES
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


def alerts() -> list[Alert]:
    """Every alerting rule."""
    return [
        Alert(rule["alert"], rule["expr"], rule["labels"], rule["annotations"], path)
        for path, rule in rules()
        if "alert" in rule
    ]
