"""The Lua scripts: read once from the package, each with the digest EVALSHA wants."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """One server-side script."""

    text: str
    digest: str

    @classmethod
    def of(cls, text: str) -> "Script":
        """Make a script of its source text."""
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Scripts:
    """Every script a client runs. Tests pass variants with one promise broken."""

    acquire: Script
    release: Script
    renew: Script
    verify: Script

    def __iter__(self) -> Iterator[Script]:
        return iter((self.acquire, self.release, self.renew, self.verify))


def source(name: str) -> str:
    """The text of one Lua file of the package."""
    return (files("fencelock") / "lua" / f"{name}.lua").read_text(encoding="utf-8")


@cache
def packaged() -> Scripts:
    """The scripts that ship with the library."""
    queue = source("queue")
    return Scripts(
        acquire=Script.of(queue + source("acquire")),
        release=Script.of(queue + source("release")),
        renew=Script.of(source("renew")),
        verify=Script.of(source("verify")),
    )
