"""Static tokens: a file says by the SHA-256 of each token who shows it, and never the token.

A line is ``NAME SHA256 [SCOPE ...]``; empty lines and what follows a ``#`` mean nothing. A name may
have several lines, so that a token is replaced by adding the new one first.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from servicekit.auth.principal import SCOPES, Principal

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DIGEST: Final = re.compile(r"[0-9a-fA-F]{64}")
_LEAST_WORDS: Final = 2

Table = Mapping[bytes, Principal]
"""Whom each token stands for, by its SHA-256."""


def parse(raw: bytes) -> Table:
    """Return what a file of tokens says.

    Raises:
        ValueError: a line is wrong; the message has its number and not its text.
    """
    try:
        lines = raw.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8 text") from error
    table: dict[bytes, Principal] = {}
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        digest, principal = _entry(words, number)
        if digest in table:
            raise ValueError(f"line {number}: the same token stands in an earlier line")
        table[digest] = principal
    if not table:
        raise ValueError("names no token")
    return table


def _entry(words: list[str], number: int) -> tuple[bytes, Principal]:
    if len(words) < _LEAST_WORDS:
        raise ValueError(f"line {number}: must be NAME SHA256 [SCOPE ...]")
    name, digest, *scopes = words
    if not _NAME.fullmatch(name):
        raise ValueError(f"line {number}: a name has 1 to 64 letters, digits, '.', '_' and '-'")
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"line {number}: the second word must be a SHA-256 in 64 hex digits")
    if unknown := set(scopes) - SCOPES:
        raise ValueError(f"line {number}: {min(unknown)} is none of {', '.join(sorted(SCOPES))}")
    return bytes.fromhex(digest), Principal(f"token:{name}", frozenset(scopes))


class StaticTokens:
    """Knows whom static tokens stand for.

    Args:
        table: gives what the file says now.
    """

    def __init__(self, table: Callable[[], Awaitable[Table]]) -> None:
        self._table = table

    async def principal(self, token: str) -> Principal | None:
        """Return whom a token stands for; None if it is none of these.

        The time this takes says nothing of use: what is looked up is a digest that nobody who
        does not know the token can choose.
        """
        return (await self._table()).get(hashlib.sha256(token.encode("ascii")).digest())
