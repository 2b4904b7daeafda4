"""``doctor``: is this server fit for locks, and what should be changed if not?"""

import asyncio
import ipaddress
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from statistics import median
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, urlsplit

from redis import Redis
from redis.exceptions import RedisError

from fencelock._cli import page, view
from fencelock._cli.exits import Exit
from fencelock._cli.servers import Server, Servers
from fencelock._client import AsyncLockClient
from fencelock._errors import FencelockError
from fencelock._tls import FALSE

PINGS: Final = 50
# A reply that takes longer than that is in the order of the default reply timeout (2 s).
SLOW_SECONDS: Final = 0.25
FULL: Final = 0.8
CLOCK_SECONDS: Final = 60.0
KEYS_LOOKED_AT: Final = 10_000
SHOWN: Final = 5

Level = Literal["ok", "note", "warning", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    level: Level
    found: str
    advice: str = ""
    server: str = ""
    """Which one was looked at, where there are several."""


Info = dict[str, Any]


def doctor(servers: Servers, *, strict: bool, as_json: bool) -> Exit:
    """Check servers; nothing is changed, save for one lock of our own that comes and goes."""
    findings = list(examine(servers))
    worst = {each.level for each in findings}
    if as_json:
        page.say_json({"fit": "bad" not in worst, "checks": [asdict(each) for each in findings]})
    else:
        width = 4 if any(each.server for each in findings) else 3
        rows = [(each.level, each.check, each.found, each.server)[:width] for each in findings]
        page.table(("", "CHECK", "FOUND", "SERVER")[:width], rows)
        for each in findings:
            if each.advice:
                whose = f"{each.server}, " if each.server else ""
                page.say(f"\n{page.printable(f'{whose}{each.check}: {each.advice}')}")
    failed = "bad" in worst or (strict and "warning" in worst)
    return Exit.NOT_FOUND if failed else Exit.OK


def examine(servers: Servers) -> Iterator[Finding]:
    """Every check of every server, the ones that explain others first; and a lock on all."""
    several = len(servers.each()) > 1
    for server in servers.each():
        if several:
            yield from _of_several(server)
        else:
            yield from _examine(server)
    yield _library(servers.url)


def _of_several(server: Server) -> Iterator[Finding]:
    """The others are looked at also if one of them cannot be."""
    try:
        for finding in _examine(server):
            yield replace(finding, server=str(server))
    except RedisError as error:
        try:
            server.explain(error)
            what = f"{type(error).__name__}: {error}"
        except FencelockError as said:
            what = str(said)
        yield Finding("a connection", "bad", what, "it cannot be looked into.", str(server))


def _examine(server: Server) -> Iterator[Finding]:
    yield _transport(server.url)
    info: Info = server.redis.info()
    for check in _OF_INFO:
        yield check(info)
    yield _clock(server.redis)
    yield _latency(server.redis)
    yield _expiry(server.redis)


def _transport(url: str) -> Finding:
    parts = urlsplit(url)
    local = parts.scheme == "unix" or _is_loopback(parts.hostname or "localhost")
    if parts.scheme == "rediss":
        return _tls(dict(parse_qsl(parts.query)))
    if local:
        return Finding("transport", "ok", "this machine")
    return Finding(
        "transport",
        "warning",
        "in the clear over a network",
        "proofs and passwords are secrets: use rediss://, or a network that nobody else can read.",
    )


def _tls(options: dict[str, str]) -> Finding:
    if options.get("ssl_cert_reqs") == "none":
        return Finding(
            "transport",
            "warning",
            "TLS to whoever answers",
            "anybody in between can pass for the server: name its authority with ssl_ca_certs=.",
        )
    if options.get("ssl_check_hostname", "").lower() in FALSE:
        return Finding(
            "transport",
            "note",
            "TLS, whatever name the certificate is for",
            "anybody with a certificate of the same authority can pass for the server.",
        )
    return Finding("transport", "ok", "TLS")


def _version(info: Info) -> Finding:
    name = str(info.get("server_name", "redis"))
    version = str(info.get(f"{name}_version", info.get("redis_version", "0")))
    found = f"{name} {version}"
    spoken = tuple(int(part) for part in str(info.get("redis_version", "0")).split(".")[:2])
    if spoken < (6, 2):
        return Finding("version", "bad", found, "use Redis 6.2 or newer, or Valkey.")
    return Finding("version", "ok", found)


def _mode(info: Info) -> Finding:
    mode = str(info.get("redis_mode", info.get("server_mode", "standalone")))
    # That it is what the URL says is tried by the lock.
    if mode not in ("standalone", "cluster"):
        return Finding("mode", "bad", mode, "locks need a server of its own, not this one.")
    return Finding("mode", "ok", mode)


def _role(info: Info) -> Finding:
    if info.get("role") != "master":
        return Finding("role", "bad", "a replica", "point the URL to the primary.")
    replicas = int(info.get("connected_slaves", 0))
    if replicas:
        return Finding(
            "role",
            "note",
            f"primary of {replicas}",
            "after a failover to a replica that had not seen a lock, it can be granted twice: let "
            "storage compare fences, which are in order all the same.",
        )
    return Finding("role", "ok", "primary without replicas")


def _eviction(info: Info) -> Finding:
    limit, policy = int(info.get("maxmemory", 0)), str(info.get("maxmemory_policy", "noeviction"))
    evicted = int(info.get("evicted_keys", 0))
    if limit and policy != "noeviction":
        return Finding(
            "eviction",
            "bad",
            f"maxmemory-policy {policy}, {evicted} keys evicted so far",
            "the server may throw away locks that are held: set maxmemory-policy noeviction, or "
            "keep locks on a server of their own.",
        )
    used = int(info.get("used_memory", 0))
    if limit and used > FULL * limit:
        return Finding(
            "eviction",
            "warning",
            f"{used / limit:.0%} of maxmemory used",
            "when it is full no lock can be taken: raise maxmemory.",
        )
    return Finding("eviction", "ok", "never evicts")


def _persistence(info: Info) -> Finding:
    if info.get("aof_enabled"):
        return Finding("persistence", "ok", "append-only file")
    return Finding(
        "persistence",
        "note",
        "no append-only file",
        "a restart forgets who holds what; holders find out when they renew, and fences go on from "
        "the clock. With appendonly yes most restarts go unnoticed.",
    )


def _connections(info: Info) -> Finding:
    used, limit = int(info.get("connected_clients", 0)), int(info.get("maxclients", 0))
    found = f"{used} of {limit or '?'}"
    if limit and used > FULL * limit:
        return Finding(
            "connections", "warning", found, "raise maxclients: a client needs one each."
        )
    return Finding("connections", "ok", found)


_OF_INFO: tuple[Callable[[Info], Finding], ...] = (
    *(_version, _mode, _role, _eviction, _persistence, _connections),
)


def _library(url: str) -> Finding:
    """Take a lock with the library itself: rights, RESP3, scripts, and what it checks by itself."""

    async def take() -> None:
        client = AsyncLockClient.from_url(url)
        async with client, client.lock("fencelock-doctor", wait=0) as lease:
            await client.verify(lease.proof(), lease.names)

    try:
        asyncio.run(take())
    except FencelockError as error:
        return Finding("a lock", "bad", type(error).__name__, str(error))
    return Finding("a lock", "ok", "taken, verified and released")


def _clock(redis: Redis) -> Finding:
    before = time.time()
    seconds, microseconds = redis.time()
    ahead = seconds + microseconds / 1e6 - (before + time.time()) / 2
    found = f"{abs(ahead):.2f} s {'ahead of' if ahead > 0 else 'behind'} ours"
    if abs(ahead) > CLOCK_SECONDS:
        return Finding(
            "clock",
            "warning",
            found,
            "locks do not compare the two, but fences are the server's time: a clock that will be "
            "set back by more than a data loss lasts could make them fall. Run NTP on both.",
        )
    return Finding("clock", "ok", found)


def _latency(redis: Redis) -> Finding:
    took = []
    for _ in range(PINGS):
        began = time.perf_counter()
        redis.ping()
        took.append(time.perf_counter() - began)
    found = f"median {median(took) * 1000:.2f} ms, worst {max(took) * 1000:.2f} ms of {PINGS}"
    if max(took) > SLOW_SECONDS:
        return Finding(
            "latency",
            "warning",
            found,
            "look for slow commands (SLOWLOG GET), saving (latest_fork_usec) or the network; or "
            "use a longer ttl and reply_timeout.",
        )
    return Finding("latency", "ok", found)


def _expiry(redis: Redis) -> Finding:
    held = list(islice(view.held_names(redis), KEYS_LOOKED_AT))
    endless = [each.name for each in held if each.remaining is None]
    if not endless:
        return Finding("expiry", "ok", f"{len(held)} names held, all of them expire")
    some = ", ".join(endless[:SHOWN]) + (" ..." if len(endless) > SHOWN else "")
    return Finding(
        "expiry",
        "bad",
        f"{len(endless)} of {len(held)} names never expire: {some}",
        "somebody else wrote them or took away their expiry; nobody can have them. Find out who, "
        "then use `fencelock break`.",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
