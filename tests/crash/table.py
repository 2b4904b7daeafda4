"""What failures led to, as a table."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tandem.testing.crashes import ACTIONS


@dataclass(frozen=True)
class Row:
    """One failure and what became of it."""

    protocol: bool
    """Whether the services were at work; the control has the lock alone."""
    point: str
    action: str
    hit: bool
    healed_seconds: float
    lost: bool


Report = Callable[[Sequence[Row]], None]
"""Takes rows for the tables at the end."""


def render(rows: Sequence[Row]) -> str:
    """One line a point: of each action, how many failures lost an order, of how many that hit."""
    lines = [
        f"{'orders lost / failures':30}"
        + "".join(f"{action:>8}" for action in ACTIONS)
        + "  slowest to heal"
    ]
    for point in dict.fromkeys(row.point for row in rows):
        mine = [row for row in rows if row.point == point]
        hits = Counter(row.action for row in mine if row.hit)
        lost = Counter(row.action for row in mine if row.lost)
        cells = "".join(f"{f'{lost[action]}/{hits[action]}':>8}" for action in ACTIONS)
        slowest = max(row.healed_seconds for row in mine)
        lines.append(f"{point:30}{cells}" + (f"  {slowest:5.1f} s" if slowest else ""))
    total = sum(row.lost for row in rows)
    lines.append(f"{len(rows)} failures, {sum(row.hit for row in rows)} hit, {total} orders lost")
    return "\n".join(lines)
