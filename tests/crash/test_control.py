"""Without the protocol the same failures lose orders: the matrix would notice."""

import pytest
from tests.crash.control import Control, run_all
from tests.crash.table import Report

from tandem.testing.crashes import ACTIONS


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_lock_alone_loses_orders_to_every_kind_of_failure(
    control: Control, report: Report
) -> None:
    losses = run_all(control)
    report([loss.row() for loss in losses])
    lost = {loss.case.action for loss in losses if loss.lost}
    assert lost == set(ACTIONS)
    after_the_invoice = [
        loss for loss in losses if loss.case.point == "lock_only.after_invoice_write"
    ]
    assert all(loss.lost for loss in after_the_invoice if loss.case.action != "stall")
