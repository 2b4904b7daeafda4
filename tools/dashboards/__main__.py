"""Write every dashboard into its chart."""

from __future__ import annotations

from pathlib import Path

from tools.dashboards.catalog import DASHBOARDS, dashboard_path


def main() -> None:
    """Write every dashboard into the chart below the working directory."""
    for dashboard in DASHBOARDS:
        path = dashboard_path(dashboard, root=Path.cwd())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dashboard.as_json())
        print(path.relative_to(Path.cwd()))


if __name__ == "__main__":
    main()
