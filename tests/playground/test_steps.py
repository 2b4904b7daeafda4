"""The page offers failpoints that exist."""

import pytest
from tools.playground import steps
from tools.playground.scenes import ACTS, TEXTS

from order.failpoints import NAMES
from servicekit.failpoints import Failpoints


def test_every_step_is_a_failpoint_of_the_order_service_in_its_order() -> None:
    points = [step.point for step in steps.STEPS]
    assert sorted(points, key=NAMES.index) == points


@pytest.mark.parametrize("action", ["kill", "drop", "stall:6", "delay:0.5"])
def test_a_failing_step_is_armed_among_the_slow_ones(action: str) -> None:
    for step in steps.STEPS:
        armed = steps.failing(step, action, slowly=True)
        Failpoints(NAMES, armed=armed)  # raises when it is no failpoint
        assert f"{step.point}={action}*1" in armed.split(";")
        assert armed.count(step.point) == 1


def test_the_sleeper_sleeps_longer_than_its_lease() -> None:
    assert steps.NAP_SECONDS > steps.LEASE_SECONDS


def test_every_scene_has_two_sentences_before_and_after() -> None:
    assert list(TEXTS) == list(ACTS)
    for text in TEXTS.values():
        assert text.before.count(". ") == 1, text.before
        assert text.after.count(". ") == 1, text.after
