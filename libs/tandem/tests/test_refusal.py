"""Why a row does not take an operation, without any input or output."""

from dataclasses import dataclass

import pytest

from tandem.decider.decision import refusal_of
from tandem.operation import Refusal


@dataclass
class Row:
    version: int = 3
    status: str = "updated"
    fence: int = 7


def test_the_next_version_under_a_lock_that_is_not_older_is_taken() -> None:
    assert refusal_of(Row(), version=4, fence=7) is None


@pytest.mark.parametrize(
    ("row", "fence", "expected"),
    [
        (None, 7, Refusal.NOT_FOUND),
        (Row(status="deleted"), 7, Refusal.DELETED),
        (Row(version=4), 7, Refusal.WRONG_VERSION),
        (Row(version=2), 7, Refusal.WRONG_VERSION),
        (Row(), 6, Refusal.STALE_FENCE),
    ],
)
def test_every_other_operation_is_refused_for_its_reason(
    row: Row | None, fence: int, expected: Refusal
) -> None:
    assert refusal_of(row, version=4, fence=fence) is expected
