"""What the benchmark of the services prints."""

from bench.services.figures import Figures
from bench.services.report import Goal, calibration, goals, table
from bench.services.rounds import Row


def figures(rate: float, *, cpu: float = 1.0, served: float = 1.0, p50: float = 1.0) -> Figures:
    return Figures(
        rate=rate,
        rates=[rate],
        served=served,
        latency_ms={"p50": p50, "p99": 2.0, "p99.9": 3.0},
        cpu_ms={"order": cpu, "invoice": cpu},
        load_busy=0.25,
        failed={} if served == 1 else {"503": 7, "423": 1},
    )


def test_the_table_has_each_row_of_each_contestant_with_its_share_of_bare() -> None:
    row = Row("update", 32)

    lines = table(
        {"shop": {row: figures(50, served=0.5)}, "bare": {row: figures(200)}}
    ).splitlines()

    assert "| update@32 | shop | 50 | 0.25 |" in lines[2]
    assert lines[2].endswith("| 50.0% | 1 x 423, 7 x 503 |")
    assert "| update@32 | bare | 200 | 1.00 |" in lines[3]


def test_a_contestant_without_a_row_is_left_out_of_it_and_without_bare_there_is_no_share() -> None:
    text = table({"shop": {Row("read", 1): figures(5)}, "floor": {}})

    assert "floor" not in text
    assert "| read@1 | shop | 5 | - |" in text


def test_the_goals_say_what_is_met_missed_and_not_measured() -> None:
    row = Row("update", 32)
    results = {
        "shop": {row: figures(50, cpu=2.0)},
        "floor": {row: figures(99, cpu=1.0)},
        "bare": {row: figures(200, cpu=0.5)},
    }

    text = goals(results)

    assert "| CPU of an update, of floor | at most 2 | 2.00 | met |" in text
    assert "| CPU of an update, of bare | at most 3 | 4.00 | missed |" in text
    assert "| 32 clients: updates, of bare | at least 0.5 | 0.25 | missed |" in text
    assert "| 200 clients: creates served | at least 1 | not measured | |" in text


def test_a_goal_that_is_just_reached_is_met() -> None:
    assert Goal("it", lambda _: 2.0, 2.0, at_most=True).line({}).endswith("| met |")
    assert Goal("it", lambda _: 2.0, 2.0, at_most=False).line({}).endswith("| met |")


def test_the_calibration_tells_how_far_the_load_generator_was_from_its_limit() -> None:
    row = Row("read", 32)

    text = calibration({"null": {row: figures(8000)}, "shop": {row: figures(400)}})

    assert "read@32: 8000/s on a server that does nothing, 20 times the fastest contestant" in text
    assert "at most 25% of one core" in text
