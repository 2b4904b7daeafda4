"""The Lua scripts: read once from the package, each with the digest EVALSHA wants."""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_INCLUDE = re.compile(r"^--@include (?P<name>\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One server-side script."""

    text: str
    digest: str
    """Empty for a plain command, of which the text is the name."""

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
    confirm: Script
    probe: Script
    """Run once a connection, so it is not loaded."""

    def __iter__(self) -> Iterator[Script]:
        return iter((self.acquire, self.release, self.renew, self.verify, self.confirm))


def source(name: str) -> str:
    """The text of one Lua file of the package."""
    return (files("fencelock") / "lua" / f"{name}.lua").read_text(encoding="utf-8")


def assemble(read: Callable[[str], str]) -> Scripts:
    """Make the scripts of Lua files, each ``--@include`` line replaced by the file it names.

    What a script needs only when somebody waits is included below its fast path: Redis makes the
    functions of a script anew each time it runs.
    """
    names = ("acquire", "release", "renew", "verify", "confirm", "probe")
    return Scripts(*[whole(name, read) for name in names])


def whole(name: str, read: Callable[[str], str] = source) -> Script:
    """One script, with what it includes."""
    return Script.of(_INCLUDE.sub(lambda line: read(line["name"]), read(name)))


@cache
def packaged() -> Scripts:
    """The scripts that ship with the library."""
    return assemble(source)
