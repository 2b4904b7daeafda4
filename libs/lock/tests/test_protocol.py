import math
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fencelock import ConfigurationError, Kind, RedisUnavailable
from fencelock import _protocol as protocol
from fencelock._kinds import validate
from fencelock._protocol import Blocked, Changed, Granted, Push, Request, Term, Watch
from fencelock._scripts import packaged

SCRIPTS = packaged()


def request_for(*names: str, ttl: float = 10.0, annotation: str | None = None) -> Request:
    return Request(names, "clientclien", ttl, annotation)


def test_an_acquire_names_every_key_and_its_owner() -> None:
    request = request_for("invoice:{7}", "order:{7}")
    command = request.acquire(SCRIPTS, "try", 0)
    assert command.script is SCRIPTS.acquire
    assert command.keys == (
        "fencelock:fence",
        "fencelock:l:invoice:{7}",
        "fencelock:l:order:{7}",
        "fencelock:q:invoice:{7}",
        "fencelock:q:order:{7}",
    )
    assert command.args == (request.owner, "10000", "3333", "-", "try", "60000", "")
    assert command.dated


def test_a_withdrawn_ticket_is_the_one_that_was_put_in_line() -> None:
    request = request_for("a:{7}", "b:{7}", annotation="00-trace")
    assert request.release(SCRIPTS, queued=True).args == (request.owner, "?")
    request.since = "1795373943855033"
    command = request.release(SCRIPTS, queued=True)
    assert command.args == (
        request.owner,
        f"{request.owner} 1795373943855033 3333 00-trace a:{{7}} b:{{7}}",
    )
    assert request.release(SCRIPTS, queued=False).args == (request.owner, "")


def test_owners_are_never_the_same() -> None:
    assert len({request_for("a").owner for _ in range(1000)}) == 1000


@pytest.mark.parametrize("annotation", ["", "a b", "\u00e4", "x" * 129])
def test_an_annotation_that_would_break_the_record_is_refused(annotation: str) -> None:
    with pytest.raises(ConfigurationError):
        request_for("a", annotation=annotation)


@pytest.mark.parametrize("ttl", [0.0, -1.0, 0.01, math.inf, math.nan])
def test_a_lease_without_a_proper_end_is_refused(ttl: float) -> None:
    with pytest.raises(ConfigurationError):
        protocol.validate_ttl(ttl, max_hold=300.0)


def test_a_cap_below_the_lease_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        protocol.validate_ttl(10.0, max_hold=5.0)


@pytest.mark.parametrize(
    "timeout",
    [math.inf, -math.inf, math.nan, 1e308, 10**400, True, "1", None],
    ids=lambda _: "no time",
)
def test_a_limit_of_a_call_that_is_no_time_is_refused(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        protocol.validate_timeout(timeout)


@pytest.mark.parametrize("timeout", [0, -3.5, 2, 0.25])
def test_a_limit_of_a_call_may_be_over_already(timeout: float) -> None:
    protocol.validate_timeout(timeout)


KINDS_OF_NO_KIND: list[Any] = [
    *(Kind("permits", 0), Kind("permits", -5), Kind("exclusive", 2)),
    *(Kind(cast("Any", "other"), 1), "shared", None),
]


@pytest.mark.parametrize("kind", KINDS_OF_NO_KIND, ids=str)
def test_a_kind_that_was_made_by_hand_and_is_none_is_refused(kind: object) -> None:
    """A semaphore of none would let everybody in, one of less would be exclusive."""
    with pytest.raises(ConfigurationError):
        validate(kind)


@pytest.mark.parametrize("wait", [-1.0, math.inf, math.nan])
def test_a_wait_without_an_end_is_refused(wait: float) -> None:
    with pytest.raises(ConfigurationError):
        protocol.validate_wait(wait)


def test_the_deadline_counts_from_before_the_request_less_the_drift() -> None:
    term = Term(ttl=10.0, max_hold=900.0)
    term.grant(sent=100.0, lease=10.0)
    assert term.deadline == pytest.approx(109.898)
    assert 100.0 < term.renew_at < term.deadline - 2 * (term.renew_at - 100.0) + 0.2


def test_the_cap_ends_a_hold_and_is_not_renewed_past() -> None:
    term = Term(ttl=10.0, max_hold=5.0)
    term.grant(sent=100.0, lease=10.0)
    assert term.deadline == 105.0
    assert term.renew_at == math.inf
    assert term.next_ttl(now=103.0) == pytest.approx(2.0, abs=0.03)


@given(
    waited=st.floats(min_value=0.0, max_value=60.0),
    drift=st.floats(min_value=-0.01, max_value=0.01),
    delivery=st.floats(min_value=0.0, max_value=30.0),
    latency=st.floats(min_value=0.0, max_value=5.0),
    offset=st.floats(min_value=-3600.0, max_value=3600.0),
)
def test_a_pushed_lease_never_ends_later_here_than_at_the_server(
    waited: float, drift: float, delivery: float, latency: float, offset: float
) -> None:
    """Whatever the delays, the offset of the clocks, and a drift within the margin."""

    def server(local: float) -> float:
        return 1_700_000_000.0 + offset + (local - 100.0) * (1 - drift)

    sent = 100.0
    stamp = (sent, server(sent + latency))
    granted_at = sent + latency + waited
    granted = Granted(1, 3.0, server(granted_at))
    term = Term(ttl=9.0, max_hold=9_000.0)
    term.grant_pushed(stamp, granted, received=granted_at + delivery)
    assert server(term.deadline) <= granted.server_time + granted.lease + 1e-5


def test_a_server_clock_that_leaps_forward_does_not_lengthen_a_pushed_lease() -> None:
    term = Term(ttl=9.0, max_hold=9_000.0)
    granted = Granted(1, 3.0, 1_700_003_600.0)
    term.grant_pushed((100.0, 1_700_000_000.0), granted, received=101.0)
    assert term.deadline <= 104.0


def test_a_failed_renewal_is_repeated_before_the_deadline() -> None:
    term = Term(ttl=9.0, max_hold=9_000.0)
    term.grant(sent=100.0, lease=9.0)
    term.postpone(now=104.0)
    assert 104.0 < term.renew_at < term.deadline


def test_a_claim_is_a_third_of_the_lease_but_not_too_short() -> None:
    assert protocol.claim_seconds(30.0) == pytest.approx(10.0)
    assert protocol.claim_seconds(2.0) == 1.0
    assert protocol.claim_seconds(0.5) == 0.5


def test_a_grant_is_read() -> None:
    reply = [b"granted", b"1795373943855033", b"10000", b"1795373943855033", b"-"]
    granted = protocol.read_acquire(reply, 7.0)
    assert granted == Granted(1_795_373_943_855_033, 10.0, 1_795_373_943.855033)


def test_being_blocked_is_read() -> None:
    reply = [b"requeued", b"7", 1500, b"1795373943855033", b"00-trace"]
    assert protocol.read_acquire(reply, 7.0) == Blocked(
        queued=True,
        lost_place=True,
        remaining=1.5,
        blocker="00-trace",
        stamp=(7.0, 1_795_373_943.855033),
        since="7",
    )
    busy = protocol.read_acquire([b"busy", b"", -1, b"1", b"-"], 7.0)
    assert isinstance(busy, Blocked)
    assert (busy.queued, busy.remaining, busy.blocker) == (False, None, None)


_HUGE = b"9" * 400


@pytest.mark.parametrize(
    "reply",
    [
        None,
        [],
        b"OK",
        7,
        [b"granted", 1, 2, 3, 4],
        [b"granted", 1, b"2", b"3", b"-"],
        [b"granted", b"1", b"2", b"3"],
        [b"granted", b"x", b"1000", b"3", b"-"],
        [b"granted", b"1", _HUGE, b"3", b"-"],
        [b"granted", b"1", b"1000", _HUGE, b"-"],
        [b"granted", b"1", b"0", b"3", b"-"],
        [b"queued", b"1", b"1000", b"3", b"-"],
        [b"queued", b"1", 1000, None, b"-"],
        [b"queued", b"1", 1000, b"3", None],
        [b"queued", None, 1000, b"3", b"-"],
        [b"late", b"", -1, _HUGE, b"-"],
        [b"gone", b"1", b"1000", b"3", b"-"],
    ],
)
def test_a_reply_that_makes_no_sense_is_an_error(reply: object) -> None:
    with pytest.raises(RedisUnavailable):
        protocol.read_acquire(reply, 7.0)


def test_other_replies_that_make_no_sense_are_errors() -> None:
    with pytest.raises(RedisUnavailable):
        protocol.read_release(b"OK")
    with pytest.raises(RedisUnavailable):
        protocol.read_renew([1], 2)
    with pytest.raises(RedisUnavailable):
        protocol.read_verify(None)


def test_renewals_of_many_leases_are_one_command() -> None:
    one, two = request_for("a:{7}", "b:{7}"), request_for("c")
    command = protocol.renew(SCRIPTS, [(one, 10.0), (two, 2.5)])
    assert command.keys == ("fencelock:l:a:{7}", "fencelock:l:b:{7}", "fencelock:l:{c}")
    assert command.args == (one.owner, "10000", "2", two.owner, "2500", "1")
    assert protocol.read_renew([1, 0], 2) == [True, False]


def test_pushes_are_read() -> None:
    grant = [b"message", b"channel", b"grant me.x 5 3333 1000000 00-trace a b"]
    assert protocol.read_push(grant) == Push("me.x", Granted(5, 3.333, 1.0), "00-trace", ("a", "b"))
    foreign = [b"message", b"channel", b"grant  me.x 5 3333 1000000 \xff a"]
    assert protocol.read_push(foreign) == Push("me.x", Granted(5, 3.333, 1.0), "\ufffd", ("a",))
    watch = [b"message", b"channel", b"watch a:{7} 3333"]
    assert protocol.read_push(watch) == Watch("a:{7}", 3.333)
    assert protocol.read_push([b"message", b"channel", b"news of a later version"]) is None
    assert protocol.read_push([b"invalidate", [b"key"]]) == Changed(("key",))
    assert protocol.read_push([b"invalidate", None]) == Changed(None)
    assert protocol.read_push([b"invalidate"]) is None


@pytest.mark.parametrize(
    "message",
    [
        None,
        [],
        [b"message"],
        [b"message", b"channel"],
        [b"message", b"channel", None],
        [b"message", b"channel", b""],
        [b"message", b"channel", b"grant"],
        [b"message", b"channel", b"grant me.x 5 3333 1000000"],
        [b"message", b"channel", b"grant me.x 5 " + _HUGE + b" 1000000 - a"],
        [b"message", b"channel", b"grant me.\xff 5 3333 1000000 - a"],
        [b"message", b"channel", b"grant me.x 5 3333 1000000 - \xff"],
        [b"message", b"channel", b"watch \xff 3333"],
        [b"message", b"grant me.x 5 3333 1000000 - a"],
        [b"message", b"channel", b"watch a"],
        [b"message", b"channel", b"watch a " + _HUGE],
        [b"invalidate", b"key"],
        [b"invalidate", [b"a"], [b"b"]],
        [b"subscribe", b"channel", 1],
    ],
)
def test_a_push_that_makes_no_sense_is_nothing(message: object) -> None:
    assert protocol.read_push(message) is None
