"""The arithmetic of the benchmark of the services."""

import pytest
from bench.services.figures import Sample, figures_of, percentile, ratio


def sample(
    *done_ms: float, failed: dict[str, int] | None = None, seconds: float = 1.0, cpu: float = 0.0
) -> Sample:
    return Sample(
        seconds=seconds,
        done_ms=done_ms,
        failed=failed or {},
        cpu_seconds={"order": cpu, "invoice": cpu / 2},
        load_seconds=seconds / 10,
    )


def test_a_percentile_is_a_value_that_was_measured_by_nearest_rank() -> None:
    values = [float(value) for value in range(1000, 0, -1)]

    assert percentile(values, 0.5) == 500
    assert percentile(values, 0.99) == 990
    assert percentile(values, 0.999) == 999
    assert percentile(values, 1) == 1000
    assert percentile([7.0], 0.001) == 7


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 0), ([1.0], 1.1)])
def test_a_percentile_that_does_not_exist_is_refused(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="no percentile"):
        percentile(values, share)


def test_the_rate_is_the_median_of_the_rounds_and_latencies_are_of_all_of_them() -> None:
    rounds = [sample(1, 2), sample(3), sample(4, 5, 6, seconds=0.5)]

    found = figures_of(rounds)

    assert found.rate == 2
    assert found.rates == [2, 1, 6]
    assert found.latency_ms == {"p50": 3, "p99": 6, "p99.9": 6}
    assert found.load_busy == pytest.approx(0.1)


def test_what_failed_counts_as_asked_and_its_cost_is_borne_by_what_succeeded() -> None:
    rounds = [sample(1, failed={"503": 2}, cpu=0.004), sample(1, failed={"503": 1, "423": 3})]

    found = figures_of(rounds)

    assert found.failed == {"503": 3, "423": 3}
    assert found.served == 2 / 8
    assert found.cpu_ms == pytest.approx({"order": 2.0, "invoice": 1.0})
    assert found.services_cpu_ms() == pytest.approx(3.0)


def test_where_nothing_succeeded_there_is_no_latency_and_no_cost() -> None:
    found = figures_of([sample(failed={"503": 9}, cpu=1.0)])

    assert (found.rate, found.served) == (0, 0)
    assert found.latency_ms == {}
    assert found.services_cpu_ms() is None


def test_no_rounds_have_no_figures() -> None:
    with pytest.raises(ValueError, match="no samples"):
        figures_of([])


@pytest.mark.parametrize(
    ("value", "base", "expected"),
    [(3.0, 2.0, 1.5), (None, 2.0, None), (3.0, None, None), (3.0, 0.0, None), (0.0, 2.0, 0.0)],
)
def test_a_ratio_needs_both_sides(
    value: float | None, base: float | None, expected: float | None
) -> None:
    assert ratio(value, base) == expected
