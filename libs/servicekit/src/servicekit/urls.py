"""What the URLs in the settings must be; no message repeats a value, which may hold a password."""

import re
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

import psycopg
from psycopg.conninfo import make_conninfo
from pydantic import AfterValidator, SecretStr
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

_POSTGRES: Final = {"postgresql", "postgres"}
# A Redis with one host; other modes of the lock have schemes of their own.
_REDIS: Final = {"redis", "rediss"}
_REDIS_MODES: Final = {
    f"{scheme}+{mode}" for scheme in ("redis", "rediss") for mode in ("sentinel", "cluster")
}
# Several URLs are a quorum.
_NEXT_URL: Final = re.compile(r",(?=[a-z+]+://)")
_LAST_PORT: Final = 65_535
_FILES: Final = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}
_ESCAPE: Final = "in a password, / ? # @ and % must be escaped: %2F %3F %23 %40 %25"


def postgres_url(url: str) -> URL:
    """Return ``postgresql://...`` as a SQLAlchemy URL for psycopg 3.

    Raises:
        ValueError: it is none, or libpq would not take it; the message does not show it.
    """
    _not_empty(url)
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (SQLAlchemyError, ValueError) as error:
        raise ValueError(
            f"cannot be read as postgresql://USER:PASSWORD@HOST:PORT/DATABASE; {_ESCAPE}"
        ) from error
    if backend not in _POSTGRES:
        raise ValueError("must start with postgresql://")
    if parsed.host and "," in parsed.host:
        raise ValueError("several hosts are given as ?host=A:5432&host=B:5432")
    _port(parsed.port)
    parsed = parsed.set(drivername="postgresql+psycopg")
    try:
        _, parameters = parsed.get_dialect()().create_connect_args(parsed)
        make_conninfo(**{name: value for name, value in parameters.items() if name not in _OURS})
    except (SQLAlchemyError, psycopg.Error, ValueError) as error:
        raise ValueError("has a parameter after the ? that libpq does not know") from error
    return parsed


# Parameters of psycopg itself, which libpq does not see.
_OURS: Final = {"prepare_threshold", "context", "row_factory", "cursor_factory", "autocommit"}


def redis_url(url: str) -> str:
    """Return the URL if it can be one of a Redis server, or of several that keep the locks.

    Raises:
        ValueError: it cannot; the message does not show it.
    """
    _not_empty(url)
    for each in _NEXT_URL.split(url):
        _one_redis(each)
    return url


def _one_redis(url: str) -> None:
    parts = _split_hosts(url)
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError("unix:// needs the path of a socket")
        return
    if parts.scheme not in _REDIS | _REDIS_MODES:
        raise ValueError(
            "must start with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"
        )
    if parts.scheme in _REDIS:
        _one_server(parts)
    for name, value in parse_qsl(parts.query):
        if name in _FILES and not Path(value).is_file():
            raise ValueError(f"the file that {name} names is not there")


def _one_server(parts: SplitResult) -> None:
    if "," in parts.netloc.rpartition("@")[2]:
        raise ValueError("names several hosts, which redis:// cannot")
    if not parts.hostname:
        raise ValueError("has no host")
    database = parts.path.strip("/")
    if database and not database.isdigit():
        raise ValueError("the database after the host must be a number")


def http_url(url: str) -> str:
    """Return the base URL of an HTTP service, without a slash at its end.

    Raises:
        ValueError: it is none.
    """
    _not_empty(url)
    parts = _split(url)
    if parts.scheme not in {"http", "https"} or "://" not in url:
        raise ValueError("must start with http:// or https://")
    if not parts.hostname or "," in parts.netloc:
        raise ValueError("must name one host")
    if parts.query:
        raise ValueError("must have nothing after a ?")
    return url.rstrip("/")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _port(parts.port)
    except ValueError as error:
        raise ValueError(
            f"cannot be read, or its port is not from 1 to 65535; {_ESCAPE}"
        ) from error
    if "#" in url:
        raise ValueError(f"has a #; {_ESCAPE}")
    return parts


def _split_hosts(url: str) -> SplitResult:
    """Split a URL that may name several hosts, each with a port of its own."""
    if url.partition("://")[0] not in _REDIS_MODES:
        return _split(url)
    if "#" in url:
        raise ValueError(f"has a #; {_ESCAPE}")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ValueError(f"cannot be read; {_ESCAPE}") from error
    for host in parts.netloc.rpartition("@")[2].split(","):
        _split(f"redis://{host}")
    return parts


def _port(port: int | None) -> None:
    if port is not None and not 1 <= port <= _LAST_PORT:
        raise ValueError("the port must be from 1 to 65535")


def _not_empty(url: str) -> None:
    if not url.strip():
        raise ValueError("is empty")
    if url != url.strip() or any(character.isspace() for character in url):
        raise ValueError("has a space or a line break in it")


def _check_postgres(secret: SecretStr) -> SecretStr:
    postgres_url(secret.get_secret_value())
    return secret


def _check_redis(secret: SecretStr) -> SecretStr:
    redis_url(secret.get_secret_value())
    return secret


DatabaseUrl = Annotated[SecretStr, AfterValidator(_check_postgres)]
RedisUrl = Annotated[SecretStr, AfterValidator(_check_redis)]
HttpUrl = Annotated[str, AfterValidator(http_url)]
