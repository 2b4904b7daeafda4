"""Real servers for tests and for `make up`: PostgreSQL and one that speaks the Redis protocol."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

import psycopg
from psycopg import sql

from devkit.errors import DevkitError, DidNotStart, PortInUse
from devkit.ports import HOST, free_port, is_free
from devkit.processes import Process, tail
from devkit.programs import postgres_programs, redis_program

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.05
PORT_ATTEMPTS: Final = 5
UNPRIVILEGED: Final = "nobody"

POSTGRES_SETTINGS: Final = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # TCP only: a socket's path may be too long below this folder
    "max_connections": "200",
    "shared_buffers": "32MB",
    "dynamic_shared_memory_type": "mmap",  # leaves nothing in /dev/shm when killed
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# A killed process loses nothing by these: what it wrote is with the operating system.
POSTGRES_FORGETFUL: Final = {"fsync": "off", "full_page_writes": "off"}
REDIS_DURABLE: Final = {"appendonly": "yes", "appendfsync": "everysec"}


class Server:
    """What both servers have in common: a folder, a port and one process."""

    name: str
    stop_signal: signal.Signals

    def __init__(self, folder: Path, *, port: int | None, inherit: Sequence[int] = ()) -> None:
        self.folder = folder.resolve()
        self.log = self.folder / "log"
        self._port = port
        self._fixed = port is not None
        self._inherit = inherit
        self._process: Process | None = None
        self._password = ""

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    @property
    def host(self) -> str:
        """The address it listens on."""
        return HOST

    @property
    def port(self) -> int:
        """The port it listens on: the same from the first start on."""
        if self._port is None:
            raise DevkitError(f"{self.name} has no port before its first start.")
        return self._port

    @property
    def password(self) -> str:
        """What its clients have to know; made once and kept in the folder."""
        return self._password

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int:
        """The process id of the server while it runs."""
        return 0 if self._process is None else self._process.pid

    def start(self, *, timeout_seconds: float = START_SECONDS) -> None:
        """Start it and return when it answers; on the same port as before.

        Raises:
            PortInUse: Something else listens on the port.
            DidNotStart: It ended, or gave no answer within ``timeout_seconds``.
            MissingTool: The program is not on this machine.
        """
        if self.running:
            return
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._password = _secret(self.folder / "password")
        deadline = time.monotonic() + timeout_seconds
        self._prepare(timeout_seconds)
        for attempt in range(1, PORT_ATTEMPTS + 1):
            try:
                self._launch(deadline)
            except PortInUse:
                if self._fixed or attempt == PORT_ATTEMPTS:
                    raise
                self._port = None  # somebody was quicker; another port is as good
            else:
                self._fixed = True
                return

    def stop(self, *, timeout_seconds: float = STOP_SECONDS) -> None:
        """Stop it in good order; it is killed when that takes too long."""
        if self._process is not None:
            self._process.stop(timeout_seconds=timeout_seconds)

    def kill(self) -> None:
        """Kill it as a crash would, with SIGKILL; returns when it is gone."""
        if self._process is not None:
            self._process.kill()

    def restart(self, *, timeout_seconds: float = START_SECONDS) -> None:
        """Stop it and start it again on the same port, with its data."""
        self.stop()
        self.start(timeout_seconds=timeout_seconds)

    def pause(self) -> None:
        """Freeze the server's main process with SIGSTOP."""
        if self._process is not None:
            self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        if self._process is not None:
            self._process.signal(signal.SIGCONT)

    def _prepare(self, timeout_seconds: float) -> None:
        """Write what the server needs to find before it starts."""

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError

    def _user(self) -> tuple[int, int] | None:
        return None

    def _launch(self, deadline: float) -> None:
        if self._port is None:
            self._port = free_port()
        if not is_free(self._port):
            raise PortInUse(f"Port {self._port} on {HOST} is in use, so {self.name} cannot start.")
        process = Process(
            self._command(),
            log=self.log,
            folder=self.folder,
            environment={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
            user=self._user(),
            stop_signal=self.stop_signal,
            inherit=self._inherit,
        )
        self._process = process
        start_of_log = self.log.stat().st_size if self.log.exists() else 0
        process.start()
        if wait_until(lambda: not process.running or self._answers(), deadline) and process.running:
            return
        process.kill()
        with self.log.open(errors="replace") as log:
            log.seek(start_of_log)
            said = log.read()
        if "Address already in use" in said:
            raise PortInUse(f"Port {self._port} on {HOST} is in use, so {self.name} cannot start.")
        code = process.returncode
        reason = "gave no answer in time" if code == 128 + signal.SIGKILL else f"ended ({code})"
        raise DidNotStart(self.name, reason, log=self.log, tail=tail(self.log))


class PostgresServer(Server):
    """A PostgreSQL server with its data in a folder.

    ``durable=False`` skips fsync: right for tests, where losing data with the machine is no loss.
    """

    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # "fast": does not wait for clients to leave
    user: Final = "shop"

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        durable: bool = False,
        settings: Mapping[str, str] | None = None,
        inherit: Sequence[int] = (),
    ) -> None:
        """Describe the server; nothing runs yet.

        Args:
            folder: Where its data, password and log are; made if missing.
            port: The port on 127.0.0.1; a free one by default.
            durable: Whether commits are flushed to the disk.
            settings: More of postgresql.conf.
            inherit: File descriptors of ours that stay open until it has ended.
        """
        super().__init__(folder, port=port, inherit=inherit)
        self._settings = {
            **POSTGRES_SETTINGS,
            **({} if durable else POSTGRES_FORGETFUL),
            **(settings or {}),
        }
        self._data = self.folder / "data"

    def url(self, database: str = "postgres") -> str:
        """The URL of one of its databases, as libpq and SQLAlchemy take it."""
        return f"postgresql://{self.user}:{self._password}@{HOST}:{self.port}/{database}"

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Create a database as a copy of ``template`` and return its URL.

        Raises:
            psycopg.errors.DuplicateDatabase: There is one of that name.
        """
        copied = (
            sql.SQL(" TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
        )
        self._administer(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)) + copied)
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, throwing out whoever is connected to it."""
        self._administer(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )

    def databases(self) -> set[str]:
        """The names of its databases, without the system's own."""
        with self._connect() as connection:
            rows = connection.execute("SELECT datname FROM pg_database WHERE NOT datistemplate")
            return {str(name) for (name,) in rows} - {"postgres"}

    def _connect(self, *, timeout_seconds: int = 10) -> psycopg.Connection:
        return psycopg.connect(self.url(), autocommit=True, connect_timeout=timeout_seconds)

    def _administer(self, statement: sql.Composed) -> None:
        with self._connect() as connection:
            connection.execute(statement)

    def _answers(self) -> bool:
        try:
            self._connect(timeout_seconds=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _command(self) -> list[str]:
        command = [str(postgres_programs() / "postgres"), "-D", str(self._data)]
        for key, value in {"port": str(self.port), **self._settings}.items():
            command += ["-c", f"{key}={value}"]
        return command

    def _prepare(self, timeout_seconds: float) -> None:
        """Make the database cluster, in one step: an interrupted initdb leaves no half of one."""
        if self._data.exists():
            return
        fresh = self.folder / "data.new"
        if fresh.exists():
            shutil.rmtree(fresh)
        user = self._user()
        if user is not None:
            os.chown(self.folder, *user)
            os.chown(self.folder / "password", *user)
        initdb = Process(
            [
                *(str(postgres_programs() / "initdb"), "--pgdata", str(fresh)),
                *("--username", self.user, "--pwfile", str(self.folder / "password")),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale"),
                *("--no-sync", "--no-instructions"),
            ],
            log=self.log,
            folder=self.folder,
            environment={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
            user=user,
            inherit=self._inherit,
        )
        with initdb:
            code = initdb.wait(timeout_seconds=timeout_seconds)
        if code != 0:
            raise DidNotStart("initdb", f"failed ({code})", log=self.log, tail=tail(self.log))
        fresh.rename(self._data)

    def _user(self) -> tuple[int, int] | None:
        """PostgreSQL refuses to run as root, so root lends it the user that owns nothing."""
        if os.geteuid() != 0:
            return None
        try:
            nobody = pwd.getpwnam(UNPRIVILEGED)
        except KeyError:
            raise DevkitError(
                f"PostgreSQL refuses to run as root, and there is no user {UNPRIVILEGED!r} to run "
                "it as: run this as a normal user."
            ) from None
        return nobody.pw_uid, nobody.pw_gid


class RedisServer(Server):
    """A server that speaks the Redis protocol, with its data in a folder.

    ``durable=True`` keeps an append-only file; without it a restarted server is empty.
    """

    name = "Redis"
    stop_signal = signal.SIGTERM

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        durable: bool = False,
        settings: Mapping[str, str] | None = None,
        inherit: Sequence[int] = (),
    ) -> None:
        """Describe the server; nothing runs yet.

        Args:
            folder: Where its data, password and log are; made if missing.
            port: The port on 127.0.0.1; a free one by default.
            durable: Whether it keeps its data over a restart.
            settings: More of redis.conf.
            inherit: File descriptors of ours that stay open until it has ended.
        """
        super().__init__(folder, port=port, inherit=inherit)
        self._settings = {**(REDIS_DURABLE if durable else {}), **(settings or {})}

    @property
    def url(self) -> str:
        """Its URL, as redis-py takes it."""
        return f"redis://:{self._password}@{HOST}:{self.port}/0"

    def _command(self) -> list[str]:
        lines = {
            "bind": HOST,
            "port": str(self.port),
            "dir": f'"{self.folder}"',
            "requirepass": self._password,
            "save": '""',
            "daemonize": "no",
            **self._settings,
        }
        path = self.folder / "redis.conf"
        path.touch(mode=0o600)
        path.write_text("".join(f"{key} {value}\n" for key, value in lines.items()))
        return [str(redis_program()), str(path)]

    def _answers(self) -> bool:
        request = f"AUTH {self._password}\r\nPING\r\n".encode()
        try:
            with socket.create_connection((HOST, self.port), timeout=2.0) as connection:
                connection.sendall(request)
                with connection.makefile("rb") as replies:
                    return [replies.readline(), replies.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
        except OSError:
            return False


def wait_until(holds: Callable[[], bool], deadline: float) -> bool:
    """Poll until ``holds()``; False when the ``time.monotonic()`` deadline comes first."""
    while not holds():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _secret(path: Path) -> str:
    """The password kept in ``path``, made up if there is none."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(16))
    return path.read_text()
