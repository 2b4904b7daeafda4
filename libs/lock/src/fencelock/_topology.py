"""Where the locks are kept: one server, one that Sentinels know, a Cluster, or a quorum."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from fencelock._errors import ConfigurationError
from fencelock._target import ESCAPE, SCHEMES, Target, is_host, unreadable

SENTINEL_PORT = 26379
PORT_MAX = 65535
REPLICAS_MAX = 100
_LIST = re.compile(r"[,\s]+(?=[a-z+]+://)")
_SENTINEL = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
_CLUSTER = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
# Options of the URL that are for the Sentinels and not for the server.
_SENTINEL_USER, _SENTINEL_PASSWORD = "sentinel_username", "sentinel_password"
_HOST = re.compile(r"(?P<host>\[[^\[\]]+\]|[^:\[\]]+)(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Single:
    """One server, whose address does not change."""

    server: Target
    replicas: int = 0
    """How many replicas must have a grant before it counts."""

    def __str__(self) -> str:
        return str(self.server)


@dataclass(frozen=True, slots=True)
class Sentinels:
    """A server that Sentinels watch, and replace by one of its replicas when it is gone."""

    addresses: tuple[Target, ...]
    name: str
    """What the Sentinels call it."""
    server: Target
    """How to introduce oneself there; the host is the name."""
    replicas: int = 0

    def __str__(self) -> str:
        return f"{self.name} (Sentinels {', '.join(map(str, self.addresses))})"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Redis Cluster, of which some nodes are known."""

    seeds: tuple[Target, ...]

    def __str__(self) -> str:
        return f"the Cluster of {', '.join(map(str, self.seeds))}"


@dataclass(frozen=True, slots=True)
class Quorum:
    """Servers that know nothing of each other; what a majority of them says is true."""

    servers: tuple[Target, ...]

    def __str__(self) -> str:
        return f"the quorum of {', '.join(map(str, self.servers))}"

    @property
    def majority(self) -> int:
        """How many are more than half."""
        return len(self.servers) // 2 + 1


Topology = Single | Sentinels | Cluster | Quorum


def read(url: str | Sequence[str]) -> Topology:
    """Read a URL, or several, which make a quorum.

    One text may hold several URLs too, with a comma or white space between them, as a variable of
    the environment does.

    Raises:
        ConfigurationError: one cannot be read. The text never has a part of the URL in it that may
            be one of a password.
    """
    urls = _urls(url)
    if not urls:
        raise unreadable("the list is empty")
    if len(urls) > 1:
        return _quorum(urls)
    scheme = urls[0].partition("://")[0]
    if scheme in _SENTINEL:
        return _sentinels(urls[0])
    if scheme in _CLUSTER:
        return _cluster(urls[0])
    if "+" in scheme:
        known = ", ".join(f"{each}://" for each in (*SCHEMES, *_SENTINEL, *_CLUSTER))
        raise unreadable(f"it begins with one of {known}")
    return _single(urls[0])


def urls_of(url: str) -> list[str]:
    """The URLs of servers, each of one, that a text of :func:`read` is made of."""
    return [_take(each, "replicas")[0] for each in _urls(url)]


def url_of_one(url: str, address: tuple[str, int]) -> str:
    """The URL of one of the servers that Sentinels or a Cluster name."""
    rest, _ = _take(url, "replicas", _SENTINEL_USER, _SENTINEL_PASSWORD)
    parts = urlsplit(rest)
    if parts.scheme in _CLUSTER:
        return _with_host(_CLUSTER[parts.scheme], parts, address, "")
    return _with_host(_SENTINEL[parts.scheme], parts, address, _after_name(parts))


def _urls(given: object) -> list[str]:
    if isinstance(given, str):
        return _LIST.split(given.strip())
    urls: list[str] = []
    for each in given if isinstance(given, Sequence) else [given]:
        if not isinstance(each, str):
            raise unreadable("it is neither a str nor a sequence of them")
        urls.append(each.strip())
    return urls


def _single(url: str) -> Single:
    rest, options = _take(url, "replicas") if "://" in url else (url, {})
    return Single(Target.from_url(rest), _replicas(options))


def _quorum(urls: list[str]) -> Quorum:
    for each in urls:
        if each.partition("://")[0] not in SCHEMES:
            raise unreadable("each of a list begins with redis://, rediss:// or unix://")
    servers = tuple([Target.from_url(each) for each in urls])
    if len({(each.host, each.port, each.path, each.db) for each in servers}) < len(servers):
        raise ConfigurationError("a quorum needs different servers: one is in the list twice")
    return Quorum(servers)


def _sentinels(url: str) -> Sentinels:
    rest, options = _take(url, "replicas", _SENTINEL_USER, _SENTINEL_PASSWORD)
    parts, hosts = _hosts(rest, SENTINEL_PORT)
    name = unquote(parts.path.strip("/")).partition("/")[0]
    if not name or not re.fullmatch(r"[\w.-]+", name):
        raise unreadable(
            "after the Sentinels comes what they call the server: "
            "redis+sentinel://HOST:26379,HOST:26379/NAME"
        )
    server = _target(_SENTINEL[parts.scheme], parts, ("sentinel", 6379), _after_name(parts))
    addresses = tuple([_sentinel(server, host, options) for host in hosts])
    return Sentinels(addresses, name, server, _replicas(options))


def _after_name(parts: SplitResult) -> str:
    """The path of the server's own URL: the database."""
    return "/" + unquote(parts.path.strip("/")).partition("/")[2]


def _sentinel(server: Target, address: tuple[str, int], options: dict[str, str]) -> Target:
    return Target(
        host=address[0],
        port=address[1],
        path=None,
        db=0,
        username=options.get(_SENTINEL_USER),
        password=options.get(_SENTINEL_PASSWORD),
        tls=server.tls,
    )


def _cluster(url: str) -> Cluster:
    parts, hosts = _hosts(url, 6379)
    seeds = tuple([_target(_CLUSTER[parts.scheme], parts, host, parts.path) for host in hosts])
    if any(seed.db for seed in seeds):
        raise unreadable("a Cluster has no other database than 0")
    return Cluster(seeds)


def _hosts(url: str, default_port: int) -> tuple[SplitResult, list[tuple[str, int]]]:
    """Take a URL with several hosts apart."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise unreadable("its host or port is not what it must be") from None
    if parts.fragment or "@" in parts.path or "@" in parts.query or "?" in parts.query:
        raise unreadable(ESCAPE)
    found = []
    for each in parts.netloc.rpartition("@")[2].split(","):
        match = _HOST.fullmatch(each.strip())
        port = int((match and match["port"]) or default_port)
        if match is None or not is_host(match["host"].strip("[]")) or not 1 <= port <= PORT_MAX:
            raise unreadable(
                f"the hosts are HOST:PORT,HOST:PORT, an IPv6 address in brackets; {ESCAPE}"
            )
        found.append((match["host"].strip("[]"), port))
    if len(set(found)) < len(found):
        raise unreadable("it names a host twice")
    return parts, found


def _target(scheme: str, parts: SplitResult, address: tuple[str, int], path: str) -> Target:
    return Target.from_url(_with_host(scheme, parts, address, path))


def _with_host(scheme: str, parts: SplitResult, address: tuple[str, int], path: str) -> str:
    """The same URL with one host in it."""
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    user, at, _ = parts.netloc.rpartition("@")
    netloc = f"{user}{at}{host}:{address[1]}"
    return urlunsplit((scheme, netloc, path, parts.query, parts.fragment))


def _take(url: str, *names: str) -> tuple[str, dict[str, str]]:
    """Take options of our own out of a URL."""
    head, mark, query = url.partition("?")
    if not mark:
        return url, {}
    if "@" in query or "#" in query:
        raise unreadable(ESCAPE)
    options = parse_qsl(query, keep_blank_values=True)
    taken = {name: value for name, value in options if name in names}
    if not taken:
        return url, {}
    if sum(name in names for name, _ in options) > len(taken):
        raise unreadable("an option is in it twice")
    left = [(name, value) for name, value in options if name not in names]
    return head + (f"?{urlencode(left)}" if left else ""), taken


def _replicas(options: dict[str, str]) -> int:
    text = options.get("replicas", "0")
    if not (text.isascii() and text.isdigit() and int(text) <= REPLICAS_MAX):
        raise unreadable(f"replicas is a number up to {REPLICAS_MAX}")
    return int(text)
