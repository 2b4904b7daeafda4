"""The deadlines of requests, as the protocol asks for them."""

from collections.abc import Callable

from servicekit import deadlines
from servicekit.idempotency import StoredResponse
from tandem.operation import Answer


class RequestDeadlines:
    """The deadline that a client has sent; see ``tandem.initiator.ports.Deadlines``."""

    def remaining_seconds(self, *, at_most_seconds: float) -> float:
        """Return the time left for the request that is being served, at least 0."""
        return deadlines.remaining_seconds(at_most_seconds=at_most_seconds)

    def commit_to(self, last_word: Callable[[], Answer], /, *, within_seconds: float) -> None:
        """Have the request cut off only after ``within_seconds``, and answered ``last_word`` then.

        Raises:
            DeadlineExceeded: the time has run out already; nothing must be begun any more.
        """
        deadlines.commit_to(
            lambda: StoredResponse(*last_word()).to_response(), within_seconds=within_seconds
        )
