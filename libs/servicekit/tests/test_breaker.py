"""The circuit breaker."""

import pytest

from servicekit.breaker import BreakerOpen, BreakerState, CircuitBreaker


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(failure_threshold=2, reset_seconds=5, clock=clock)


def state_of(breaker: CircuitBreaker) -> BreakerState:
    """The state now; mypy takes an attribute that was compared once to stay as it was."""
    return breaker.state


def opened(breaker: CircuitBreaker) -> CircuitBreaker:
    for _ in range(2):
        breaker.check()
        breaker.failed()
    return breaker


def test_it_lets_calls_through_until_enough_fail_in_a_row(breaker: CircuitBreaker) -> None:
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    breaker.check()
    assert breaker.state is BreakerState.CLOSED


def test_open_it_refuses_and_says_when_to_come_again(breaker: CircuitBreaker, clock: Clock) -> None:
    opened(breaker)
    clock.now = 2.0
    assert breaker.is_open()
    with pytest.raises(BreakerOpen) as caught:
        breaker.check()
    assert caught.value.retry_after_seconds == pytest.approx(3.0)


def test_half_open_it_lets_one_probe_through(breaker: CircuitBreaker, clock: Clock) -> None:
    opened(breaker)
    clock.now = 5.0
    assert not breaker.is_open()
    breaker.check()
    with pytest.raises(BreakerOpen):
        breaker.check()


def test_a_probe_that_succeeds_closes_it_and_one_that_fails_opens_it_again(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    opened(breaker)
    clock.now = 5.0
    breaker.check()
    breaker.failed()
    assert state_of(breaker) is BreakerState.OPEN
    clock.now = 10.0
    breaker.check()
    breaker.succeeded()
    assert state_of(breaker) is BreakerState.CLOSED


def test_a_cancelled_probe_frees_its_place(breaker: CircuitBreaker, clock: Clock) -> None:
    opened(breaker)
    clock.now = 5.0
    breaker.check()
    breaker.cancelled()
    breaker.check()


def test_it_says_beforehand_how_many_calls_it_lets_through(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    assert breaker.permits(16) == 16
    opened(breaker)
    assert breaker.permits(16) == 0
    clock.now = 5.0
    assert breaker.permits(16) == 1
    breaker.check()
    assert breaker.permits(16) == 0
