"""The HTTP client of a pair that has none of its own: ``wire`` over httpx."""

import asyncio
from collections.abc import Mapping

import httpx

from tandem.errors import OutcomeUnknown
from tandem.operation import Answer


class HttpxAsk:
    """Asks one service; see ``tandem.wire.Ask``.

    Args:
        client: httpx's client, with the service's address.
    """

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def __call__(
        self,
        method: str,
        path: str,
        /,
        *,
        headers: Mapping[str, str],
        content: bytes | None,
        timeout_seconds: float,
    ) -> Answer:
        """Make a request and return the answer.

        Raises:
            OutcomeUnknown: there is none.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                response = await self._client.request(
                    method, path, headers=headers, content=content, timeout=timeout_seconds
                )
        except (httpx.TransportError, TimeoutError) as error:
            raise OutcomeUnknown(repr(error), retryable=True) from error
        return Answer(response.status_code, tuple(response.headers.items()), response.content)
