"""The proof of a lease: a short printable string for an HTTP header.

It carries the owner token, so whoever has it can pass for the holder until the lease ends. Treat it
as a secret: send it over trusted connections only and keep it out of logs.
"""

import re
from typing import NamedTuple

from fencelock._errors import NotOwner

_FORMAT = re.compile(r"f1\.(?P<owner>[\w-]{11}\.[\w-]{16})\.(?P<fence>[0-9]{1,16})", re.ASCII)


class Claim(NamedTuple):
    """What a proof says: who owns the lease and which fence it was granted with."""

    owner: str
    fence: int


def encode(owner: str, fence: int) -> str:
    """Write the proof of the lease that ``owner`` was granted with ``fence``."""
    return f"f1.{owner}.{fence}"


def decode(proof: str) -> Claim:
    """Read a proof.

    Raises:
        NotOwner: it is malformed. The message does not repeat it, since it may hold a secret.
    """
    match = _FORMAT.fullmatch(proof)
    if match is None:
        raise NotOwner("malformed proof of lock")
    return Claim(match["owner"], int(match["fence"]))
