"""The public keys that tokens are signed with (JWKS, RFC 7517), as a host or a file gives them.

Keys are had once and used for some minutes; then they are asked for again beside the requests, none
of which waits, unless nobody has asked for long: a key that was withdrawn in a quiet hour is not
good for one request more. While the host is down, slow or answers nonsense, the keys that are known
go on being used, for a day by default. A token that names a key nobody knows makes us look once,
however many there are, and not again for some seconds. Every wait has the limit of one fetch.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from typing import Any, Final

import jwt
import structlog

from servicekit.auth.algorithms import KINDS
from servicekit.auth.errors import KeysUnavailable

_MAXIMUM_KEYS: Final = 100
_LOOK_AGAIN_SECONDS: Final = 10.0
"""How long after a fetch an unknown key makes us fetch again."""
_PAUSE: Final = 2.0
"""After so many times of being fresh without a fetch, the next one is waited for."""
_log = structlog.stdlib.get_logger(__name__)

Table = Mapping[str, Mapping[str | None, jwt.PyJWK]]
"""The keys by algorithm and key id."""
Fetch = Callable[[], Awaitable[bytes]]


class UnknownKey(Exception):
    """There is no key with this id for this algorithm."""


def parse(raw: bytes, *, algorithms: Collection[str]) -> Table:
    """Return the keys of a JWKS document that are good for an algorithm of ``algorithms``.

    Keys that are good for nothing here are left out, as RFC 7517, 5, demands.

    Raises:
        ValueError: it is no such document, or has no such key.
    """
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError("is not JSON") from error
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list) or len(listed) > _MAXIMUM_KEYS:
        raise ValueError(f"has no list `keys` of at most {_MAXIMUM_KEYS} keys")
    table: dict[str, dict[str | None, jwt.PyJWK]] = {name: {} for name in algorithms}
    for data in listed:
        for algorithm, key in _uses(data, algorithms):
            table[algorithm].setdefault(data.get("kid"), key)
    if not any(table.values()):
        raise ValueError(f"has no public key for any of {', '.join(sorted(algorithms))}")
    return table


def _uses(data: Any, algorithms: Collection[str]) -> Iterator[tuple[str, jwt.PyJWK]]:  # noqa: ANN401
    """Yield the algorithms that a key is good for, each with the key made for it alone."""
    if not isinstance(data, dict) or not isinstance(data.get("kid"), str | None):
        return
    operations = data.get("key_ops", ["verify"])
    if data.get("use", "sig") != "sig" or not isinstance(operations, list):
        return
    if "verify" not in operations:
        return
    for algorithm in algorithms:
        kind, curve = KINDS[algorithm]
        if data.get("alg", algorithm) != algorithm or data.get("kty") != kind:
            continue
        if curve is not None and data.get("crv") != curve:
            continue
        # Without what only its owner should have published by mistake.
        public = {name: value for name, value in data.items() if name not in _PRIVATE}
        try:
            yield algorithm, jwt.PyJWK(public, algorithm=algorithm)
        except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError):
            _log.warning("auth_key_not_taken", kid=data.get("kid"), algorithm=algorithm)


_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class Keys:
    """The keys of one issuer; for one event loop.

    Args:
        fetch: gets the document anew; any exception of it means that it cannot be had.
        algorithms: what tokens may be signed with, of ``KINDS``.
        timeout_seconds: limit for one fetch, from its begin.
        fresh_seconds: how long after a fetch the keys are not asked for again.
        stale_seconds: how long after the last good fetch they are used.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        fetch: Fetch,
        *,
        algorithms: Collection[str],
        timeout_seconds: float,
        fresh_seconds: float,
        stale_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._algorithms = frozenset(algorithms)
        self._timeout_seconds = timeout_seconds
        self._fresh_seconds = fresh_seconds
        self._stale_seconds = stale_seconds
        self._clock = clock
        self._table: Table | None = None
        self._had_at = self._tried_at = float("-inf")
        self._round: asyncio.Task[None] | None = None
        self._after_pause = False

    async def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK:
        """Return the key that a token's header names.

        Args:
            kid: its id; without one, there must be one key only.
            algorithm: what it is to verify.

        Raises:
            UnknownKey: the issuer has no such key.
            KeysUnavailable: the issuer's keys cannot be had, so whether it has is not known.
        """
        if not self._usable():
            await self._look()
        elif self._clock() - self._had_at > self._fresh_seconds and self._rested():
            self._begin()
        if self._after_pause and self._round is not None:
            await asyncio.shield(self._round)
        key = self._known(kid, algorithm)
        if key is None:
            await self._look()
            key = self._known(kid, algorithm)
        if key is not None:
            return key
        if not self._usable() or self._had_at < self._tried_at:
            raise KeysUnavailable("Access tokens cannot be checked now. Nothing was done.")
        raise UnknownKey

    async def aclose(self) -> None:
        """Give up a fetch that is going on."""
        if self._round is not None:
            self._round.cancel()
            await asyncio.wait({self._round})

    def _known(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        if self._table is None or not self._usable():
            return None
        keys = self._table[algorithm]
        if kid is not None:
            return keys.get(kid)
        return next(iter(keys.values())) if len(keys) == 1 else None

    def _usable(self) -> bool:
        return self._clock() - self._had_at <= self._stale_seconds

    def _rested(self) -> bool:
        return self._clock() - self._tried_at >= _LOOK_AGAIN_SECONDS

    async def _look(self) -> None:
        """Wait for a fetch: the one that is going on, or a new one unless the last was just now."""
        if self._round is None and self._rested():
            self._begin()
        if self._round is not None:
            # Whoever goes away does not end it for the others.
            await asyncio.shield(self._round)

    def _begin(self) -> None:
        if self._round is None:
            pause = self._clock() - self._tried_at
            self._after_pause = pause > _PAUSE * self._fresh_seconds
            self._round = asyncio.get_running_loop().create_task(self._get(), name="auth keys")
            self._round.add_done_callback(self._ended)

    def _ended(self, _task: "asyncio.Task[None]") -> None:
        self._round = None

    async def _get(self) -> None:
        self._tried_at = began = self._clock()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                raw = await self._fetch()
            self._table = parse(raw, algorithms=self._algorithms)
        except Exception as error:  # noqa: BLE001 - whatever it is, the keys that we have stay
            said = str(error) or f"no answer within {self._timeout_seconds:g} s"
            _log.warning(
                "auth_keys_not_had",
                error=f"{type(error).__name__}: {said}",
                known=self._table is not None,
            )
            return
        finally:
            # The pause counts from the end: a host that is slow is not asked without a break.
            self._tried_at = max(began, self._clock())
        self._had_at = self._tried_at
