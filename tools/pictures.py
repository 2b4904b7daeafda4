"""Pictures of the dashboards in ``docs/images``, drawn from a shop that really ran.

``python -m tools.pictures`` runs the shop under load for some minutes, with an outage of the
invoice service and of Redis in between, asks Prometheus each panel's own query, and draws what
came with matplotlib: Grafana draws the same data more beautifully, but is not needed here. It
needs matplotlib (``pip install matplotlib``), which nothing else does.
"""

from __future__ import annotations

import argparse
import math
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
from rich.console import Console

from devkit.layout import Layout
from devkit.observability.servers import PrometheusServer
from devkit.progress import Progress
from devkit.services import SERVICES
from devkit.shop import Shop, wait_ready
from devkit.traffic import Traffic
from tools.dashboards.catalog import DASHBOARDS
from tools.dashboards.grafana import GRID_COLUMNS, Dashboard, Panel, Query

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER: Final = "docs/images"
RULES: Final = "charts/*/files/alerts/*.yaml"
SCRAPE_SECONDS: Final = 2
STEP_SECONDS: Final = 2
COLUMN_INCHES: Final = 0.66
ROW_INCHES: Final = 0.34
DOTS_PER_INCH: Final = 80
RUSH: Final = 12
OUTAGE_SECONDS: Final = 20.0
COLOURS: Final = ("#73bf69", "#ff9830", "#f2495c")
VARIABLES: Final = {
    "$__rate_interval": "20s",
    "$namespace": ".*",
    "$job": ".*",
    "$lock": ".*",
}

Series = tuple[str, list[float], list[float]]


@dataclass(frozen=True)
class Recording:
    """A Prometheus that has watched, and when."""

    prometheus: PrometheusServer
    start: float
    end: float

    def series(self, query: Query) -> Iterator[Series]:
        """The lines that a query draws: name, times, values."""
        expr = query.expr.replace("$__range", f"{math.ceil(self.end - self.start)}s")
        for variable, value in VARIABLES.items():
            expr = expr.replace(variable, value)
        answer = self.prometheus.get(
            "/api/v1/query_range", query=expr, start=self.start, end=self.end, step=STEP_SECONDS
        )
        for found in answer["data"]["result"]:
            values = [(float(at), float(text)) for at, text in found["values"]]
            finite = [(at, value) for at, value in values if math.isfinite(value)]
            if finite:
                name = _named(query.legend, found["metric"])
                yield name, [at for at, _ in finite], [value for _, value in finite]


def _named(legend: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), legend).strip()


@contextmanager
def recording(folder: Path, seconds: float) -> Iterator[Recording]:
    """Run a shop under load for a while, with two outages, watched by Prometheus."""
    layout = Layout.on_free_ports()
    console = Console()
    targets = {name: layout.ports[f"{name.upper()}_METRICS_PORT"] for name in SERVICES}
    with (
        Shop(folder / "shop", layout, progress=Progress(console)) as shop,
        PrometheusServer(
            folder / "prometheus",
            targets=targets,
            rules=sorted(Path.cwd().glob(RULES)),
            interval_seconds=SCRAPE_SECONDS,
        ) as prometheus,
    ):
        start = time.time()
        with Progress(console).step(f"{seconds:.0f} seconds of load and two outages"):
            _load(shop, layout, seconds)
        yield Recording(prometheus, start, time.time())


def _load(shop: Shop, layout: Layout, seconds: float) -> None:
    over = threading.Event()
    traffic = Traffic(layout.order_url, layout.invoice_url, clients=4)
    popular = traffic.create().json()["id"]
    traffic.orders.remove(popular)

    def repeat(step: Callable[[], object], pause_seconds: float) -> None:
        while not over.is_set():
            with suppress(httpx.TransportError):  # it is down: that is what is to be seen
                step()
            over.wait(pause_seconds)

    with ThreadPoolExecutor(3) as pool:
        working = [
            pool.submit(repeat, traffic.day, 0.2),
            pool.submit(repeat, traffic.day, 0.3),
            pool.submit(repeat, lambda: traffic.rush(popular, RUSH), 6.0),
        ]
        over.wait(seconds * 0.3)
        _outage(shop, "invoice", layout.invoice_url)
        over.wait(seconds * 0.3)
        shop.redis.stop()
        over.wait(OUTAGE_SECONDS)
        shop.redis.start()
        over.wait(max(0.0, seconds * 0.4 - 2 * OUTAGE_SECONDS))
        over.set()
    for each in working:
        each.result()
    traffic.close()


def _outage(shop: Shop, service: str, url: str) -> None:
    shop.services[service].kill()
    time.sleep(OUTAGE_SECONDS)
    shop.services[service].start()
    wait_ready(service, shop.services[service], url)


def draw(dashboard: Dashboard, seen: Recording, path: Path) -> None:
    """Draw every panel of a dashboard where Grafana puts it."""
    from matplotlib.figure import Figure  # noqa: PLC0415  (only this needs it)

    places = dashboard.as_model()["panels"]
    height = max(place["gridPos"]["y"] + place["gridPos"]["h"] for place in places)
    size = (GRID_COLUMNS * COLUMN_INCHES, height * ROW_INCHES + 0.6)
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, facecolor="white")
    when = datetime.fromtimestamp(seen.start, UTC)
    figure.suptitle(
        f"{dashboard.title}: {seen.end - seen.start:.0f} s from {when:%Y-%m-%d %H:%M:%S} UTC",
        fontsize=13,
        y=1 - 0.2 / size[1],
    )
    grid = figure.add_gridspec(
        height, GRID_COLUMNS, left=0.05, right=0.99, bottom=0.02, top=1 - 0.6 / size[1]
    )
    panels = iter(dashboard.panels())
    for place in places:
        box = place["gridPos"]
        top, left = box["y"], box["x"]
        if place["type"] == "row":
            heading = figure.add_subplot(grid[top : top + 1, :])
            heading.axis("off")
            heading.text(0, 0.2, place["title"], fontsize=11, fontweight="bold")
            continue
        cell = grid[top + 1 : top + box["h"] - 1, left : left + box["w"] - 1]
        _draw_panel(figure.add_subplot(cell), next(panels), seen)
    figure.savefig(path)


def _draw_panel(axes: Axes, panel: Panel, seen: Recording) -> None:
    axes.set_title(panel.title, fontsize=9, loc="left")
    axes.tick_params(labelsize=7)
    lines = [line for query in panel.queries for line in seen.series(query)]
    if panel.kind == "heatmap":
        _draw_heatmap(axes, lines, seen)
    elif panel.kind == "stat":
        _draw_numbers(axes, panel, lines)
    else:
        _draw_lines(axes, panel, lines, seen)


def _draw_lines(axes: Axes, panel: Panel, lines: list[Series], seen: Recording) -> None:
    for name, times, values in lines:
        axes.plot([at - seen.start for at in times], values, linewidth=1, label=name)
    for threshold, colour in zip(panel.thresholds, COLOURS[-len(panel.thresholds) :], strict=False):
        axes.axhline(threshold, color=colour, linewidth=0.8, linestyle="--")
    axes.set_xlim(0, seen.end - seen.start)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: _with_unit(value, panel.unit))
    if lines:
        axes.legend(fontsize=6, loc="upper left", ncols=2, framealpha=0.6)


def _draw_numbers(axes: Axes, panel: Panel, lines: list[Series]) -> None:
    axes.axis("off")
    colours = COLOURS[::-1] if panel.good_above else COLOURS
    rows = panel.height - 2
    for row, (name, _, values) in enumerate(lines[:4]):
        reached = sum(values[-1] >= threshold for threshold in panel.thresholds)
        text = f"{_with_unit(values[-1], panel.unit)}  {name}"
        at = 1 - (0.8 + 0.9 * row) / rows
        axes.text(0.02, at, text, fontsize=10, color=colours[reached], fontweight="bold")


def _draw_heatmap(axes: Axes, lines: list[Series], seen: Recording) -> None:
    """Columns of one step, rows of one bucket; buckets are cumulative, so neighbours differ."""
    ordered = sorted(lines, key=lambda line: float(line[0]))
    times = sorted({at for _, all_times, _ in ordered for at in all_times})
    below = dict.fromkeys(times, 0.0)
    rows: list[list[float]] = []
    for _, all_times, values in ordered:
        here = dict(zip(all_times, values, strict=True))
        rows.append([max(0.0, here.get(at, below[at]) - below[at]) for at in times])
        below |= here
    extent = (times[0] - seen.start, times[-1] - seen.start, 0.0, float(len(rows)))
    axes.imshow(rows, aspect="auto", origin="lower", cmap="Oranges", extent=extent)
    axes.set_yticks(
        [row + 0.5 for row in range(len(rows))],
        [_with_unit(float(name), "s") for name, _, _ in ordered],
    )


def _with_unit(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{value:.2%}"
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 else f"{value * 1000:.3g} ms"
    suffix = {"reqps": "/s", "ops": "/s"}.get(unit, "")
    return f"{value:.3g}{suffix}"


def main() -> None:
    """Record, and draw every dashboard into the repository that is the working directory."""
    parser = argparse.ArgumentParser(prog="tools.pictures", description=__doc__)
    parser.add_argument("--seconds", type=float, default=240.0, help="length of the recording")
    seconds: float = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder, recording(Path(folder), seconds) as seen:
        for dashboard in DASHBOARDS:
            path = Path.cwd() / FOLDER / f"{dashboard.uid}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            draw(dashboard, seen, path)
            print(path.relative_to(Path.cwd()))


if __name__ == "__main__":
    main()
