"""What was measured, as a table, and beside what the design asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from bench.services.figures import Figures, ratio
from bench.services.rounds import Row

Results = Mapping[str, Mapping[Row, Figures]]
"""Figures by contestant and row."""
HEADINGS: Final = (
    "row",
    "contestant",
    "req/s",
    "of bare",
    "p50 ms",
    "p99",
    "p99.9",
    "order",
    "invoice",
    "postgres",
    "redis",
    "served",
    "failures",
)


def table(results: Results) -> str:
    """Every row of everybody, as Markdown; CPU is in ms an operation."""
    rows = sorted({row for found in results.values() for row in found})
    lines = [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
    for row in rows:
        for name, found in results.items():
            if row in found:
                bare = results.get("bare", {}).get(row)
                lines.append(f"| {' | '.join(_cells(row, name, found[row], bare))} |")
    return "\n".join(lines)


def _cells(row: Row, name: str, figures: Figures, bare: Figures | None) -> Iterator[str]:
    yield str(row)
    yield name
    yield f"{figures.rate:.0f}"
    yield _number(ratio(figures.rate, bare.rate if bare else None))
    for percentile in ("p50", "p99", "p99.9"):
        yield _number(figures.latency_ms.get(percentile), digits=1)
    for process in ("order", "invoice", "postgres", "redis"):
        yield _number(figures.cpu_ms.get(process))
    yield f"{figures.served:.1%}"
    yield (
        ", ".join(f"{count} x {status}" for status, count in sorted(figures.failed.items())) or "-"
    )


def _number(value: float | None, *, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


@dataclass(frozen=True)
class Goal:
    """A bar, and how to find out where the shop stands."""

    title: str
    found: Callable[[Results], float | None]
    bar: float
    at_most: bool

    def line(self, results: Results) -> str:
        """The goal with what was found, as a line of Markdown."""
        value = self.found(results)
        sign = "at most" if self.at_most else "at least"
        if value is None:
            return f"| {self.title} | {sign} {self.bar:g} | not measured | |"
        met = value <= self.bar if self.at_most else value >= self.bar
        return (
            f"| {self.title} | {sign} {self.bar:g} | {value:.2f} | {'met' if met else 'missed'} |"
        )


def _compare(
    row: Row,
    of: Callable[[Figures], float | None],
    other: str,
    *,
    name: str = "shop",
    base: Row | None = None,
) -> Callable[[Results], float | None]:
    def found(results: Results) -> float | None:
        ours = results.get(name, {}).get(row)
        theirs = results.get(other, {}).get(base or row)
        return ratio(of(ours), of(theirs)) if ours and theirs else None

    return found


def _rate(figures: Figures) -> float:
    return figures.rate


def _p50(figures: Figures) -> float | None:
    return figures.latency_ms.get("p50")


def _served(results: Results) -> float | None:
    found = results.get("shop", {}).get(Row("create", 200))
    return found.served if found else None


_UPDATE, _CREATE = Row("update", 32), Row("create", 32)
GOALS: Final = (
    Goal(
        "CPU of an update, of floor",
        _compare(_UPDATE, Figures.services_cpu_ms, "floor"),
        2.0,
        at_most=True,
    ),
    Goal(
        "CPU of an update, of bare",
        _compare(_UPDATE, Figures.services_cpu_ms, "bare"),
        3.0,
        at_most=True,
    ),
    Goal("32 clients: creates, of bare", _compare(_CREATE, _rate, "bare"), 0.5, at_most=False),
    Goal("32 clients: updates, of bare", _compare(_UPDATE, _rate, "bare"), 0.5, at_most=False),
    Goal(
        "1 client: p50 of a create, of bare",
        _compare(Row("create", 1), _p50, "bare"),
        2.0,
        at_most=True,
    ),
    Goal(
        "1 client: p50 of an update, of bare",
        _compare(Row("update", 1), _p50, "bare"),
        2.0,
        at_most=True,
    ),
    Goal("200 clients: creates served", _served, 1.0, at_most=False),
    Goal(
        "200 clients: creates, of those with 32",
        _compare(Row("create", 200), _rate, "shop", base=_CREATE),
        0.9,
        at_most=False,
    ),
    Goal(
        "CPU of an update when every request is traced, of without",
        _compare(_UPDATE, Figures.services_cpu_ms, "shop", name="traced"),
        1.4,
        at_most=True,
    ),
    Goal(
        "CPU of a read, of bare",
        _compare(Row("read", 32), Figures.services_cpu_ms, "bare"),
        1.5,
        at_most=True,
    ),
)


def goals(results: Results) -> str:
    """What is asked for and what was found, as Markdown."""
    lines = ["| | asked for | found | |", "|---|---|---|---|"]
    return "\n".join([*lines, *(goal.line(results) for goal in GOALS)])


def calibration(results: Results) -> str:
    """How far the load generator was from its own limit."""
    lines = []
    null = results.get("null", {})
    for row, figures in sorted(null.items()):
        fastest = max(
            (found[row].rate for name, found in results.items() if name != "null" and row in found),
            default=0.0,
        )
        lines.append(
            f"{row}: {figures.rate:.0f}/s on a server that does nothing,"
            f" {figures.rate / fastest:.0f} times the fastest contestant"
            if fastest
            else f"{row}: {figures.rate:.0f}/s on a server that does nothing"
        )
    busy = max(
        (
            each.load_busy
            for name, found in results.items()
            if name != "null"
            for each in found.values()
        ),
        default=0.0,
    )
    lines.append(
        f"The load generator used at most {busy:.0%} of one core while it measured a contestant."
    )
    return "\n".join(lines)
