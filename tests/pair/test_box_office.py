"""The second pair on the protocol heals from whatever the shop heals from: the same matrix."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from examples.box_office import seats
from tests.pair.running import Pair
from tests.pair.stage import POINTS, PairStage
from tests.together.fixtures import nursery
from tests.together.processes import Nursery

from devkit.servers import PostgresServer, RedisServer
from tandem.testing.crashes import ACTIONS, Case, Lane, cases, run_all, within

__all__ = ["nursery"]

pytestmark = pytest.mark.pair

LANES = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pair")


@pytest.fixture(scope="module")
def stages(
    folder: Path, nursery: Nursery, postgres_server: PostgresServer, redis_server: RedisServer
) -> Iterator[list[PairStage]]:
    with ExitStack() as stack:
        pairs = [
            Pair(folder, nursery=nursery, postgres=postgres_server, redis=redis_server)
            for _ in range(LANES)
        ]
        yield [PairStage(stack.enter_context(pair)) for pair in pairs]


@pytest.fixture(scope="module")
def pair(stages: list[PairStage]) -> Pair:
    return stages[0].pair


@pytest.mark.timeout(300)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("service", POINTS)
def test_every_crash_point_heals(stages: list[PairStage], service: str, action: str) -> None:
    wanted = cases(service, POINTS[service], actions=(action,))
    found = run_all([Lane(stage) for stage in stages], wanted)
    assert {str(result.case): result.faults for result in found if result.faults} == {}
    assert {str(result.case): result.first for result in found if not result.hit} == {}
    assert [stage.pair.differences(histories=True) for stage in stages] == [[]] * LANES


@pytest.mark.parametrize("action", [action for action in ACTIONS if action != "stall"])
@pytest.mark.parametrize("point", [seats.POINTS.before_abort, seats.POINTS.after_abort])
def test_a_failed_cancellation_ends_in_one_outcome(pair: Pair, point: str, action: str) -> None:
    since, key = pair.hall.log_size(), {"Idempotency-Key": str(uuid.uuid4())}
    pair.hall.kill()
    pair.hall.start(FAILPOINTS=f"{point}={action};{seats.POINTS.before}=error")
    body = {"seat": str(uuid.uuid4())[:8], "holder": "Ada"}
    first = pair.survivor.send("POST", "/tickets", json=body, headers=key)
    assert first.status_code == 202
    page = first.json()["operation"]
    assert pair.survivor.send("POST", f"{page}/cancel").status_code == 200
    assert pair.hall.has_hit(point, since=since)
    pair.hall.kill()
    pair.hall.start()
    assert within(60, lambda: not pair.pending())
    final = pair.survivor.send("POST", "/tickets", json=body, headers=key)
    state = pair.survivor.send("GET", page).json()["state"]
    assert (final.status_code, state) in {(201, "committed"), (409, "rejected")}
    assert pair.differences() == []


def test_a_seat_is_one_persons_until_it_is_given_back(pair: Pair) -> None:
    ticket = pair.sold("A1")
    again = {"json": {"seat": "A1", "holder": "Grace"}}
    taken = pair.survivor.send("POST", "/tickets", **again)
    assert (taken.status_code, taken.json()) == (409, {"error": "rejected", "detail": "exists"})
    assert pair.survivor.send("DELETE", f"/tickets/{ticket}").status_code == 200
    assert pair.survivor.send("POST", "/tickets", **again).status_code == 201
    assert pair.differences() == []


def test_what_does_not_fit_the_table_is_refused_and_the_hall_never_asked(pair: Pair) -> None:
    body = {"seat": "far too long", "holder": "Ada"}
    assert pair.survivor.send("POST", "/tickets", json=body).status_code == 422
    assert pair.differences() == []


def test_a_box_office_that_takes_a_lost_answer_for_a_refusal_is_caught(
    folder: Path, nursery: Nursery, postgres_server: PostgresServer, redis_server: RedisServer
) -> None:
    broken = Pair(
        folder,
        nursery=nursery,
        postgres=postgres_server,
        redis=redis_server,
        box_office="tests.pair.hasty",
    )
    with broken:
        result = Lane(PairStage(broken)).run(Case("seats", seats.POINTS.after, "drop", "update"))
    assert result.hit
    assert result.faults != []
