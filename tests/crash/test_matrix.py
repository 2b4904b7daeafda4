"""Whatever fails, wherever, during whichever change: both sides end equal, on their own."""

import pytest
from tests.crash.cases import ACTIONS, cases
from tests.crash.matrix import Lane, run_all
from tests.crash.table import Report


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("service", ["order", "invoice"])
def test_every_crash_point_heals(
    lanes: list[Lane], report: Report, service: str, action: str
) -> None:
    found = run_all(lanes, cases(service, action))
    report([result.row() for result in found])
    assert {str(result.case): result.faults for result in found if result.faults} == {}
    assert {str(result.case): result.first for result in found if not result.hit} == {}
