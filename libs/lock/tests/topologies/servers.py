"""Servers that belong together: a master with its replicas and Sentinels, a Cluster, a quorum."""

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from devkit.ports import HOST, free_port
from devkit.programs import redis_program
from devkit.servers import RedisServer
from devkit.servers.server import Server

PASSWORD: Final = "pw-of-the-servers"
DOWN_AFTER_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 60.0
NAME: Final = "locks"
SLOTS: Final = 16384


def server(folder: Path, **settings: str) -> RedisServer:
    """A server that shares its password with the others."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "password").write_text(PASSWORD)
    return RedisServer(folder, settings={"masterauth": PASSWORD, **settings})


class SentinelServer(Server):
    """A Sentinel that watches one master."""

    name = "Sentinel"
    stop_signal = signal.SIGTERM

    def __init__(self, folder: Path, master: RedisServer, down_after_seconds: float) -> None:
        super().__init__(folder, port=None)
        self._master = master
        self._down_after_seconds = down_after_seconds

    def _command(self) -> list[str]:
        path = self.folder / "sentinel.conf"
        lines = [
            f"port {self.port}",
            f"bind {HOST}",
            f"sentinel monitor {NAME} {HOST} {self._master.port} 2",
            f"sentinel auth-pass {NAME} {PASSWORD}",
            f"sentinel down-after-milliseconds {NAME} {self._down_after_seconds * 1000:.0f}",
            f"sentinel failover-timeout {NAME} 4000",
        ]
        # It keeps its state in the same file.
        if not path.exists():
            path.write_text("\n".join(lines) + "\n")
        return [str(redis_program()), str(path), "--sentinel"]

    def _answers(self) -> bool:
        try:
            return bool(ask(self.port, "PING", password=None))
        except redis.RedisError:
            return False


class Replicated:
    """A master, a replica and three Sentinels."""

    def __init__(self, folder: Path, *, down_after_seconds: float = DOWN_AFTER_SECONDS) -> None:
        self._folder = folder
        self._down_after_seconds = down_after_seconds
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.first = self._stack.enter_context(server(self._folder / "first"))
        self.second = self._stack.enter_context(
            server(self._folder / "second", replicaof=f"{HOST} {self.first.port}")
        )
        self.sentinels = [
            self._stack.enter_context(
                SentinelServer(self._folder / f"sentinel-{i}", self.first, self._down_after_seconds)
            )
            for i in range(3)
        ]
        until(self._ready, "the Sentinels know the replica and each other")
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self.first, self.second, *self.sentinels):
            each.resume()
        self._stack.close()

    @property
    def url(self) -> str:
        hosts = ",".join(f"{HOST}:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://:{PASSWORD}@{hosts}/{NAME}"

    @property
    def master(self) -> RedisServer:
        """Which server the Sentinels name."""
        ports = {self.named(each) for each in self.sentinels if each.running}
        assert len(ports) == 1, f"the Sentinels disagree: {ports}"
        return self.first if ports == {self.first.port} else self.second

    @property
    def replica(self) -> RedisServer:
        return self.second if self.master is self.first else self.first

    def named(self, sentinel: SentinelServer) -> int:
        where = ask(sentinel.port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME, password=None)
        return int(where[1])

    def fail_over(self) -> None:
        """Let the Sentinels choose another master while both run."""
        former = self.master
        until(lambda: _accepted(self.sentinels[0].port), "the Sentinels accept it")
        until(lambda: self._named_another(former), "the Sentinels name another master")

    def settle(self) -> None:
        """Be as at the start: both run, one replicates the other, and everybody agrees."""
        for each in (self.first, self.second, *self.sentinels):
            each.resume()
            if not each.running:
                each.start()
        until(self._ready, "the replica follows its master again")

    def _named_another(self, former: RedisServer) -> bool:
        return all(self.named(each) != former.port for each in self.sentinels)

    def _ready(self) -> bool:
        if len({self.named(each) for each in self.sentinels}) != 1:
            return False
        replication = ask(self.master.port, "INFO", "replication")
        copies = ask(self.replica.port, "INFO", "replication")
        states = [
            ask(each.port, "SENTINEL", "MASTER", NAME, password=None) for each in self.sentinels
        ]
        return (
            replication["role"] == "master"
            and replication["connected_slaves"] == 1
            and copies.get("master_link_status") == "up"
            and all(
                state["num-other-sentinels"] == "2"
                and state["num-slaves"] == "1"
                and state["flags"] == "master"
                for state in states
            )
        )


class Clustered:
    """A Cluster of three masters with a replica each."""

    def __init__(self, folder: Path, *, down_after_seconds: float = DOWN_AFTER_SECONDS) -> None:
        self._folder = folder
        self._down_after_seconds = down_after_seconds
        self._stack = ExitStack()
        self.nodes: list[RedisServer] = []

    def __enter__(self) -> Self:
        for _ in range(6):
            self._start()
        for number, node in enumerate(self.nodes[:3]):
            first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
            ask(node.port, "CLUSTER", "ADDSLOTSRANGE", first, last)
        until(self._all_met, "the nodes know each other")
        for master, replica in zip(self.nodes[:3], self.nodes[3:], strict=True):
            ask(replica.port, "CLUSTER", "REPLICATE", ask(master.port, "CLUSTER", "MYID"))
        until(self.settled, "the Cluster is ready")
        return self

    def __exit__(self, *_: object) -> None:
        for each in self.nodes:
            each.resume()
        self._stack.close()

    def add(self) -> RedisServer:
        """One more node, which the others know and which serves nothing."""
        node = self._start()
        until(lambda: self._all_met() and self._all_well(), "the nodes know the new one")
        return node

    @property
    def url(self) -> str:
        hosts = ",".join(f"{HOST}:{each.port}" for each in self.nodes[:3])
        return f"redis+cluster://:{PASSWORD}@{hosts}"

    def master_of(self, key: str) -> RedisServer:
        """Which node serves a key, as those that run say."""
        slot = key_slot(key.encode())
        for node in self.nodes:
            if node.running and ask(node.port, "INFO", "replication")["role"] == "master":
                for first, last, where, *_ in ask(node.port, "CLUSTER", "SLOTS"):
                    if first <= slot <= last and where[1] == node.port:
                        return node
        raise redis.ConnectionError(f"nobody serves {key}")

    def replica_of(self, master: RedisServer) -> RedisServer:
        (replica,) = (
            node
            for node in self.nodes
            if node.running
            and ask(node.port, "INFO", "replication").get("master_port") == master.port
        )
        return replica

    def settled(self) -> bool:
        """Whether every slot is served and every master has its replica."""
        roles = [ask(node.port, "INFO", "replication") for node in self.nodes]
        return (
            self._all_well()
            and sorted(
                (role["role"], role.get("connected_slaves"), role.get("master_link_status"))
                for role in roles
            )
            == [("master", 1, None)] * 3 + [("slave", 0, "up")] * 3
        )

    def _start(self) -> RedisServer:
        bus = free_port()
        settings = {
            "cluster-enabled": "yes",
            "cluster-port": str(bus),
            "cluster-node-timeout": f"{self._down_after_seconds * 1000:.0f}",
            "cluster-replica-validity-factor": "0",
        }
        folder = self._folder / str(len(self.nodes))
        node = self._stack.enter_context(server(folder, **settings))
        if self.nodes:
            ask(self.nodes[0].port, "CLUSTER", "MEET", HOST, node.port, bus)
        self.nodes.append(node)
        return node

    def _all_well(self) -> bool:
        """Whether every node says that every slot is served."""
        said = [str(ask(node.port, "CLUSTER", "INFO")) for node in self.nodes]
        return all("cluster_state:ok" in each for each in said)

    def _all_met(self) -> bool:
        """Whether every node knows all others, and answers."""
        said = [str(ask(node.port, "CLUSTER", "INFO")) for node in self.nodes]
        return all(f"cluster_known_nodes:{len(self.nodes)}" in each for each in said)


class Move:
    """A slot on its way from a master to another one, step by step as redis-cli does it."""

    def __init__(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        self._slot = slot
        self.source = source
        self.target = target
        self._ids = {node.port: ask(node.port, "CLUSTER", "MYID") for node in (source, target)}

    def begin(self) -> None:
        """From now on it is where its keys are."""
        source, target = self.source.port, self.target.port
        ask(target, "CLUSTER", "SETSLOT", self._slot, "IMPORTING", self._ids[source])
        ask(source, "CLUSTER", "SETSLOT", self._slot, "MIGRATING", self._ids[target])

    def left(self) -> list[str]:
        """What is still at the source."""
        found: list[str] = ask(self.source.port, "CLUSTER", "GETKEYSINSLOT", self._slot, 100)
        return found

    def carry(self, *keys: str) -> None:
        """Bring keys over."""
        to = (self.target.host, self.target.port, "", 0, 5000, "AUTH", PASSWORD)
        assert ask(self.source.port, "MIGRATE", *to, "KEYS", *keys) == "OK"

    def end(self) -> None:
        """It belongs to the target."""
        for node in (self.target, self.source):
            ask(node.port, "CLUSTER", "SETSLOT", self._slot, "NODE", self._ids[self.target.port])

    def forget(self) -> None:
        """It never began."""
        for node in (self.source, self.target):
            ask(node.port, "CLUSTER", "SETSLOT", self._slot, "STABLE")


def _accepted(port: int) -> bool:
    try:
        return bool(ask(port, "SENTINEL", "FAILOVER", NAME, password=None))
    except redis.ResponseError:  # NOGOODSLAVE, INPROG: not yet
        return False


def ask(port: int, *words: Any, password: str | None = PASSWORD) -> Any:
    """Send one command to a server of this machine."""
    with redis.Redis(
        host=HOST,
        port=port,
        password=password,
        protocol=3,
        decode_responses=True,
        socket_timeout=5.0,
        retry=Retry(NoBackoff(), 0),
    ) as client:
        return client.execute_command(*words)


def until(holds: Callable[[], bool], what: str) -> None:
    """Poll until it holds; a server that does not answer yet counts as a no."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            if holds():
                return
        except redis.RedisError:
            pass
        assert time.monotonic() < deadline, f"not in {PATIENCE_SECONDS:g} s: {what}"
        time.sleep(0.05)
