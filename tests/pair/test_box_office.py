"""The second pair on the protocol heals from whatever the shop heals from."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from examples.box_office import seats, tickets
from tests.pair.running import NEVER, Pair, Program
from tests.together.fixtures import nursery
from tests.together.processes import Nursery

from devkit.servers import PostgresServer, RedisServer

__all__ = ["nursery"]

pytestmark = pytest.mark.pair

LANES = 3
ATTEMPTS = 5
FINAL = {200, 201, 404, 409}
ALL = tickets.POINTS.names()
SENT = ALL.index(tickets.POINTS.after_send)
UNDECIDED, DECIDED = ALL[:SENT], ALL[SENT:]
ERROR_POINTS = (
    tickets.POINTS.in_intent,
    tickets.POINTS.after_intent,
    tickets.POINTS.in_completion,
    tickets.POINTS.after_completion,
)
# Nobody cancels here.
HALL_POINTS = (seats.POINTS.before, seats.POINTS.after)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pair")


@pytest.fixture(scope="module")
def pair(
    folder: Path, nursery: Nursery, postgres_server: PostgresServer, redis_server: RedisServer
) -> Iterator[Pair]:
    with Pair(folder, nursery=nursery, postgres=postgres_server, redis=redis_server) as made:
        yield made


def attempt(office: Program, ticket: str, key: str) -> httpx.Response | None:
    try:
        return office.send(
            "PATCH",
            f"/tickets/{ticket}",
            json={"holder": "Grace"},
            headers={"Idempotency-Key": key},
        )
    except httpx.TransportError:
        return None


def finally_answered(pair: Pair, ticket: str, key: str) -> httpx.Response:
    while True:
        answer = attempt(pair.survivor, ticket, key)
        if answer is not None and answer.status_code in FINAL and "StillRunning" not in answer.text:
            return answer


def judge(pair: Pair, ticket: str, key: str, first: httpx.Response | None) -> None:
    """What was promised holds, whoever asks again gets one answer, and it was done once."""
    pair.wait_settled()
    final = finally_answered(pair, ticket, key)
    assert pair.effects(key) == (final.status_code == httpx.codes.OK)
    if first is not None and first.status_code in FINAL:
        assert (first.status_code, first.content) == (final.status_code, final.content)


def fail_at(pair: Pair, point: str, action: str) -> bool:
    """Let a box office fail in the middle of a change; tell whether it got there.

    Its own recovery sleeps: what it leaves behind is for the survivor.
    """
    ticket, key = pair.sold(), str(uuid.uuid4())
    victim = pair.office().start(FAILPOINTS=f"{point}={action}", RECOVERY_SECONDS=NEVER)
    first = attempt(victim, ticket, key)
    victim.kill()
    judge(pair, ticket, key, first)
    return victim.has_hit(point)


def heals(pair: Pair, point: str, action: str) -> None:
    # A slow machine may lose the lease before: that heals as well, and is tried once more.
    assert any(fail_at(pair, point, action) for _ in range(ATTEMPTS)), f"{point} was never passed"


@pytest.mark.parametrize(
    ("points", "action"),
    [
        pytest.param(UNDECIDED, "kill", id="dies before the hall has decided"),
        pytest.param(DECIDED, "kill", id="dies after it"),
        pytest.param(ERROR_POINTS, "error", id="fails"),
    ],
)
def test_it_heals_wherever_a_box_office(pair: Pair, points: tuple[str, ...], action: str) -> None:
    with ThreadPoolExecutor(LANES) as pool:
        list(pool.map(lambda point: heals(pair, point, action), points))
    assert pair.differences() == []


def test_it_heals_wherever_the_hall_dies_or_answers_nothing(pair: Pair) -> None:
    for point in HALL_POINTS:
        for action in ("kill", "drop*1"):
            ticket, key = pair.sold(), str(uuid.uuid4())
            pair.hall.kill()
            pair.hall.start(FAILPOINTS=f"{point}={action}")
            first = attempt(pair.survivor, ticket, key)
            pair.hall.kill()
            pair.hall.start()
            judge(pair, ticket, key, first)
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
        ticket = broken.sold()
        broken.hall.kill()
        broken.hall.start(FAILPOINTS=f"{seats.POINTS.after}=drop")
        answer = attempt(broken.survivor, ticket, "k")
        assert answer is not None
        assert answer.status_code == 409
        assert broken.differences() != []
