"""Every place where a test can make this service fail: the boundaries of the protocol's steps."""

from typing import Final

from tandem.initiator import Points

BEFORE_LOCK: Final = "order.before_lock"
AFTER_LOCK: Final = "order.after_lock"
BEFORE_T1: Final = "order.before_t1"
IN_T1: Final = "order.in_t1"
AFTER_T1: Final = "order.after_t1"
BEFORE_SEND: Final = "order.before_send"
AFTER_SEND: Final = "order.after_send"
BEFORE_T3: Final = "order.before_t3"
IN_T3: Final = "order.in_t3"
AFTER_T3: Final = "order.after_t3"
BEFORE_RELEASE: Final = "order.before_release"
AFTER_RELEASE: Final = "order.after_release"
BEFORE_REPLY: Final = "order.before_reply"

POINTS: Final = Points(
    before_lock=BEFORE_LOCK,
    after_lock=AFTER_LOCK,
    before_intent=BEFORE_T1,
    in_intent=IN_T1,
    after_intent=AFTER_T1,
    before_send=BEFORE_SEND,
    after_send=AFTER_SEND,
    before_completion=BEFORE_T3,
    in_completion=IN_T3,
    after_completion=AFTER_T3,
    before_release=BEFORE_RELEASE,
    after_release=AFTER_RELEASE,
    before_reply=BEFORE_REPLY,
)
"""The protocol's points, by the names that this service gives them."""
NAMES: Final = POINTS.names()
"""In the order in which one request passes them."""
