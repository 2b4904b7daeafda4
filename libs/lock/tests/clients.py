"""Makes lock clients for a test and closes them after it."""

from contextlib import AsyncExitStack
from typing import Any, Self

from fencelock import AsyncLockClient
from fencelock._scripts import Scripts
from fencelock._target import Target


class Clients(AsyncExitStack):
    """A factory of clients of one server."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self._made: list[AsyncLockClient] = []

    def make(
        self, *, url: str | None = None, scripts: Scripts | None = None, **options: Any
    ) -> AsyncLockClient:
        """Make a client; it is closed at the end of the test.

        The limits are wide, since a busy machine must not decide a test.
        """
        options.setdefault("ttl", 30.0)
        options.setdefault("wait", 60.0)
        options.setdefault("reply_timeout", min(10.0, options["ttl"] / 4))
        options.setdefault("connect_timeout", 10.0)
        made = AsyncLockClient(Target.from_url(url or self.url), scripts=scripts, **options)
        self.push_async_callback(made.aclose)
        return made

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self
