"""Every failpoint of the invoice service; see ``servicekit.failpoints`` for how to arm them."""

from typing import Final

BEFORE_LOCK_CHECK: Final = "invoice.before_lock_check"
AFTER_LOCK_CHECK: Final = "invoice.after_lock_check"
BEFORE_T2: Final = "invoice.before_t2"
AFTER_T2: Final = "invoice.after_t2"
BEFORE_REPLY: Final = "invoice.before_reply"
BEFORE_ABORT: Final = "invoice.before_abort"
AFTER_ABORT: Final = "invoice.after_abort"

NAMES: Final = (
    BEFORE_LOCK_CHECK,
    AFTER_LOCK_CHECK,
    BEFORE_T2,
    AFTER_T2,
    BEFORE_REPLY,
    BEFORE_ABORT,
    AFTER_ABORT,
)
