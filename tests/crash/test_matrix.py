"""Whatever fails, wherever, during whichever change: both sides end equal, on their own."""

import pytest
from tests.crash.cases import cases
from tests.crash.matrix import ShopStage, lanes_on, row_of
from tests.crash.table import Report

from tandem.testing.crashes import ACTIONS, run_all


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("service", ["order", "invoice"])
def test_every_crash_point_heals(
    stages: list[ShopStage], report: Report, service: str, action: str
) -> None:
    found = run_all(lanes_on(stages), cases(service, action))
    report([row_of(result) for result in found])
    assert {str(result.case): result.faults for result in found if result.faults} == {}
    assert {str(result.case): result.first for result in found if not result.hit} == {}
