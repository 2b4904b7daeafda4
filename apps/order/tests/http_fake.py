"""The HTTP client over a handler of httpx requests, for tests of what answers mean."""

from collections.abc import Callable, Mapping

import httpx

from servicekit.http_client import Answer, HttpError, NoAnswerInTime

Handler = Callable[[httpx.Request], httpx.Response]


class HandledHttp:
    """Answers each request by a handler, without a connection."""

    def __init__(self, handler: Handler) -> None:
        self._http = httpx.AsyncClient(
            transport=httpx.MockTransport(handler), base_url="http://invoice"
        )

    async def request(
        self,
        method: str,
        path: str,
        *,
        timeout_seconds: float,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        repeatable: bool = False,
    ) -> Answer:
        try:
            answer = await self._http.request(
                method, path, params=query, content=body, headers=headers, timeout=timeout_seconds
            )
        except httpx.TimeoutException as error:
            raise NoAnswerInTime(str(error)) from error
        except httpx.HTTPError as error:
            raise HttpError(str(error)) from error
        return Answer(answer.status_code, answer.reason_phrase, answer.headers, answer.content)

    async def aclose(self) -> None:
        await self._http.aclose()
