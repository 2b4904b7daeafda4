"""Every place where a test can make this service fail: the boundaries of the protocol's steps."""

from typing import Final

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

NAMES: Final = (
    BEFORE_LOCK,
    AFTER_LOCK,
    BEFORE_T1,
    IN_T1,
    AFTER_T1,
    BEFORE_SEND,
    AFTER_SEND,
    BEFORE_T3,
    IN_T3,
    AFTER_T3,
    BEFORE_RELEASE,
    AFTER_RELEASE,
    BEFORE_REPLY,
)
"""In the order in which one request passes them."""
