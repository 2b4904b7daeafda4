"""The proof of a lease: a short printable string for an HTTP header.

It carries a secret of the lease, so whoever has it can pass for the holder until the lease ends:
send it over trusted connections only and keep it out of logs. The server keeps a fingerprint of the
secret, the owner token: whoever reads the server's data, or its SLOWLOG, cannot make a proof of it.
"""

import base64
import hashlib
import re
from typing import NamedTuple

from fencelock._errors import NotOwner

SECRET_BYTES = 12
_FORMAT = re.compile(
    r"f1\.(?P<client>[\w-]{11})\.(?P<secret>[\w-]{16})\.(?P<fence>[0-9]{1,16})", re.ASCII
)


class Claim(NamedTuple):
    """What a proof says: who owns the lease and which fence it was granted with."""

    owner: str
    fence: int


def fingerprint(secret: str) -> str:
    """What the server is told of a secret."""
    digest = hashlib.blake2b(secret.encode(), digest_size=SECRET_BYTES).digest()
    return base64.urlsafe_b64encode(digest).decode()


def encode(owner: str, secret: str, fence: int) -> str:
    """Write the proof of the lease that ``owner`` was granted with ``fence``."""
    client = owner.partition(".")[0]
    return f"f1.{client}.{secret}.{fence}"


def decode(proof: str) -> Claim:
    """Read a proof.

    Raises:
        NotOwner: it is malformed. The message does not repeat it, since it may hold a secret.
    """
    match = _FORMAT.fullmatch(proof)
    if match is None:
        raise NotOwner("malformed proof of lock")
    return Claim(f"{match['client']}.{fingerprint(match['secret'])}", int(match["fence"]))
