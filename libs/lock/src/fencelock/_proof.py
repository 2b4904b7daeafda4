"""The proof of a lease: a short printable string for an HTTP header.

It carries a secret of the lease, so whoever has it can pass for the holder until the lease ends:
send it over trusted connections only and keep it out of logs. The server keeps a fingerprint of the
secret, the owner token: whoever reads the server's data, or its SLOWLOG, cannot make a proof of it.
"""

import base64
import binascii
import hashlib
import os
import re
from typing import NamedTuple

from fencelock import _forks
from fencelock._errors import NotOwner

SECRET_BYTES = 12
# Secrets are made so many at once: most of what one costs is asking the system for it.
_SECRETS_AT_ONCE = 256
_URLSAFE = bytes.maketrans(b"+/", b"-_")
_FORMAT = re.compile(
    r"f1\.(?P<client>[\w-]{11})\.(?P<secret>[\w-]{16})\.(?P<fence>[0-9]{1,16})", re.ASCII
)


class Claim(NamedTuple):
    """What a proof says: who owns the lease and which fence it was granted with."""

    owner: str
    fence: int


_secrets: list[str] = []
_made_in = -1


def new_secret() -> str:
    """A secret that nobody guesses: 96 random bits. No two processes share one."""
    global _made_in  # noqa: PLW0603 (a child of fork must not give away what its parent made)
    if _made_in != _forks.generation():
        _secrets.clear()
        _made_in = _forks.generation()
    try:
        return _secrets.pop()
    except IndexError:
        text = base64.urlsafe_b64encode(os.urandom(SECRET_BYTES * _SECRETS_AT_ONCE)).decode()
        size = len(text) // _SECRETS_AT_ONCE
        made = [text[at : at + size] for at in range(0, len(text), size)]
        # Threads may be here at once: each keeps one of those it made itself.
        _secrets.extend(made[1:])
        return made[0]


def fingerprint(secret: str) -> str:
    """What the server is told of a secret."""
    digest = hashlib.blake2b(secret.encode(), digest_size=SECRET_BYTES).digest()
    return binascii.b2a_base64(digest, newline=False).translate(_URLSAFE).decode()


def encode(owner: str, secret: str, fence: int) -> str:
    """Write the proof of the lease that ``owner`` was granted with ``fence``."""
    client = owner.partition(".")[0]
    return f"f1.{client}.{secret}.{fence}"


def decode(proof: str) -> Claim:
    """Read a proof.

    Raises:
        NotOwner: it is malformed. The message does not repeat it, since it may hold a secret.
    """
    given: object = proof
    match = _FORMAT.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        raise NotOwner("malformed proof of lock")
    return Claim(f"{match['client']}.{fingerprint(match['secret'])}", int(match["fence"]))
