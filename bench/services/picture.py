"""The results as a picture; needs matplotlib (``pip install matplotlib``)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.services.report import Results

COLOURS: Final = {"shop": "#1f60c4", "traced": "#8ab8ff", "floor": "#ff9830", "bare": "#8e8e8e"}


def draw(results: Results, path: Path) -> None:
    """Draw requests a second and CPU an operation, a column of panels for each kind of work.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  (only this needs it)

    shown = {name: found for name, found in results.items() if name in COLOURS}
    works = sorted({row.work for found in shown.values() for row in found})
    figure = Figure(figsize=(3.2 * len(works), 6.0), dpi=100, facecolor="white")
    panels = figure.subplots(2, len(works), squeeze=False)
    for column, work in enumerate(works):
        clients = sorted(
            {row.clients for each in shown.values() for row in each if row.work == work}
        )
        top, bottom = panels[0][column], panels[1][column]
        width = 0.8 / len(shown)
        for index, (name, found) in enumerate(shown.items()):
            rows = sorted(row for row in found if row.work == work)
            places = [clients.index(row.clients) + (index + 0.5) * width - 0.4 for row in rows]
            costs = [found[row].services_cpu_ms() or 0.0 for row in rows]
            top.bar(
                places, [found[row].rate for row in rows], width, color=COLOURS[name], label=name
            )
            bottom.bar(places, costs, width, color=COLOURS[name])
        top.set_title(work, fontsize=10)
        for panel in (top, bottom):
            panel.set_xticks(range(len(clients)), [str(number) for number in clients], fontsize=8)
            panel.tick_params(axis="y", labelsize=8)
        bottom.set_xlabel("clients", fontsize=8)
    panels[0][0].set_ylabel("served a second", fontsize=9)
    panels[1][0].set_ylabel("CPU of both services, ms each", fontsize=9)
    panels[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
