"""Where the server is and how to introduce oneself, read from a URL the way redis-py reads it."""

import os
import re
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from redis.asyncio.connection import SSLConnection, parse_url

from fencelock import _tls
from fencelock._errors import ConfigurationError

SCHEMES = ("redis", "rediss", "unix")
ESCAPE = "in a user or a password, write / ? # @ and % as %2F %3F %23 %40 %25"
# <sys/un.h>: 108 with the zero at its end, on Linux.
_PATH_BYTES = 107
_NOT_IN_HOST = re.compile(r"[\s\0-\x1f\x7f/?#@,\\]")
_PORTS = range(1, 65536)
_OPTIONS = ("db", "username", "password")
# Options that mean something elsewhere: what to say where they would mean nothing.
_ELSEWHERE = {
    "replicas": "replicas= is for one server and for Sentinels, neither for a Cluster nor a quorum",
    "sentinel_username": "sentinel_username= is for redis+sentinel://",
    "sentinel_password": "sentinel_password= is for redis+sentinel://",
}


@dataclass(frozen=True, slots=True)
class Target:
    """One server."""

    host: str
    port: int
    path: str | None
    db: int
    username: str | None
    password: str | None = field(repr=False)
    tls: _tls.Tls | None

    @classmethod
    def from_url(cls, url: str) -> "Target":
        """Read ``redis://``, ``rediss://`` or ``unix://``.

        Raises:
            ConfigurationError: the URL cannot be read. The text never has a part of the URL in it
                that may be one of a password.
        """
        _validate(url)
        try:
            parts: dict[str, Any] = dict(parse_url(url))
            db = int(parts.get("db", 0))
        except ValueError:
            # Not `from`: the cause may quote a part of the password.
            raise unreadable("its port, database or an option is not what it must be") from None
        if db < 0:
            raise unreadable("the database is a number of 0 or more")
        return cls(
            host=parts.get("host", "localhost"),
            port=parts.get("port", 6379),
            path=parts.get("path"),
            db=db,
            username=parts.get("username"),
            password=parts.get("password"),
            tls=_tls.Tls(_for_tls(parts)) if _secured(parts) else None,
        )

    def at(self, host: str, port: int) -> "Target":
        """Another server to which one introduces oneself in the same way."""
        return replace(self, host=host, port=port)

    @property
    def hello(self) -> tuple[str, ...]:
        """The words with which one introduces oneself there."""
        if self.password is None and self.username is None:
            return ("HELLO", "3")
        return ("HELLO", "3", "AUTH", self.username or "default", self.password or "")

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _validate(url: object) -> None:
    """Refuse what would be read as something else than was meant."""
    if not isinstance(url, str):
        raise unreadable("it is not a str")
    if "\0" in url or not _is_encodable(url):
        raise unreadable("it has characters that cannot be sent")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise unreadable("its host or port is not what it must be") from None
    if parts.scheme not in SCHEMES or "://" not in url:
        raise unreadable("that of one server begins with redis://, rediss:// or unix://")
    if parts.fragment or "@" in parts.path or "@" in parts.query or "?" in parts.query:
        raise unreadable(ESCAPE)
    _validate_options(parts)
    if parts.scheme == "unix":
        _validate_path(parts)
    else:
        _validate_address(parts, port)


def _is_encodable(text: str, encoding: str = "utf-8") -> bool:
    try:
        text.encode(encoding)
    except UnicodeError:
        return False
    return True


def _validate_options(parts: SplitResult) -> None:
    """Refuse what nobody would read: who wrote it relies on it."""
    options = parse_qsl(parts.query, keep_blank_values=True)
    names = [name for name, _ in options]
    if len(set(names)) < len(names):
        raise unreadable("an option is in it twice")
    for name, value in options:
        _validate_option(name, value, parts.scheme)
    wrong = _tls.why_not(dict(options))
    if wrong is not None:
        raise unreadable(wrong)
    if "db" in names and parts.scheme != "unix" and parts.path.strip("/"):
        raise unreadable("it says the database twice, after the host and as db=")
    login = parts.netloc.rpartition("@")[0]
    if login and ("username" in names or "password" in names):
        raise unreadable("it says the user or the password twice, before the host and as an option")


def _validate_option(name: str, value: str, scheme: str) -> None:
    if name in _ELSEWHERE:
        raise unreadable(_ELSEWHERE[name])
    if name.startswith(_tls.PREFIX) and scheme != "rediss":
        raise unreadable(_tls.ONLY)
    if not name.startswith(_tls.PREFIX) and name not in _OPTIONS:
        raise unreadable(
            "it has an option that means nothing here; limits are given to the client, and the "
            "options of a URL are in the documentation (topologies)"
        )
    if not value:
        raise unreadable(f"{name}= is empty")


def _validate_address(parts: SplitResult, port: int | None) -> None:
    if port is not None and port not in _PORTS:
        raise unreadable("a port is 1 to 65535")
    if "," in parts.netloc.rpartition("@")[2]:
        raise unreadable("it names one host")
    if not is_host(parts.hostname or ""):
        raise unreadable("its host is not a name that a host can have")
    db = parts.path.strip("/")
    if db and not (db.isascii() and db.isdigit()):
        raise unreadable("what follows the host is the number of a database")


def is_host(text: str) -> bool:
    """Whether a host, as it is written in a URL, can be one."""
    # A part of a password that was not escaped as it has to be is none, and is not to be shown.
    plain = unquote(text)
    # What name resolution refuses: parts that are empty, or longer than 63 characters.
    return _NOT_IN_HOST.search(plain) is None and _is_encodable(plain, "idna")


def _validate_path(parts: SplitResult) -> None:
    path = unquote(parts.path)
    if not path.strip("/") or "\0" in path:
        raise unreadable("after unix:// comes the path of a socket, as in unix:///run/redis.sock")
    if parts.netloc.rpartition("@")[2]:
        raise unreadable("the path of a socket begins with a third slash: unix:///run/redis.sock")
    if len(os.fsencode(path)) > _PATH_BYTES:
        raise unreadable(f"the path of a socket has {_PATH_BYTES} bytes at most")


def unreadable(why: str) -> ConfigurationError:
    """A URL that is not one, without a part of it in the text."""
    return ConfigurationError(f"not a Redis URL: {why}")


def _secured(parts: dict[str, Any]) -> bool:
    return parts.get("connection_class") is SSLConnection


def _for_tls(parts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parts.items() if name.startswith(_tls.PREFIX)}
