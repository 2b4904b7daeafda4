"""What the matrix found, as a table."""

from collections import Counter
from collections.abc import Sequence

from tests.crash.cases import ACTIONS
from tests.crash.matrix import Result


def render(results: Sequence[Result]) -> str:
    """One line a point: how often each action was made to fail there, and the faults found."""
    lines = [f"{'point':28}" + "".join(f"{action:>8}" for action in ACTIONS) + "  slowest  faults"]
    points = dict.fromkeys(result.case.point for result in results)
    for point in points:
        mine = [result for result in results if result.case.point == point]
        hits = Counter(result.case.action for result in mine if result.hit)
        faults = sum(bool(result.faults) for result in mine)
        slowest = max(result.healed_seconds for result in mine)
        cells = "".join(f"{hits[action]:>8}" for action in ACTIONS)
        lines.append(f"{point:28}{cells}  {slowest:5.1f} s  {faults:6}")
    hit = sum(result.hit for result in results)
    faulty = sum(bool(result.faults) for result in results)
    lines.append(f"{len(results)} failures, {hit} hit, {faulty} with faults")
    return "\n".join(lines)
