"""The arithmetic of the figures that are taken in a cluster."""

import pytest
from bench.cluster import Row, Used, busy, row, table

BEFORE = {"order": Used(1.0, 90.0), "redis": Used(0.5, 8.0)}
AFTER = {"order": Used(3.0, 96.0), "redis": Used(1.0, 9.0)}


def measured(*done_ms: float, refused: int = 0) -> Row:
    failed = {"503": refused} if refused else {}
    found = {"done_ms": done_ms, "seconds": 4.0, "failed": failed, "machine": 0.5}
    return row("update", 8, found, BEFORE, AFTER, {"redis": 7})


def test_a_control_group_tells_cpu_time_and_what_of_the_memory_cannot_be_given_back() -> None:
    assert Used.read("1500000000 104857600 52428800\n") == Used(1.5, 50.0)


def test_the_machine_is_busy_but_when_idle_or_waiting_for_a_disk() -> None:
    before = "cpu  100 0 50 1000 10 1 2 3 0 0"
    assert busy(before, "cpu  130 5 60 1050 12 2 4 3 0 0") == pytest.approx(48 / 100)


def test_a_row_counts_successes_and_cores_by_the_seconds_that_they_took() -> None:
    found = measured(10.0, 20.0, 30.0, 500.0, refused=3)
    assert (found.rate, found.p50_ms, found.p99_ms) == (1.0, 20.0, 500.0)
    assert found.cores == {"order": 0.5, "redis": 0.125}
    assert found.failed == {"503": 3}


def test_where_nothing_succeeds_there_are_no_figures() -> None:
    with pytest.raises(SystemExit, match=r"nothing succeeded: \{.503.: 2\}"):
        measured(refused=2)


def test_the_tables_name_each_pod_once_and_its_most() -> None:
    lines = table([measured(10.0), measured(20.0, refused=1)]).splitlines()
    assert lines[3] == "| update | 8 | 0 | 20 ms | 20 ms | 1 | 0.50 | 0.12 | 50% |"
    assert lines[-2:] == ["| order | 96 MiB | - |", "| redis | 9 MiB | 7 |"]
