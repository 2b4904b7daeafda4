"""All dashboards, and where the charts keep them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tools.dashboards.grafana import Dashboard
from tools.dashboards.locks import LOCKS_DASHBOARD
from tools.dashboards.shop import SHOP
from tools.dashboards.slo import SLO

DASHBOARDS: Final = (SHOP, LOCKS_DASHBOARD, SLO)
FOLDER: Final = "charts/order/files/dashboards"


def dashboard_path(dashboard: Dashboard, *, root: Path) -> Path:
    """The JSON file of a dashboard in the repository at ``root``."""
    return root / FOLDER / f"{dashboard.uid}.json"
